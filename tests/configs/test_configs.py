"""Every config of Tables 1-7 is the experiment that it claims to be, and nothing else.

What a row must be is written here from the paper and its authors' settings, not read from the configs; what all rows
share is in test_recipe.py.
"""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmdet.datasets import CocoDataset
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from torch import nn

import atss_plugin
from atss_plugin.registry import DATASETS, HOOKS, MODELS, TASK_UTILS
from tests.configs.helpers import CONFIGS, NUM_CLASSES, batch_of_two, build, changes, load, shrink, types_in
from tests.conftest import ROOT

FINAL = 'atss_r50_fpn_1x.py'
PAPER_TABLES = ROOT / 'tests' / 'data' / 'paper_tables.yaml'

# What a row changes in the paper's final model (RetinaNet (#A=1) with all improvements + ATSS).
HEAD = 'model.bbox_head.'
ANCHORS = HEAD + 'anchor_generator.'
ASSIGNER = 'model.train_cfg.assigner'
ATSS = dict(type='atss_plugin.ATSSAssigner', topk=9)
SSC = {ASSIGNER: dict(type='atss_plugin.SpatialScaleAssigner')}
POINT = {HEAD + 'bbox_coder': dict(type='atss_plugin.AnchorPointCoder')}
NINE_ANCHORS = {ANCHORS + 'octave_base_scale': 4, ANCHORS + 'scales_per_octave': 3, ANCHORS + 'ratios': [0.5, 1.0, 2.0]}


def iou(in_gt_box: bool) -> dict:
    assigner = dict(type='atss_plugin.IoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, in_gt_box=in_gt_box)
    return {ASSIGNER: assigner}


NO_GROUPNORM = {HEAD + 'norm_cfg': None}
NO_GIOU = {
    HEAD + 'loss_bbox': dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.25),
    HEAD + 'reg_decoded_bbox': False,
    HEAD + 'count_images': True,
    HEAD + 'average_over_processes': False,
    'model.neck.add_extra_convs': 'on_input',
}
NO_CENTERNESS = {HEAD + 'loss_centerness': None}
NO_SCALAR = {HEAD + 'with_scale': False}
PLAIN_RETINANET = {**NO_GROUPNORM, **NO_GIOU, **NO_CENTERNESS, **NO_SCALAR, **iou(False)}
FCOS = {**POINT, **SSC}

ROWS = {
    't1.retinanet': PLAIN_RETINANET,
    't1.retinanet_gn': {**NO_GIOU, **NO_CENTERNESS, **NO_SCALAR, **iou(False)},
    't1.retinanet_giou': {**NO_CENTERNESS, **NO_SCALAR, **iou(False)},
    't1.retinanet_in_gt_box': {**NO_CENTERNESS, **NO_SCALAR, **iou(True)},
    't1.retinanet_centerness': {**NO_SCALAR, **iou(True)},
    't1.retinanet_scalar': iou(True),
    't1.fcos': FCOS,
    't2.iou_box': iou(True),
    't2.iou_point': {**iou(True), **POINT},
    't2.ssc_box': SSC,
    't2.ssc_point': FCOS,
    't3.retinanet': iou(True),
    't3.retinanet_atss': {},
    't3.fcos': FCOS,
    't3.fcos_center_sampling': {**POINT, ASSIGNER: dict(type='atss_plugin.CenterSamplingAssigner', topk=9)},
    't3.fcos_atss': POINT,
    **{f't4.k{k}': {ASSIGNER + '.topk': k} for k in (3, 5, 7, 11, 13, 15, 17, 19)},
    't4.k9': {},
    **{f't5.scale{scale}': {ANCHORS + 'octave_base_scale': scale} for scale in (5, 6, 7, 9)},
    't5.scale8': {},
    't6.ratio_1_4': {ANCHORS + 'ratios': [0.25]},
    't6.ratio_1_2': {ANCHORS + 'ratios': [0.5]},
    't6.ratio_1_1': {},
    't6.ratio_2_1': {ANCHORS + 'ratios': [2.0]},
    't6.ratio_4_1': {ANCHORS + 'ratios': [4.0]},
    't7.retinanet_a9': {**PLAIN_RETINANET, **NINE_ANCHORS},
    't7.imprs_a9': {**iou(True), **NINE_ANCHORS},
    't7.imprs_atss_sc3_ar3': NINE_ANCHORS,
    't7.imprs_atss_sc3_ar1': {ANCHORS + 'octave_base_scale': 4, ANCHORS + 'scales_per_octave': 3},
    't7.imprs_atss_sc1_ar3': {ANCHORS + 'ratios': [0.5, 1.0, 2.0]},
    't7.imprs_atss_sc1_ar1': {},
}


