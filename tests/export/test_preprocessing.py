"""What happens to an image before the graph: as the file says it, against mmdet's transforms."""

import json

import numpy as np
import pytest
from mmdet.datasets.transforms import Resize
from mmdet.registry import MODELS

from atss_plugin.export.preprocessing import default_shape, describe
from tests.export.helpers import program_of_the_page, small_config


def image_of(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def prepare():
    pytest.importorskip('onnxruntime')
    return program_of_the_page()['prepare']


@pytest.mark.parametrize(
    'keep_ratio, image_shape, resized',
    [
        pytest.param(False, (480, 640), (240, 320), id='stretched'),
        pytest.param(False, (300, 500), (240, 320), id='stretched-to-another-ratio'),
        pytest.param(True, (480, 640), (240, 320), id='the-same-ratio'),
        pytest.param(True, (300, 500), (192, 320), id='wider'),
        pytest.param(True, (301, 333), (240, 266), id='higher'),
    ],
)
def test_the_program_resizes_as_mmdet(prepare, keep_ratio, image_shape, resized):
    cfg = small_config('miniature.py')
    cfg.test_dataloader.dataset.pipeline[1] = dict(type='Resize', scale=(320, 240), keep_ratio=keep_ratio)
    preprocessing = json.loads(json.dumps(describe(cfg, default_shape(cfg))))
    image = image_of(*image_shape)
    pixels, factors = prepare(image, preprocessing)
    expected = Resize(scale=(320, 240), keep_ratio=keep_ratio)(dict(img=image))
    assert expected['img'].shape[:2] == resized
    np.testing.assert_array_equal(pixels[:, : resized[0], : resized[1]], expected['img'].transpose(2, 0, 1))
    assert pixels.shape == (3, 240, 320) and pixels.dtype == np.uint8
    assert factors == pytest.approx(expected['scale_factor'])
    # around the image are the pixels that normalisation makes zero, except for rounding
    normalised = MODELS.build(cfg.model).data_preprocessor.mean.flatten().numpy()
    beside = np.concatenate([pixels[:, resized[0] :].reshape(3, -1), pixels[:, :, resized[1] :].reshape(3, -1)], 1)
    assert (abs(beside - normalised[:, None]) <= 0.5).all()


def test_padding_is_bgr_whatever_the_model_takes():
    cfg = small_config('miniature.py')
    cfg.model.data_preprocessor.update(bgr_to_rgb=True, mean=[10, 20, 30], std=[2, 3, 4], pad_value=5)
    assert describe(cfg, (240, 320))['padding'] == [50, 35, 20]


def test_the_shape_is_the_test_pipelines():
    assert default_shape(small_config('atss_r50_fpn_1x.py')) == (480, 640)
    cfg = small_config('atss_r50_fpn_1x.py')
    cfg.test_dataloader.dataset.pipeline[1] = dict(type='mmdet.Resize', scale_factor=0.5)
    with pytest.raises(ValueError, match='no Resize with a scale .* give --shape H W'):
        default_shape(cfg)
