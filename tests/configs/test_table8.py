"""Table 8: every config is the row that it names, mmdet's checkpoints fit, both kinds of testing find something."""

import json
import math
import os
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmcv.ops import ModulatedDeformConv2d
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.optim import build_optim_wrapper
from torch import nn

from atss_plugin.checkpoints import convert_checkpoint
from tests.configs.helpers import CONFIGS, batch_of_two, build, changes, load, shrink
from tests.conftest import ROOT

DATA = ROOT / 'tests' / 'data' / 'checkpoint'

# What Table 8 changes in the paper's final model, written from the recipe.
PRETRAINED = 'model.backbone.init_cfg.checkpoint'
R101 = {'model.backbone.depth': 101, PRETRAINED: 'open-mmlab://detectron2/resnet101_caffe'}
BGR_STD = {'model.data_preprocessor.std': [57.375, 57.12, 58.395]}
RGB = {
    'model.data_preprocessor.mean': [123.675, 116.28, 103.53],
    'model.data_preprocessor.std': [58.395, 57.12, 57.375],
    'model.data_preprocessor.bgr_to_rgb': True,
}


def resnext(groups, width, weights):
    return dict(
        type='ResNeXt',
        depth=101,
        groups=groups,
        base_width=width,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint=weights),
    )


X32 = resnext(32, 8, 'open-mmlab://detectron2/resnext101_32x8d')
X64 = resnext(64, 4, 'open-mmlab://resnext101_64x4d')


def dcn(*stages):
    return dict(dcn=dict(type='atss_plugin.DCNv2', deform_groups=1, fallback_on_stride=False), stage_with_dcn=stages)


LAST_CONV = {'model.bbox_head.dcn_on_last_conv': True}
C3_TO_C5, C4_TO_C5 = dcn(False, True, True, True), dcn(False, False, True, True)
ROWS = {
    'atss_r101_fpn_2x': (R101, {}),
    'atss_x101_32x8d_fpn_2x': (BGR_STD, X32),
    'atss_x101_64x4d_fpn_2x': (RGB, X64),
    'atss_r101_fpn_dcn_2x': (
        {**R101, **{f'model.backbone.{key}': value for key, value in C3_TO_C5.items()}, **LAST_CONV},
        {},
    ),
    'atss_x101_32x8d_fpn_dcn_2x': ({**BGR_STD, **LAST_CONV}, {**X32, **C4_TO_C5}),
    'atss_x101_64x4d_fpn_dcn_2x': ({**RGB, **LAST_CONV}, {**X64, **C4_TO_C5}),
}
SCHEDULE = {'train_cfg.max_iters': 180000}


@pytest.mark.parametrize('row', ROWS)
def test_a_row_changes_what_it_says_and_nothing_else(row):
    final, config = load('atss_r50_fpn_1x.py'), load(f'table8/{row}.py')
    expected, backbone = ROWS[row]
    found = changes(config, final)
    for key in ('train_pipeline', 'train_dataloader.dataset.pipeline', 'param_scheduler'):
        found.pop(key)  # tests of their own below
    if backbone:  # another type is given as a whole; the rest of it is the final model's
        expected = {**expected, 'model.backbone': {**final.model.backbone, **backbone}}
    assert found == {**SCHEDULE, **expected}


@pytest.mark.parametrize('row', ROWS)
def test_training_of_every_row(row):
    config = load(f'table8/{row}.py')
    final = load('atss_r50_fpn_1x.py')
    pipeline = config.train_dataloader.dataset.pipeline
    assert [step for i, step in enumerate(pipeline) if i != 2] == [
        step for i, step in enumerate(final.train_dataloader.dataset.pipeline) if i != 2
    ]
    warm_up, steps = config.param_scheduler
    assert warm_up == final.param_scheduler[0]
    assert dict(steps, end=0, milestones=0) == dict(final.param_scheduler[1], end=0, milestones=0)
    assert (steps.end, steps.milestones) == (180000, [120000, 160000])