def table_rows(path: Path) -> dict:
    tables = yaml.safe_load(path.read_text(encoding='utf-8'))['tables']
    return {row['id']: row for table in tables.values() for row in table['rows']}


TABLE_ROWS = table_rows(CONFIGS / 'paper_tables.yml')
EXPERIMENTS = sorted({TABLE_ROWS[row]['config'] for row in ROWS})
MMDET = {f'mmdet_atss_r{depth}_fpn_1x.py': f'mmdet::atss/atss_r{depth}_fpn_1x_coco.py' for depth in (50, 101)}


# Tables and configs.


def test_paper_tables_hold_the_papers_numbers():
    without_configs = {
        name: {key: value for key, value in row.items() if key != 'config'} for name, row in TABLE_ROWS.items()
    }
    assert without_configs == table_rows(PAPER_TABLES)
    assert len(TABLE_ROWS) == 49


def test_tables_1_to_7_are_41_rows_of_33_experiments():
    assert set(ROWS) == {name for name in TABLE_ROWS if not name.startswith('t8.')}
    assert len(ROWS) == 41
    on_disk = {str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('table[1-7]/*.py')}
    assert set(EXPERIMENTS) == on_disk | {FINAL}
    assert len(EXPERIMENTS) == 33


@pytest.mark.parametrize('name', [name for name, row in TABLE_ROWS.items() if 'same_as' in row])
def test_same_experiment_is_same_config(name):
    assert TABLE_ROWS[name]['config'] == TABLE_ROWS[TABLE_ROWS[name]['same_as']]['config']


@pytest.mark.parametrize('name', ROWS)
def test_row_differs_from_the_final_model_in_what_its_table_varies(name):
    assert changes(load(TABLE_ROWS[name]['config']), load(FINAL)) == ROWS[name]


@pytest.mark.parametrize('name', ROWS)
def test_config_names_its_rows_and_their_ap(name):
    row = TABLE_ROWS[name]
    comments = (CONFIGS / row['config']).read_text(encoding='utf-8').split('_base_')[0]
    assert re.search(rf'\bTable {name[1]}, row ', comments)
    assert comments.splitlines()[0].endswith(f'paper AP {row["AP"]}')


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_our_names_are_scoped(name):
    registries = (DATASETS, HOOKS, MODELS, TASK_UTILS)
    for registry in registries:
        registry.import_from_location()
    ours = {key for registry in registries for key in registry.module_dict}
    assert {'ATSSAssigner', 'FocalLoss', 'CocoDataset'} <= ours
    assert not ours & set(types_in(load(name).to_dict())), "without the scope these are mmdet's"


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_ours_are_built(name):
    cfg = load(name)
    head = build(shrink(cfg.model)).bbox_head
    assert type(head) is atss_plugin.OneStageHead
    assert type(head.assigner) is getattr(atss_plugin, cfg.model.train_cfg.assigner.type.split('.')[1])
    assert type(head.loss_cls) is MODELS.get('atss_plugin.FocalLoss')
    point = cfg.model.bbox_head.bbox_coder.type != 'DeltaXYWHBBoxCoder'
    assert isinstance(head.bbox_coder, atss_plugin.AnchorPointCoder) == point


# The network.


@pytest.fixture(scope='module')
def full_size():
    cfg = load(FINAL)
    cfg.model.backbone.init_cfg = None
    return build(cfg.model)


def test_backbone_is_frozen_as_in_the_paper(full_size):
    backbone = full_size.train().backbone
    trained = {name.split('.')[0] for name, value in backbone.named_parameters() if value.requires_grad}
    assert trained == {'layer2', 'layer3', 'layer4'}
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 53
    assert not any(norm.training or norm.weight.requires_grad or norm.bias.requires_grad for norm in norms)


