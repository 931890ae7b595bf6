"""Exported models in onnxruntime, against ``mim test`` and against the prediction of the model."""

import json
import pickle
from inspect import signature

import numpy as np
import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack

from atss_plugin.cli import main
from atss_plugin.datasets import ShapesDataset
from atss_plugin.export import deformable, export_onnx
from tests.conftest import MAIN_CONFIG, ROOT
from tests.export.helpers import (
    assert_same_detections,
    predict,
    program_of_the_page,
    random_images,
    random_model,
    small_config,
)

onnxruntime = pytest.importorskip('onnxruntime', reason="pip install 'atss_plugin[export]'")
pytest.importorskip('onnxscript', reason="pip install 'atss_plugin[export]'")
pytestmark = pytest.mark.skipif(
    'custom_translation_table' not in signature(torch.onnx.export).parameters, reason='this torch cannot export'
)
NUM_IMAGES = 50


@pytest.fixture(scope='module')
def exported(tiny_training, tmp_path_factory):
    """The model of a short training, by the command line."""
    path = tmp_path_factory.mktemp('onnx') / 'shapes.onnx'
    words = ['export', MAIN_CONFIG, str(tiny_training / 'epoch_1.pth'), str(path), '--batch', 'dynamic']
    assert main(words) == 0
    return path


@pytest.fixture(scope='module')
def test_images():
    """The images that ``mim test`` reads, as OpenCV reads them."""
    import cv2

    from atss_plugin.datasets.shapes import ShapesBackend

    dataset = ShapesDataset(num_images=NUM_IMAGES, seed=1, test_mode=True, lazy_init=True)
    paths = [entry['img_path'] for entry in dataset.load_data_list()]
    return [cv2.imdecode(np.frombuffer(ShapesBackend().get(path), np.uint8), cv2.IMREAD_COLOR) for path in paths]


@pytest.mark.slow
def test_fifty_images_as_mim_test(exported, test_images, tiny_training, run_python, mmdet_package, tmp_path):
    run_python(
        'mim',
        'test',
        mmdet_package,
        ROOT / 'configs' / MAIN_CONFIG,
        '--checkpoint',
        tiny_training / 'epoch_1.pth',
        '--gpus',
        0,
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'detections.pkl',
        '--cfg-options',
        f'test_dataloader.dataset.num_images={NUM_IMAGES}',
    )
    expected = pickle.loads((tmp_path / 'detections.pkl').read_bytes())
    assert len(expected) == NUM_IMAGES
    page = program_of_the_page()
    session, preprocessing, classes = page['load'](str(exported))
    assert tuple(classes) == ShapesDataset.METAINFO['classes']
    total = 0
    for entry, image in zip(expected, test_images):
        instances = entry['pred_instances']
        assert_same_detections(
            page['detect'](session, preprocessing, image),
            tuple(instances[name].numpy() for name in ('bboxes', 'scores', 'labels')),
        )
        total += len(instances['scores'])
    assert total > 5 * NUM_IMAGES


@pytest.mark.slow
def test_a_batch_gives_what_its_images_give(exported, test_images):
    page = program_of_the_page()
    session, preprocessing, _ = page['load'](str(exported))
    pixels = np.stack([page['prepare'](image, preprocessing)[0] for image in test_images[:3]])
    together = session.run(None, {'images': pixels})
    for index in range(3):
        alone = session.run(None, {'images': pixels[index : index + 1]})
        found = alone[2][0] >= 0
        assert (found == (together[2][index] >= 0)).all() and found.any()
        assert_same_detections([part[index][found] for part in together], [part[0][found] for part in alone])


