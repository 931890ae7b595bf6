"""The detector as one function of pixels, still in torch, against the prediction of the model."""

import numpy as np
import pytest
import torch

from atss_plugin.export import ExportableDetector
from tests.export.helpers import assert_same_detections, predict, random_images, random_model, small_config

SHAPE = (90, 150)  # not a multiple of 32
NMS = 'model.test_cfg.nms'


def rows_found(outputs, image):
    boxes, scores, labels = (output[image].numpy() for output in outputs)
    found = labels >= 0
    assert not boxes[~found].any() and not scores[~found].any()
    assert found.sum() == 0 or found[: found.sum()].all(), 'rows without a detection come last'
    return boxes[found], scores[found], labels[found]


@pytest.mark.parametrize(
    'name, changes',
    [
        pytest.param('atss_r50_fpn_1x.py', {}, id='as-configured'),
        pytest.param('table1/fcos.py', {}, id='point'),
        pytest.param('table7/retinanet_a9.py', {}, id='nine-anchors'),
        pytest.param('atss_r50_fpn_1x.py', {'model.test_cfg.nms_pre': 7}, id='few-of-a-level'),
        pytest.param('atss_r50_fpn_1x.py', {'model.test_cfg.max_per_img': 5}, id='few-of-an-image'),
        pytest.param('atss_r50_fpn_1x.py', {'model.test_cfg.max_per_img': 10_000}, id='all-of-an-image'),
        pytest.param('atss_r50_fpn_1x.py', {'model.test_cfg.score_thr': 0.4}, id='high-scores'),
        pytest.param('atss_r50_fpn_1x.py', {'model.test_cfg.score_thr': 0.999}, id='nothing-found'),
        pytest.param('atss_r50_fpn_1x.py', {'model.test_cfg.min_bbox_size': 40}, id='large-ones'),
        pytest.param('atss_r50_fpn_1x.py', {f'{NMS}.iou_threshold': 0.2}, id='other-iou'),
        pytest.param('atss_r50_fpn_1x.py', {f'{NMS}.class_agnostic': True}, id='classes-mixed'),
        pytest.param(
            'atss_r50_fpn_1x.py',
            {
                'model.data_preprocessor.bgr_to_rgb': True,
                'model.data_preprocessor.std': [50.0, 60.0, 70.0],
                'model.data_preprocessor.pad_size_divisor': 64,
                'model.data_preprocessor.pad_value': 1,
            },
            id='other-pixels',
        ),
    ],
)
def test_equals_prediction(name, changes):
    model = random_model(small_config(name, **changes))
    images = random_images(2, *SHAPE)
    with torch.no_grad():
        outputs = ExportableDetector(model, *SHAPE)(images)
    for index, image in enumerate(images):
        expected = predict(model, image)
        assert (0.999 in changes.values()) == (len(expected[0]) == 0)
        assert_same_detections(rows_found(outputs, index), expected)


def test_test_settings_matter():
    """Each setting that the test above varies changes the detections; otherwise that test would compare nothing."""
    images = random_images(1, *SHAPE)

    def detections(**changes):
        return predict(random_model(small_config('atss_r50_fpn_1x.py', **changes)), images[0])

    usual = detections()
    for changes in (
        {'model.test_cfg.nms_pre': 7},
        {'model.test_cfg.min_bbox_size': 40},
        {f'{NMS}.iou_threshold': 0.2},
        {f'{NMS}.class_agnostic': True},
        {'model.data_preprocessor.bgr_to_rgb': True},
    ):
        changed = detections(**changes)
        assert changed[0].shape != usual[0].shape or not np.allclose(changed[0], usual[0], atol=1), changes


@pytest.mark.parametrize(
    'changes, message',
    [
        pytest.param({f'{NMS}.type': 'soft_nms'}, 'test_cfg.nms is soft_nms', id='soft'),
        pytest.param({'model.test_cfg.max_per_img': -1}, 'test_cfg.max_per_img is the number of rows', id='no-limit'),
        pytest.param({f'{NMS}.max_num': 10}, r"test_cfg.nms has \['max_num'\]", id='option'),
    ],
)
def test_settings_that_cannot_be_exported(changes, message):
    model = random_model(small_config('atss_r50_fpn_1x.py', **changes))
    with pytest.raises(ValueError, match=message):
        ExportableDetector(model, *SHAPE)


def test_another_head_is_refused():
    with pytest.raises(ValueError, match='the head of this model is Identity; only atss_plugin.OneStageHead'):
        model = torch.nn.Module()
        model.bbox_head = torch.nn.Identity()
        ExportableDetector(model, *SHAPE)