def test_stride_is_in_the_first_1x1(full_size):
    for layer in ('layer2', 'layer3', 'layer4'):
        block = getattr(full_size.backbone, layer)[0]
        assert (block.conv1.kernel_size, block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2), (1, 1))


def test_p6_of_the_plain_retinanet_comes_from_c5():
    """P7 = conv(relu(P6)) as everywhere."""
    neck = MODELS.build(load('table1/retinanet.py').model.neck).eval()
    c3_to_c5 = [torch.randn(1, channels, 16 // n, 16 // n) for n, channels in ((1, 512), (2, 1024), (4, 2048))]
    levels = neck([torch.randn(1, 256, 32, 32), *c3_to_c5])
    p6_conv, p7_conv = [conv.conv for conv in neck.fpn_convs[3:]]
    p6 = nn.functional.conv2d(c3_to_c5[2], p6_conv.weight, p6_conv.bias, stride=2, padding=1)
    p7 = nn.functional.conv2d(p6.relu(), p7_conv.weight, p7_conv.bias, stride=2, padding=1)
    assert (p6 < 0).any()
    torch.testing.assert_close(levels[3], p6)
    torch.testing.assert_close(levels[4], p7)


def test_pyramid_is_p3_to_p7_with_p6_from_p5(full_size):
    stages = full_size.eval().backbone(torch.randn(1, 3, 128, 256))
    levels = full_size.neck(stages)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (256, 16, 32),
        (256, 8, 16),
        (256, 4, 8),
        (256, 2, 4),
        (256, 1, 2),
    ]
    p6_conv, p7_conv = [conv.conv for conv in full_size.neck.fpn_convs[3:]]
    p6 = nn.functional.conv2d(levels[2], p6_conv.weight, p6_conv.bias, stride=2, padding=1)
    p7 = nn.functional.conv2d(p6.relu(), p7_conv.weight, p7_conv.bias, stride=2, padding=1)
    assert (p6 < 0).any()
    torch.testing.assert_close(levels[3], p6)
    torch.testing.assert_close(levels[4], p7)


# Optimizer and schedule.


@pytest.mark.parametrize('dcn', [pytest.param(False, id='plain'), pytest.param(True, id='dcn')])
def test_every_bias_has_twice_the_rate_and_no_decay(dcn):
    cfg = load(FINAL)
    shrink(cfg.model).bbox_head.dcn_on_last_conv = dcn
    model = build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    settings = {id(value): (group['lr'], group['weight_decay']) for group in groups for value in group['params']}
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert len(settings) == len(trained)
    for name, value in trained.items():
        expected = (0.02, 0.0) if name.endswith('bias') else (0.01, 1e-4)
        assert settings[id(value)] == expected, name
    biases = {name.split('.', 1)[1] for name in trained if name.endswith('bias')}
    assert {'cls_convs.0.gn.bias', 'reg_convs.0.gn.bias', 'atss_cls.bias'} <= biases
    assert dcn == any('conv_offset' in name for name in biases)


def test_learning_rate_at_every_corner_of_the_schedule():
    cfg = load(FINAL)
    weight, bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([dict(params=[weight]), dict(params=[bias], lr=0.02)], lr=0.01)
    schedulers = [
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimizer)) for scheduler in cfg.param_scheduler
    ]
    expected = {0: 0.01 / 3, 499: 0.01 / 3, 500: 0.01, 59_999: 0.01, 60_000: 1e-3, 79_999: 1e-3, 80_000: 1e-4}
    for iteration in range(80_001):
        if iteration in expected:
            rates = [group['lr'] for group in optimizer.param_groups]
            assert rates == pytest.approx([expected[iteration], 2 * expected[iteration]], rel=1e-6), iteration
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


# Every config trains and detects.


