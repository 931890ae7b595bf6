"""Our assigners in mmdet's own models: a config of two lines, a training step, a prediction, the oracle's positives.

The heads here are those in the table of docs/using_an_assigner.md.
"""

import math
import re
from typing import NamedTuple, Optional, Tuple

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.models.task_modules import ATSSAssigner as MMDetATSSAssigner
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData

from atss_plugin import assigners
from tests.conftest import ROOT
from tests.integration.zoo_helpers import (
    Call,
    batch,
    build,
    gradients,
    predict,
    read,
    record_calls,
    scene,
    shrink,
    train_step,
    two_lines,
)
from tests.reference import oracle

RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, math.inf))
ASSIGNERS = {
    'atss': dict(type='atss_plugin.ATSSAssigner'),
    'center_sampling': dict(type='atss_plugin.CenterSamplingAssigner'),
    'spatial_scale': dict(type='atss_plugin.SpatialScaleAssigner'),
    'iou': dict(type='atss_plugin.IoUAssigner'),
    'iou_in_gt_box': dict(type='atss_plugin.IoUAssigner', in_gt_box=True),
    'topk_iou': dict(type='atss_plugin.TopKIoUAssigner'),
}
ORACLES = {
    'atss': oracle.atss,
    'center_sampling': lambda scene: oracle.center_sampling(scene, RANGES),
    'spatial_scale': lambda scene: oracle.spatial_scale(scene, RANGES),
    'iou': oracle.iou_rule,
    'iou_in_gt_box': lambda scene: oracle.iou_rule(scene, in_gt_box=True),
    'topk_iou': oracle.topk_iou,
}
ON_GRIDS = ('atss', 'center_sampling', 'spatial_scale', 'iou_in_gt_box', 'topk_iou')
ON_BOXES = ('iou', 'iou_in_gt_box', 'topk_iou')


class Head(NamedTuple):
    """A head of mmdet's.

    Attributes:
        config (str): mmdet's config of it.
        place (str): where the config has the assigner.
        anchors (tuple[int], optional): anchors per location of each level; None: the priors are not a grid.
        assigners (tuple[str]): which of ours are tried.
        same_shape (bool): the head wants images of one shape.
        predicts (bool): False where mmdet 3.3 cannot predict, whatever the assigner.
    """

    config: str
    place: str = 'train_cfg.assigner'
    anchors: Optional[Tuple[int, ...]] = (1,) * 5
    assigners: Tuple[str, ...] = ('atss',)
    same_shape: bool = False
    predicts: bool = True