@pytest.mark.parametrize(
    'height, width',
    [
        pytest.param(48, 64, id='4:3'),
        pytest.param(64, 48, id='3:4'),
        pytest.param(10, 40, id='the longer side limits'),
    ],
)
def test_multi_scale_training(height, width):
    """The shorter side is 640 to 800, whole numbers, each of them; the longer is at most 1333."""
    resize = TRANSFORMS.build(load('table8/atss_r101_fpn_2x.py').train_dataloader.dataset.pipeline[2])
    np.random.seed(0)
    image = np.zeros((height, width, 3), np.uint8)
    shapes = [resize(dict(img=image))['img_shape'] for _ in range(600)]
    ratio = max(height, width) / min(height, width)
    if ratio > 1333 / 640:
        assert {max(shape) for shape in shapes} == {1333}
        return
    sides = {min(shape) for shape in shapes}
    assert min(sides) < 645 and max(sides) > 795 and sides <= set(range(640, 801)) and len(sides) > 140
    assert all(abs(max(shape) - min(shape) * ratio) <= 1 for shape in shapes)


@pytest.mark.parametrize('weights, ap', [('32x8d', 50.6), ('64x4d', 50.7)])
def test_multi_scale_testing_adds_nothing_but_the_testing(weights, ap):
    name = f'table8/atss_x101_{weights}_fpn_dcn_2x'
    found = changes(load(f'{name}_ms.py'), load(f'{name}.py'))
    assert set(found) == {'size_ranges', 'tta_model', 'tta_pipeline', 'test_evaluator.proposal_nums'}
    assert str(ap) in (CONFIGS / f'{name}_ms.py').read_text()


def in_small(name):
    """The config's model with few channels; ResNeXt with two groups."""
    model = shrink(load(name).model)
    if model.backbone.type == 'ResNeXt':
        model.backbone.update(groups=2, base_width=4)
    model.bbox_head.update(stacked_convs=2)
    return model