def check_training_step(cfg):
    model = build(shrink(cfg.model)).train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    losses = model(**model.data_preprocessor(batch_of_two(), training=True), mode='loss')
    total, values = model.parse_losses(losses)
    optim_wrapper.backward(total)
    centerness = cfg.model.bbox_head.loss_centerness is not None
    assert set(losses) == {'loss_cls', 'loss_bbox'} | ({'loss_centerness'} if centerness else set())
    assert all(torch.isfinite(value) and value > 0 for value in values.values()), values
    for name, value in model.named_parameters():
        # DistributedDataParallel stops at a parameter without a gradient
        assert (value.grad is not None) == value.requires_grad, name
        assert value.grad is None or torch.isfinite(value.grad).all(), name
    optim_wrapper.step()
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert {'neck.fpn_convs.0.conv.weight', 'bbox_head.atss_cls.weight', 'bbox_head.atss_reg.weight'} <= changed
    return model


def check_prediction(model):
    data = batch_of_two()
    with torch.no_grad():
        results = model.eval().test_step(data)
    for sample in results:
        found, (height, width) = sample.pred_instances, sample.ori_shape
        assert 0 < len(found) <= 100
        assert (found.scores.diff() <= 0).all() and (found.scores > 0).all() and (found.scores <= 1).all()
        assert ((found.labels >= 0) & (found.labels < NUM_CLASSES)).all()
        corners = found.bboxes.view(-1, 2, 2)
        assert (corners >= 0).all() and (corners <= torch.tensor([width, height]) + 1e-3).all()
        assert (corners[:, 1] > corners[:, 0]).all()
        for label in range(NUM_CLASSES):
            boxes = found.bboxes[found.labels == label]
            assert (bbox_overlaps(boxes, boxes).triu(1) <= 0.6 + 1e-6).all()


@pytest.mark.parametrize('name', EXPERIMENTS + list(MMDET))
def test_trains_one_step_and_detects(name):
    cfg = load(name)
    cfg.model.test_cfg.score_thr = 0.0  # an untrained model's scores are about 0.01
    check_prediction(check_training_step(cfg))


# mmdet's own recipe.


@pytest.mark.parametrize('name', MMDET)
def test_mmdets_recipe_is_mmdets(name):
    theirs = load(MMDET[name])
    ours = load(name)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert ours[key].dataset.type == 'atss_plugin.CocoDataset'  # mmdet's, with our message
        ours[key].dataset.type = 'CocoDataset'
    found = changes(ours, theirs)
    head = found.pop('model.bbox_head')
    assert found.pop(ASSIGNER) == ATSS
    assert changes(dict(head, type='ATSSHead'), theirs.model.bbox_head) == {
        'conv_bias': False,
        'anchor_generator.center_offset': 0.0,
    }
    assert head['type'] == 'atss_plugin.RetinaNetHead'
    assert found.pop('custom_imports')['imports'] == ['atss_plugin.registry']
    assert all(key.endswith(('data_root', 'evaluator.ann_file')) for key in found), found


@pytest.mark.parametrize('name', MMDET)
def test_mmdets_checkpoint_fits_key_by_key(name):
    ours, theirs = load(name), load(MMDET[name])
    theirs = {key: value.shape for key, value in build(shrink(theirs.model)).state_dict().items()}
    assert {key: value.shape for key, value in build(shrink(ours.model)).state_dict().items()} == theirs


def test_mmdets_recipe_gives_mmdets_losses_and_detections():
    name = 'mmdet_atss_r50_fpn_1x.py'
    ours, theirs = load(name).model, load(MMDET[name]).model
    for model in (ours, theirs):
        model.test_cfg.score_thr = 0.0
    ours, theirs = build(shrink(ours), seed=1), build(shrink(theirs), seed=2)
    with torch.no_grad():  # scores that differ enough not to tie
        for value in theirs.bbox_head.parameters():
            value.add_(torch.randn_like(value) * 0.05)
    ours.load_state_dict(theirs.state_dict())
    data = batch_of_two(shapes=((128, 160), (128, 160)))  # no padding, whose anchors mmdet drops
    losses, detections = [], []
    for model in (ours, theirs):
        batch = model.train().data_preprocessor(data, training=True)
        with torch.no_grad():
            losses.append(model.parse_losses(model.loss(batch['inputs'], batch['data_samples']))[1])
            detections.append([sample.pred_instances for sample in model.eval().test_step(data)])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)
    for our, their in zip(*detections):
        torch.testing.assert_close(our.bboxes, their.bboxes, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(our.labels, their.labels)
        # ours is the geometric mean of classification and centerness, mmdet's their product: the same order
        torch.testing.assert_close(our.scores.square(), their.scores, rtol=1e-4, atol=1e-7)


# The data.


@pytest.fixture
def small_coco(tmp_path, monkeypatch):
    """A COCO folder of eight images, the first without a box, alternately portrait and landscape."""
    images, annotations = [], []
    generator = np.random.default_rng(0)
    for index in range(8):
        height, width = (60, 120) if index % 2 else (90, 60)
        images.append(dict(id=index, file_name=f'{index}.png', height=height, width=width))
        if index:
            annotations.append(dict(id=index, image_id=index, category_id=1, bbox=[5, 10, 30, 20], area=600, iscrowd=0))
        for folder in ('train2017', 'val2017'):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(
                str(tmp_path / folder / f'{index}.png'), generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            )
    categories = [dict(id=number, name=name) for number, name in enumerate(CocoDataset.METAINFO['classes'], start=1)]
    (tmp_path / 'annotations').mkdir()
    for split in ('train2017', 'val2017'):
        (tmp_path / 'annotations' / f'instances_{split}.json').write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories))
        )
    monkeypatch.setenv('COCO_ROOT', str(tmp_path))
    return tmp_path