NINE, THREE = (9,) * 5, (3,) * 5
RPN = 'train_cfg.rpn.assigner'
HEADS = {
    # heads that say where a level ends: assign(pred_instances, num_level_priors, gt_instances, ignore)
    'ATSSHead': Head('atss/atss_r50_fpn_1x_coco.py', assigners=ON_GRIDS),
    'ATSSHead-DyHead': Head('dyhead/atss_r50_fpn_dyhead_1x_coco.py'),
    'GFLHead': Head('gfl/gfl_r50_fpn_1x_coco.py', assigners=ON_GRIDS),
    'LDHead': Head('ld/ld_r18-gflv1-r101_fpn_1x_coco.py'),
    'VFNetHead': Head('vfnet/vfnet_r50_fpn_1x_coco.py', assigners=ON_GRIDS),
    'DDODHead': Head('ddod/ddod_r50_fpn_1x_coco.py'),
    'DDODHead-reg': Head('ddod/ddod_r50_fpn_1x_coco.py', 'train_cfg.reg_assigner'),
    'TOODHead-initial': Head('tood/tood_r50_fpn_1x_coco.py', 'train_cfg.initial_assigner'),
    'TOODHead-initial-anchor-based': Head('tood/tood_r50_fpn_anchor-based_1x_coco.py', 'train_cfg.initial_assigner'),
    # heads that do not: assign(pred_instances, gt_instances, ignore)
    'RetinaHead': Head('retinanet/retinanet_r50_fpn_1x_coco.py', anchors=NINE, assigners=(*ON_GRIDS, 'iou')),
    'RetinaHead-GHM': Head('ghm/retinanet_r50_fpn_ghm-1x_coco.py', anchors=NINE),
    'RetinaHead-Libra': Head('libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py', anchors=NINE),
    'RetinaSepBNHead-NAS-FPN': Head('nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py', anchors=NINE),
    'PISARetinaHead': Head('pisa/retinanet-r50_fpn_pisa_1x_coco.py', anchors=NINE),
    'SABLRetinaHead': Head('sabl/sabl-retinanet_r50_fpn_1x_coco.py'),
    'FSAFHead': Head('fsaf/fsaf_r50_fpn_1x_coco.py', assigners=('atss', 'center_sampling', 'spatial_scale')),
    'PAAHead': Head('paa/paa_r50_fpn_1x_coco.py', assigners=('atss', 'iou_in_gt_box')),
    'LADHead': Head('lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py'),
    'SSDHead': Head(
        'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
        anchors=(6,) * 6,
        assigners=('atss', 'iou', 'topk_iou'),
        predicts=False,
    ),
    'YOLACTHead': Head('yolact/yolact_r50_1xb8-55e_coco.py', anchors=THREE, same_shape=True),
    'RPNHead': Head('rpn/rpn_r50_fpn_1x_coco.py', RPN, THREE, assigners=(*ON_GRIDS, 'iou')),
    'RPNHead-Faster-R-CNN': Head('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', RPN, THREE),
    'RPNHead-Mask-R-CNN': Head('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', RPN, THREE),
    'RPNHead-Libra': Head('libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py', RPN, THREE),
    'RPNHead-PISA': Head('pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py', RPN, THREE),
    'CascadeRPNHead-1': Head(
        'cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py', 'train_cfg.rpn.0.assigner'
    ),
    'GARPNHead-ga': Head(
        'guided_anchoring/ga-rpn_r50-caffe_fpn_1x_coco.py', 'train_cfg.rpn.ga_assigner', predicts=False
    ),
    'GARetinaHead-ga': Head(
        'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py', 'train_cfg.ga_assigner', predicts=False
    ),
    'RepPointsHead-init': Head('reppoints/reppoints-moment_r50_fpn_1x_coco.py', 'train_cfg.init.assigner'),
    # boxes that do not form a grid: refined anchors, proposals
    'RepPointsHead-refine': Head(
        'reppoints/reppoints-bbox_r50_fpn-gn_head-gn-grid_1x_coco.py', 'train_cfg.refine.assigner', None, ON_BOXES
    ),
    'CascadeRPNHead-2': Head(
        'cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',
        'train_cfg.rpn.1.assigner',
        None,
        ('iou', 'topk_iou'),
    ),
    'GARetinaHead': Head(
        'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py',
        anchors=None,
        assigners=('iou', 'topk_iou'),
        predicts=False,
    ),
    'StandardRoIHead': Head('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'train_cfg.rcnn.assigner', None, ON_BOXES),
    'CascadeRoIHead': Head('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py', 'train_cfg.rcnn.1.assigner', None, ('iou',)),
}
CASES = [pytest.param(head, name, id=f'{key}-{name}') for key, head in HEADS.items() for name in head.assigners]


def detector_with(head: Head, assigner: dict, folder) -> torch.nn.Module:
    """mmdet's model, scaled down, with our assigner at the head's place."""
    stage = re.fullmatch(r'train_cfg\.(\w+)\.(\d)\.assigner', head.place)
    if stage:  # an entry of a list: a config that inherits has to repeat the whole list
        config = read(f"_base_ = 'mmdet::{head.config}'\n", folder)
        config.model.train_cfg[stage[1]][int(stage[2])].assigner = assigner
    else:
        config = read(two_lines(head.config, head.place, assigner), folder)
    if 'PAA' in config.model.type or 'LAD' in config.model.type:
        pytest.importorskip('sklearn', reason="mmdet's PAAHead needs scikit-learn")
    return build(shrink(config.model))


def data_for(head: Head) -> dict:
    return same_shape(batch()) if head.same_shape else batch()


def same_shape(data: dict) -> dict:
    """The first image twice."""
    return dict(inputs=data['inputs'][:1] * 2, data_samples=data['data_samples'][:1] * 2)


def sizes_of_levels(call: Call, anchors: Tuple[int, ...]) -> list:
    """Where the levels end: the anchors of the next one have different areas."""
    areas = (call.priors[:, 2:] - call.priors[:, :2]).prod(1)
    sizes, start = [], 0
    for a in anchors:
        end = start + a
        while end < len(areas) and torch.allclose(areas[end : end + a], areas[start : start + a], rtol=1e-3):
            end += a
        sizes.append(end - start)
        start = end
    assert start == len(areas)
    return sizes


def assert_equals_oracle(call: Call, name: str, anchors: Optional[Tuple[int, ...]]) -> None:
    """Compare every prior that is not decided by rounding."""
    sizes = [len(call.priors)] if anchors is None else sizes_of_levels(call, anchors)
    answer = ORACLES[name](scene(call, sizes, anchors or (1,)))
    clear = torch.from_numpy(answer.clear)
    assert clear.float().mean() > 0.95  # rounding decides at most one prior in twenty
    torch.testing.assert_close(call.gt_inds[clear], torch.from_numpy(answer.gt_inds)[clear], rtol=0, atol=0)


@pytest.mark.parametrize('head, name', CASES)
def test_trains_and_detects(head, name, tmp_path, monkeypatch):
    calls = record_calls(monkeypatch)
    detector = detector_with(head, ASSIGNERS[name], tmp_path)
    log = train_step(detector, data_for(head))
    assert all(math.isfinite(value) for value in log.values()), log
    grads = list(gradients(detector))
    assert grads and all(bool(grad.isfinite().all()) for grad in grads)
    assert len(calls) in (2, 4)  # images, and LAD's teacher assigns them too
    assert any(bool((call.gt_inds > 0).any()) for call in calls)
    for call in calls:
        assert_equals_oracle(call, name, head.anchors)
    if head.predicts:
        for image in predict(detector, data_for(head)):
            assert len(image) and bool(image.bboxes.isfinite().all())
            assert bool(((image.scores >= 0) & (image.scores <= 1)).all())


DDOD = dict(type='atss_plugin.DDODAssigner', alpha=0.8)


def test_ddods_cost_in_ddod_equals_mmdets(tmp_path, monkeypatch):
    calls = record_calls(monkeypatch)
    train_step(detector_with(HEADS['DDODHead'], DDOD, tmp_path), batch())
    assert len(calls) == 2
    for call in calls:
        expected = MMDetATSSAssigner(topk=9, alpha=0.8).assign(
            call.pred_instances, call.num_level_priors, call.gt_instances
        )
        positive = expected.gt_inds > 0
        assert positive.any()
        torch.testing.assert_close(call.gt_inds, expected.gt_inds, rtol=0, atol=0)
        torch.testing.assert_close(call.max_overlaps[positive], expected.max_overlaps[positive])


@pytest.mark.parametrize('alpha', [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize('seed', range(5))
def test_ddods_cost_on_random_predictions_equals_mmdets(alpha, seed):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(shape, generator=generator)

    priors, sizes = [], []
    for stride in (8, 16, 32, 64, 128):
        y, x = torch.meshgrid(*[torch.arange(0, 256, stride) + stride / 2] * 2, indexing='ij')
        points = torch.stack([x, y], -1).view(-1, 2)
        priors.append(torch.cat([points - 4 * stride, points + 4 * stride], 1))
        sizes.append(len(points))
    priors = torch.cat(priors)
    corner = 200 * uniform(20, 2)
    gts = InstanceData(
        bboxes=torch.cat([corner, corner + 4 + 100 * uniform(20, 2)], 1), labels=(80 * uniform(20)).long()
    )
    predictions = InstanceData(
        priors=priors, bboxes=priors + 20 * uniform(*priors.shape), scores=4 * uniform(len(priors), 80) - 2
    )
    ours = assigners.DDODAssigner(alpha=alpha).assign(predictions, sizes, gts)
    mmdets = MMDetATSSAssigner(topk=9, alpha=alpha).assign(predictions, sizes, gts)
    assert (mmdets.gt_inds > 0).any()
    torch.testing.assert_close(ours.gt_inds, mmdets.gt_inds, rtol=0, atol=0)
    torch.testing.assert_close(ours.labels, mmdets.labels, rtol=0, atol=0)


# Not VFNetHead: its varifocal loss takes no weights, so an ignored prior is background there.
IGNORING = [
    'ATSSHead',
    'GFLHead',
    'DDODHead',
    'TOODHead-initial',
    'RetinaHead',
    'PISARetinaHead',
    'SABLRetinaHead',
    'FSAFHead',
    'SSDHead',
    'YOLACTHead',
    'RPNHead',
    'PAAHead',
    'RetinaHead-GHM',
    'LDHead',
]
REGION = [80.0, 40.0, 160.0, 96.0]  # hides the third object, and part of the second


def classification_outputs(detector: torch.nn.Module) -> list:
    """The head's first output, level by level, with its gradient, once a training step has filled the list."""
    outputs = []

    def keep(module, inputs, output):
        if not outputs:
            outputs.extend(output[0])
            for level in output[0]:
                level.retain_grad()

    detector.bbox_head.register_forward_hook(keep)
    return outputs


@pytest.mark.parametrize('key', IGNORING)
def test_ignored_regions_carry_no_loss(key, tmp_path, monkeypatch):
    head = HEADS[key]
    calls = record_calls(monkeypatch)
    detector = detector_with(head, dict(ASSIGNERS['atss'], ignore_iof_thr=0.5), tmp_path)
    outputs = classification_outputs(detector)
    train_step(detector, same_shape(batch(ignored=[REGION])))
    call = calls[0]
    top_left = torch.maximum(call.priors[:, :2], torch.tensor(REGION[:2]))
    bottom_right = torch.minimum(call.priors[:, 2:], torch.tensor(REGION[2:]))
    covered = (bottom_right - top_left).clamp(min=0).prod(1) / (call.priors[:, 2:] - call.priors[:, :2]).prod(1)
    ignored = covered > 0.5
    torch.testing.assert_close(call.gt_inds == -1, ignored)
    assert ignored.any() and (call.gt_inds > 0).any()
    classes = sum(level.grad[0].numel() for level in outputs) // len(call.priors)
    gradient = torch.cat([level.grad[0].permute(1, 2, 0).reshape(-1, classes) for level in outputs])
    assert (gradient[ignored] == 0).all()
    assert (gradient[call.gt_inds > 0] != 0).any()


def test_crowds_of_coco_are_ignored(tmp_path, monkeypatch):
    """From an annotation with iscrowd (mmdet's ignore_flag) through mmdet's pipeline to the assignment."""
    calls = record_calls(monkeypatch)
    instances = [
        dict(bbox=box, bbox_label=0, ignore_flag=crowd) for box, crowd in (([10.3, 12.1, 34.2, 40.7], 0), (REGION, 1))
    ]
    pipeline = Compose(
        [
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_shape', 'ori_shape', 'scale_factor')),
        ]
    )
    data = pipeline(
        dict(
            img=np.zeros((96, 160, 3), np.uint8),
            instances=instances,
            img_shape=(96, 160),
            ori_shape=(96, 160),
            scale_factor=(1.0, 1.0),
        )
    )
    detector = detector_with(HEADS['RetinaHead'], dict(ASSIGNERS['atss'], ignore_iof_thr=0.5), tmp_path)
    train_step(detector, dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))
    assert len(calls[0].gts) == 1
    assert set(calls[0].gt_inds.tolist()) == {-1, 0, 1}


NO_LEVELS = 'use IoUAssigner or TopKIoUAssigner'
POINTS = 'Points with strides'
REFUSED = [
    pytest.param(Head('yolox/yolox_tiny_8xb8-300e_coco.py'), 'atss', ValueError, POINTS, id='YOLOXHead-atss'),
    pytest.param(Head('yolox/yolox_tiny_8xb8-300e_coco.py'), 'iou', ValueError, POINTS, id='YOLOXHead-iou'),
    pytest.param(Head('rtmdet/rtmdet_tiny_8xb32-300e_coco.py'), 'atss', ValueError, POINTS, id='RTMDetHead-atss'),
    pytest.param(
        Head('rtmdet/rtmdet_tiny_8xb32-300e_coco.py'), 'topk_iou', ValueError, POINTS, id='RTMDetHead-topk_iou'
    ),
    pytest.param(Head('yolof/yolof_r50-c5_8xb8-1x_coco.py'), 'atss', ValueError, 'UniformAssigner', id='YOLOFHead'),
    pytest.param(
        Head('yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py'), 'atss', ValueError, 'GridAssigner', id='YOLOV3Head'
    ),
    pytest.param(HEADS['RepPointsHead-refine'], 'atss', ValueError, NO_LEVELS, id='RepPointsHead-refine'),
    pytest.param(HEADS['GARetinaHead'], 'spatial_scale', ValueError, NO_LEVELS, id='GARetinaHead'),
    pytest.param(HEADS['CascadeRPNHead-2'], 'atss', ValueError, NO_LEVELS, id='CascadeRPNHead-2'),
    pytest.param(HEADS['StandardRoIHead'], 'center_sampling', ValueError, NO_LEVELS, id='StandardRoIHead'),
    pytest.param(HEADS['SSDHead'], 'spatial_scale', ValueError, 'scale_ranges has 5 entries', id='SSDHead-5-ranges'),
]


@pytest.mark.parametrize('head, name, error, message', REFUSED)
def test_refuses_with_a_reason(head, name, error, message, tmp_path):
    # RTMDet's SyncBatchNorm refuses the CPU with torch 1
    detector = revert_sync_batchnorm(detector_with(head, ASSIGNERS[name], tmp_path))
    with pytest.raises(error, match=message):
        train_step(detector, batch())


def test_refuses_toods_second_assigner(tmp_path):
    config = read(two_lines('tood/tood_r50_fpn_1x_coco.py', 'train_cfg.assigner', ASSIGNERS['atss']), tmp_path)
    config.model.train_cfg.initial_epoch = 0
    with pytest.raises(AttributeError, match="'assign_metrics'.*works with its own assigner only"):
        train_step(build(shrink(config.model)), batch())


def test_refuses_ddods_cost_without_predictions(tmp_path):
    detector = detector_with(HEADS['RetinaHead'], DDOD, tmp_path)
    with pytest.raises(ValueError, match='DDODAssigner needs scores and bboxes'):
        train_step(detector, batch())


def test_refuses_queries_without_priors():
    queries = InstanceData(scores=torch.zeros(5, 80), bboxes=torch.zeros(5, 4))
    gts = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 9.0, 9.0]]), labels=torch.tensor([0]))
    with pytest.raises(ValueError, match='no priors.*HungarianAssigner'):
        # as DETRHead calls it
        assigners.ATSSAssigner().assign(pred_instances=queries, gt_instances=gts, img_meta=dict())