@pytest.mark.slow
def test_the_file_says_what_it_wants(exported):
    session = onnxruntime.InferenceSession(str(exported))
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ('images', 'tensor(uint8)', ['batch', 3, 480, 640])
    assert [(output.name, output.shape) for output in session.get_outputs()] == [
        ('boxes', ['batch', 100, 4]),
        ('scores', ['batch', 100]),
        ('labels', ['batch', 100]),
    ]
    metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    preprocessing = metadata['atss_plugin.preprocessing']
    assert (preprocessing['height'], preprocessing['width'], preprocessing['channels']) == (480, 640, 'BGR')
    # the mean of the config, (103.53, 116.28, 123.675)
    assert preprocessing['padding'] == [104, 116, 124] and preprocessing['keep_ratio'] is False
    assert metadata['atss_plugin.test_cfg']['nms'] == dict(type='nms', iou_threshold=0.6)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, changes',
    [
        pytest.param('table1/retinanet.py', {}, id='box'),
        pytest.param('table7/retinanet_a9.py', {}, id='box-nine-anchors'),
        pytest.param('table7/imprs_a9.py', {}, id='box-nine-anchors-centerness'),
        pytest.param('table1/fcos.py', {}, id='point-centerness'),
        pytest.param(
            'table1/fcos.py',
            {'model.bbox_head.loss_centerness': None, 'model.bbox_head.dcn_on_last_conv': True},
            id='point-deformable',
        ),
    ],
)
def test_variants(name, changes, tmp_path):
    cfg = small_config(name, **changes)
    model = random_model(cfg)
    assert (model.bbox_head.loss_centerness is not None) == ('imprs' in name or ('fcos' in name and not changes))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    height, width = 90, 150  # not a multiple of 32
    path = export_onnx(cfg, tmp_path / 'model.pth', tmp_path / 'model.onnx', (height, width))
    session = onnxruntime.InferenceSession(str(path))
    for image in random_images(2, height, width):
        boxes, scores, labels = (part[0] for part in session.run(None, {'images': image[None].numpy()}))
        expected = predict(model, image)
        assert len(expected[0]) > 10
        found = labels >= 0
        assert_same_detections((boxes[found], scores[found], labels[found]), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings', [dict(stride=2, padding=1, bias=False), dict(padding=2, dilation=2, deform_groups=2)]
)
def test_a_deformable_convolution_is_mmcvs(settings, tmp_path):
    torch.manual_seed(0)
    conv = ModulatedDeformConv2dPack(4, 6, 3, **settings)
    torch.nn.init.normal_(conv.conv_offset.weight, std=0.5)
    if conv.bias is not None:
        torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, 4, 9, 11)
    expected = conv(x).detach().numpy()
    model = torch.nn.Sequential(conv)
    deformable.make_exportable(model)
    program = torch.onnx.export(
        torch.export.export(model, (x,)),
        dynamo=True,
        verbose=False,
        opset_version=19,
        custom_translation_table=deformable.TRANSLATION,
    )
    program.save(str(tmp_path / 'conv.onnx'))
    session = onnxruntime.InferenceSession(str(tmp_path / 'conv.onnx'))
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    'changes, message',
    [
        pytest.param({'--shape': ['0', '320']}, 'height and width must be positive', id='shape'),
        pytest.param({'--batch': ['0']}, 'batch 0: give a number of images, or dynamic', id='batch'),
        pytest.param({'out': 'nowhere/model.onnx'}, 'to write model.onnx into', id='folder'),
        pytest.param({'checkpoint': 'missing.pth'}, 'missing.pth', id='checkpoint'),
        pytest.param({'config': 'table7/imprs_a9.py'}, 'does not fit the model of the config', id='another-model'),
        pytest.param(
            {'--cfg-options': ['model.bbox_head.num_classes=7']}, 'does not fit the model', id='other-classes'
        ),
        pytest.param(
            {'--cfg-options': ['test_dataloader.dataset.pipeline.1.type=RandomCrop']},
            "the test pipeline has ['RandomCrop']",
            id='pipeline',
        ),
    ],
)
def test_errors_say_what_to_do(changes, message, tmp_path, capsys):
    torch.save(dict(state_dict=random_model(small_config(MAIN_CONFIG)).state_dict()), tmp_path / 'model.pth')
    arguments = dict(config=MAIN_CONFIG, checkpoint='model.pth', out='model.onnx')
    arguments.update((key, value) for key, value in changes.items() if key in arguments)
    words = ['export', arguments['config'], *(str(tmp_path / arguments[key]) for key in ('checkpoint', 'out'))]
    for key, values in changes.items():
        words += [key, *values] if key.startswith('--') else []
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error and 'Traceback' not in error
    assert not list(tmp_path.glob('*.onnx'))