def data_loader(cfg, which):
    loader = cfg[f'{which}_dataloader']
    loader.update(num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(loader, seed=0)


def read_again(name):
    """The config, read with the current environment variables."""
    init_default_scope('mmdet')
    return Config.fromfile(CONFIGS / name)


def test_input_is_the_papers(small_coco):
    cfg = read_again(FINAL)
    preprocess = build(shrink(cfg.model)).data_preprocessor
    batches = iter(data_loader(cfg, 'train'))
    flips, seen = [], set()
    for _ in range(12):
        batch = next(batches)
        samples = batch['data_samples']
        seen |= {sample.img_id for sample in samples}
        flips += [sample.flip for sample in samples]
        assert len({sample.img_shape for sample in samples}) == 1, 'portrait and landscape in one batch'
        # 90 x 60 becomes 1200 x 800; 60 x 120 would be 800 x 1600 and is bounded by 1333
        assert samples[0].img_shape in {(1200, 800), (667, 1333)}
    assert seen == set(range(1, 8)), 'all images but the one without a box'
    assert 4 <= sum(flips) <= 20
    inputs, shape = preprocess(batch, training=True)['inputs'], samples[0].img_shape
    assert tuple(inputs.shape[2:]) in {(1216, 800), (672, 1344)}
    for channel, mean in enumerate((103.530, 116.280, 123.675)):  # blue, green, red
        torch.testing.assert_close(
            inputs[0, channel, : shape[0], : shape[1]], batch['inputs'][0][channel].float() - mean
        )
    blue_green_red = cv2.imread(samples[0].img_path)
    pixel = blue_green_red[0, -1 if samples[0].flip else 0]
    assert batch['inputs'][0][:, 0, 0].tolist() == pixel.tolist()


def test_detections_come_back_in_the_images_own_pixels(small_coco):
    cfg = read_again(FINAL)
    sample = next(iter(data_loader(cfg, 'val')))['data_samples'][0]
    assert (sample.ori_shape, sample.img_shape) == ((90, 60), (1200, 800))
    sample = list(data_loader(cfg, 'val'))[1]['data_samples'][0]
    torch.testing.assert_close(sample.gt_instances.bboxes.tensor, torch.tensor([[5.0, 10.0, 35.0, 30.0]]))


@pytest.mark.parametrize('name', [FINAL, 'mmdet_atss_r50_fpn_1x.py'])
@pytest.mark.parametrize('which', ['train', 'val'])
def test_missing_coco_says_what_to_change(name, which, tmp_path, monkeypatch):
    monkeypatch.setenv('COCO_ROOT', str(tmp_path / 'nowhere'))
    with pytest.raises(FileNotFoundError, match=r'nowhere.*COCO_ROOT.*data_root'):
        data_loader(read_again(name), which)


def test_missing_image_says_what_to_change(small_coco):
    for image in (small_coco / 'train2017').iterdir():
        image.unlink()
    with pytest.raises(FileNotFoundError, match=r'train2017.*COCO_ROOT.*data_root'):
        next(iter(data_loader(read_again(FINAL), 'train')))