@pytest.mark.parametrize(
    'row, stages',
    [
        ('atss_r101_fpn_2x', ()),
        ('atss_x101_32x8d_fpn_2x', ()),
        ('atss_x101_64x4d_fpn_2x', ()),
        ('atss_r101_fpn_dcn_2x', (2, 3, 4)),
        ('atss_x101_32x8d_fpn_dcn_2x', (3, 4)),
        ('atss_x101_64x4d_fpn_dcn_2x', (3, 4)),
    ],
)
def test_deformable_convs_are_where_they_belong_and_learn(row, stages):
    model = build(in_small(f'table8/{row}.py')).train()
    deformable = {name for name, module in model.named_modules() if isinstance(module, ModulatedDeformConv2d)}
    expected = {
        f'backbone.layer{stage}.{block}.conv2' for stage in stages for block in range({2: 4, 3: 23, 4: 3}[stage])
    }
    if stages:
        expected |= {'bbox_head.cls_convs.1.conv', 'bbox_head.reg_convs.1.conv'}
    assert deformable == expected
    modules = dict(model.named_modules())
    # A ResNet without pretrained weights starts with blocks that add nothing and so pass no gradient on.
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    data = model.data_preprocessor(batch_of_two(), training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    for name in deformable:
        assert modules[name].weight.grad.abs().sum() > 0, name
        assert modules[name].conv_offset.weight.grad.abs().sum() > 0, name
    model.eval()
    with torch.no_grad():
        assert len(model.test_step(batch_of_two())) == 2


def assert_uniform(weight, bound):
    """Its largest values reach the bound and do not pass it, and it is flat in between."""
    assert 0.99 * bound < weight.abs().max() <= 1.00001 * bound
    torch.testing.assert_close(weight.std(), torch.tensor(bound / math.sqrt(3)), rtol=0.03, atol=0)


def assert_normal(weight):
    """N(0, 0.01)."""
    assert abs(weight.std() - 0.01) < 4e-4 and abs(weight.mean()) < 1e-3 and weight.abs().max() > 0.03


@pytest.mark.parametrize('row', ['atss_r101_fpn_dcn_2x', 'atss_x101_64x4d_fpn_dcn_2x'])
def test_initial_weights_of_deformable_convs(row, tmp_path):
    """Offsets: Kaiming uniform (a = 1) in the backbone, N(0, 0.01) in the towers. Tower weights: +-1 / sqrt(fan_in)."""
    model = in_small(f'table8/{row}.py')
    weights = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    without_dcn = {**model.backbone, 'dcn': None, 'stage_with_dcn': (False,) * 4}
    published = MODELS.build(without_dcn).state_dict()
    torch.save(published, weights['checkpoint'])
    model.backbone.init_cfg = weights
    model.bbox_head.update(in_channels=64, feat_channels=64)
    model.neck.update(out_channels=64)
    model = build(model)
    for name, conv in model.named_modules():
        if not isinstance(conv, ModulatedDeformConv2d):
            continue
        assert not conv.conv_offset.bias.any()
        if name.startswith('backbone'):
            assert_uniform(conv.conv_offset.weight, math.sqrt(3 / (9 * conv.in_channels)))
            assert torch.equal(conv.weight, published[name[len('backbone.') :] + '.weight'])
        else:
            assert_normal(conv.conv_offset.weight)
            assert_uniform(conv.weight, 1 / 24)  # 1 / sqrt(9 * 64)
            assert not conv.bias.any()
    assert_normal(model.bbox_head.cls_convs[0].conv.weight)


def test_biases_of_deformable_offsets_follow_the_rule():
    """Every parameter named bias: twice the rate, no decay. mmengine's own option would leave these out."""
    config = load('table8/atss_r101_fpn_dcn_2x.py')
    model = build(in_small('table8/atss_r101_fpn_dcn_2x.py'))
    groups = build_optim_wrapper(model, config.optim_wrapper).param_groups
    rates = {id(each): (group['lr'], group['weight_decay']) for group in groups for each in group['params']}
    checked = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == ((0.02, 0.0) if name.endswith('.bias') else (0.01, 1e-4)), name
            checked += name.endswith('conv_offset.bias')
    assert checked == 4 + 23 + 3 + 2


@pytest.mark.parametrize('depth', [50, 101])
def test_checkpoints_of_mmdet_load(depth):
    theirs = MODELS.build(load(f'mmdet::atss/atss_r{depth}_fpn_1x_coco.py').model)
    ours = MODELS.build(load(f'mmdet_atss_r{depth}_fpn_1x.py').model)
    ours.load_state_dict(theirs.state_dict(), strict=True)


def test_checkpoint_of_mmdet_gives_its_detections():
    """Same weights, same image: same boxes and labels; our score is the root of mmdet's product."""
    torch.manual_seed(0)
    # Of more than nms_pre candidates, mmdet takes the best by classification alone, the authors by product.
    theirs = load('mmdet::atss/atss_r50_fpn_1x_coco.py').model
    ours = load('mmdet_atss_r50_fpn_1x.py').model
    for model in (theirs, ours):
        model.test_cfg.nms_pre = 10**6
    theirs, ours = MODELS.build(theirs).eval(), MODELS.build(ours).eval()
    for parameter in theirs.bbox_head.parameters():
        nn.init.normal_(parameter, std=0.05)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        expected, actual = theirs.test_step(batch_of_two()), ours.test_step(batch_of_two())
    for a, e in zip(actual, expected):
        a, e = a.pred_instances, e.pred_instances
        assert len(e) == 100
        torch.testing.assert_close(a.scores, e.scores.sqrt())
        torch.testing.assert_close(a.bboxes, e.bboxes)
        assert torch.equal(a.labels, e.labels)


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """Two images in COCO's folders."""
    root = tmp_path_factory.mktemp('coco')
    (root / 'val2017').mkdir()
    (root / 'annotations').mkdir()
    rng = np.random.RandomState(0)
    images = []
    for i, (height, width) in enumerate([(60, 80), (90, 70)], start=1):
        image = rng.randint(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'val2017' / f'{i}.png'), image)
        images.append(dict(id=i, file_name=f'{i}.png', height=height, width=width))
    categories = [dict(id=i, name=name) for i, name in enumerate(CocoDataset.METAINFO['classes'], start=1)]
    annotations = [dict(id=i, image_id=i, category_id=i, bbox=[10, 10, 30, 40], area=1200, iscrowd=0) for i in (1, 2)]
    (root / 'annotations' / 'instances_val2017.json').write_text(
        json.dumps(dict(images=images, categories=categories, annotations=annotations))
    )
    return root