@pytest.mark.parametrize(
    'config',
    [
        pytest.param('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', id='FCOSHead'),
        pytest.param('foveabox/fovea_r50_fpn_4xb4-1x_coco.py', id='FoveaHead'),
        pytest.param('nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco.py', id='NASFCOSHead'),
        pytest.param('free_anchor/freeanchor_r50_fpn_1x_coco.py', id='FreeAnchorRetinaHead'),
    ],
)
def test_heads_that_never_ask_an_assigner(config, tmp_path, monkeypatch):
    """The page warns of them: mmdet reads the assigner from the config, or not even that, and does not use it."""
    calls = record_calls(monkeypatch)
    train_step(detector_with(Head(config), ASSIGNERS['atss'], tmp_path), batch())
    assert not calls


def examples() -> list:
    """The configs on our pages that inherit one of mmdet's."""
    blocks = []
    for page in (ROOT / 'docs/using_an_assigner.md', ROOT / 'README.md'):
        text = page.read_text(encoding='utf-8') if page.is_file() else ''
        found = re.findall(r"^```python\n(_base_ = 'mmdet::.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        blocks += [pytest.param(block, id=f'{page.stem}-{i}') for i, block in enumerate(found)]
    return blocks


@pytest.mark.parametrize('text', examples())
def test_examples_of_the_pages(text, tmp_path, monkeypatch):
    calls = record_calls(monkeypatch)
    config = read(text, tmp_path)
    detector = build(shrink(config.model))
    log = train_step(detector, batch())
    assert all(math.isfinite(value) for value in log.values())
    assert any(bool((call.gt_inds > 0).any()) for call in calls)
    assert all(len(image) for image in predict(detector, batch()))


def test_the_page_lists_every_head():
    page = (ROOT / 'docs/using_an_assigner.md').read_text(encoding='utf-8')
    assert not [head.config for head in HEADS.values() if head.config not in page]