def detections_of_mim_test(package, config, checkpoint, folder, coco, *options):
    """What mmdet's test tool finds in the images of ``coco``, started as a user starts it."""
    command = [
        sys.executable,
        '-m',
        'mim',
        'test',
        package,
        str(config),
        '--checkpoint',
        str(checkpoint),
        '--gpus',
        '0',
        '--work-dir',
        str(folder / 'work'),
        '--out',
        str(folder / 'out.pkl'),
        *options,
    ]
    path = os.pathsep.join([str(CONFIGS.parent), os.environ.get('PYTHONPATH', '')])
    environment = {**os.environ, 'COCO_ROOT': str(coco), 'PYTHONPATH': path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert 'bbox_mAP' in done.stdout + done.stderr
    return [
        (result['ori_shape'], result['pred_instances']) for result in pickle.loads((folder / 'out.pkl').read_bytes())
    ]


def assert_detections(results, at_most):
    assert len(results) == 2
    for (height, width), found in results:
        assert 0 < len(found['scores']) <= at_most
        assert torch.equal(found['scores'], found['scores'].sort(descending=True)[0])
        assert ((found['bboxes'] >= 0) & (found['bboxes'] <= torch.tensor([width, height] * 2) + 1e-3)).all()


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    """An authors' ResNet-50 with random weights, converted."""
    folder = tmp_path_factory.mktemp('checkpoint')
    torch.save(dict(model=random_tensors('atss_R_50_FPN_1x')), folder / 'authors.pth')
    convert_checkpoint(folder / 'authors.pth', folder / 'converted.pth')
    return folder / 'converted.pth'


def random_tensors(name):
    """A network that finds something in every image: logits spread around -2."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for key, shape in json.loads((DATA / f'keys_{name}.json').read_text()).items():
        value = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            tensors[key] = value / math.prod(shape[1:]) ** 0.5
        else:
            tensors[key] = torch.ones(shape) if key.endswith(('weight', 'var', 'scale')) else value * 0.05
    tensors['rpn.head.cls_logits.bias'] -= 2
    return tensors


@pytest.mark.slow
def test_mim_test_of_a_converted_checkpoint(converted, coco, tmp_path, mmdet_package):
    config = CONFIGS / 'official/atss_R_50_FPN_1x.py'
    small = ('--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=(320,200)')  # for the time it takes
    results = detections_of_mim_test(mmdet_package, config, converted, tmp_path, coco, *small)
    assert_detections(results, at_most=100)


@pytest.mark.slow
def test_mim_test_with_tta(converted, coco, tmp_path, mmdet_package):
    config = tmp_path / 'two_small_scales.py'
    bases = ['official/atss_R_50_FPN_1x.py', '_base_/multi_scale_testing.py']
    config.write_text(f"""_base_ = {[str(CONFIGS / base) for base in bases]}
size_ranges = [((1333, 160), (0, 30)), ((1333, 200), None)]
tta_model = dict(size_ranges=size_ranges)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1]['transforms'][0] = [dict(type='Resize', scale=s, keep_ratio=True) for s, _ in size_ranges]
""")
    results = detections_of_mim_test(mmdet_package, config, converted, tmp_path, coco, '--tta')
    assert_detections(results, at_most=1000)
    # More than one view can give, so the views were merged, not chosen from.
    assert max(len(found['scores']) for _, found in results) > 100
