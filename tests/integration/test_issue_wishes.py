"""What users of mmdetection asked of its ATSS, each by the number of its issue or pull request.

#6170  ATSS in RetinaNet crashes.                  #5497  ATSS in a two-stage detector.
#8795  Where is FCOS + ATSS, without anchors?      #5417  Regress from the point.
#3428, #3361  Small images: fewer anchors than k on a level.
#3702, #2555  An image, or a whole batch, without ground truth.   #3528  A batch of one image, a single positive.
"""

import math

import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator
from mmengine.structures import InstanceData

from atss_plugin import assigners
from tests.integration.zoo_helpers import (
    batch,
    build,
    gradients,
    read,
    record_calls,
    sample,
    shrink,
    train_step,
    two_lines,
)
from tests.reference import oracle

ATSS = dict(type='atss_plugin.ATSSAssigner', topk=9)
FCOS_ATSS = """_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
model = dict(
    bbox_head=dict(_delete_=True, type='atss_plugin.FCOSHead', num_classes=80, in_channels=256),
    train_cfg=dict(_delete_=True, assigner=dict(type='atss_plugin.ATSSAssigner')))
"""
ATSS_ON_OURS = """_base_ = 'mmdet::atss/atss_r50_fpn_1x_coco.py'
model = dict(
    bbox_head=dict(_delete_=True, type='atss_plugin.RetinaNetHead', num_classes=80, in_channels=256),
    train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.ATSSAssigner')))
"""


def detector(text: str, folder) -> torch.nn.Module:
    return build(shrink(read(text, folder).model))


def pyramid(shape, scales=(8,), ratios=(1.0,)):
    """Priors of an image of this shape, the sizes of the levels, and A."""
    strides = (8, 16, 32, 64, 128)
    generator = AnchorGenerator(strides=strides, scales=scales, ratios=ratios, center_offset=0.5)
    levels = generator.grid_priors([tuple(math.ceil(side / s) for side in shape) for s in strides], device='cpu')
    return torch.cat(levels), [len(level) for level in levels], len(scales) * len(ratios)


@pytest.mark.parametrize(
    'scales, ratios', [pytest.param((8,), (1.0,), id='A1'), pytest.param((4, 5.04, 6.35), (0.5, 1.0, 2.0), id='A9')]
)
def test_6170_both_calling_orders_agree(scales, ratios):
    priors, sizes, _ = pyramid((200, 320), scales, ratios)
    predictions = InstanceData(priors=priors)
    gts = InstanceData(
        bboxes=torch.tensor([[11.3, 20.1, 80.7, 95.9], [100.2, 31.4, 300.8, 190.5]]), labels=torch.tensor([4, 2])
    )
    assigner = assigners.ATSSAssigner()
    retinanets = assigner.assign(predictions, gts, None)
    atss = assigner.assign(predictions, sizes, gts, None)
    keywords = assigner.assign(pred_instances=predictions, num_level_priors=sizes, gt_instances=gts)
    assert set(retinanets.gt_inds.tolist()) == {0, 1, 2}
    for other in (atss, keywords):
        torch.testing.assert_close(retinanets.gt_inds, other.gt_inds, rtol=0, atol=0)
        torch.testing.assert_close(retinanets.labels, other.labels, rtol=0, atol=0)
        torch.testing.assert_close(retinanets.max_overlaps, other.max_overlaps, rtol=0, atol=0)


@pytest.mark.parametrize(
    'config, place',
    [
        pytest.param('retinanet/retinanet_r50_fpn_1x_coco.py', 'train_cfg.assigner', id='6170-RetinaNet'),
        pytest.param('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'train_cfg.rpn.assigner', id='5497-Faster-R-CNN'),
    ],
)
def test_6170_5497_an_sgd_step_lowers_the_loss(config, place, tmp_path):
    model = detector(two_lines(config, place, ATSS), tmp_path)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        torch.manual_seed(0)  # of the samplers
        optimizer.zero_grad()
        losses.append(train_step(model, batch())['loss'])
        optimizer.step()
    assert losses[-1] < losses[0]


def test_8795_5417_fcos_with_atss_starts_from_points(tmp_path, monkeypatch):
    calls = record_calls(monkeypatch)
    model = detector(FCOS_ATSS, tmp_path)
    log = train_step(model, batch())
    assert all(math.isfinite(value) for value in log.values())
    anchors, head = calls[0].priors, model.bbox_head
    # the untrained network predicts the bias alone, and from that comes the anchor's box
    start = head.atss_reg.bias.detach().expand(len(anchors), 4)
    torch.testing.assert_close(head.bbox_coder.decode(anchors, start), anchors)
    # whatever it predicts, the point lies in the box
    center = (anchors[:, :2] + anchors[:, 2:]) / 2
    boxes = head.bbox_coder.decode(anchors, 5 * torch.randn(len(anchors), 4, generator=torch.manual_seed(0)))
    assert (boxes[:, :2] <= center).all() and (boxes[:, 2:] >= center).all()


def test_8795_fcos_and_retinanet_get_the_same_positives(tmp_path, monkeypatch):
    calls = record_calls(monkeypatch)
    for text in (FCOS_ATSS, ATSS_ON_OURS):
        train_step(detector(text, tmp_path), batch())
    half = len(calls) // 2
    for fcos, retinanet in zip(calls[:half], calls[half:]):
        assert (fcos.gt_inds > 0).any()
        torch.testing.assert_close(fcos.gt_inds, retinanet.gt_inds, rtol=0, atol=0)


@pytest.mark.parametrize(
    'shape', [(32, 32), (64, 48), (128, 320), (16, 300)], ids=lambda shape: f'{shape[0]}x{shape[1]}'
)
@pytest.mark.parametrize('topk', [9, 50])
def test_3428_3361_levels_with_fewer_than_k_anchors(shape, topk):
    priors, sizes, _ = pyramid(shape)
    assert min(sizes) < topk
    height, width = shape
    boxes = torch.tensor(
        [[0.31, 0.17, 0.53 * width, 0.61 * height], [0.42 * width, 0.28 * height, 0.97 * width, 0.93 * height]]
    )
    result = assigners.ATSSAssigner(topk=topk).assign(
        InstanceData(priors=priors), sizes, InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]))
    )
    expected = oracle.atss(
        oracle.Scene(priors.double().numpy(), sizes, boxes.double().numpy(), tol=1e-6, iou_tol=1e-6), topk=topk
    )
    clear = torch.from_numpy(expected.clear)
    assert clear.float().mean() > 0.9
    torch.testing.assert_close(result.gt_inds[clear], torch.from_numpy(expected.gt_inds)[clear], rtol=0, atol=0)


EMPTY = [
    pytest.param([[[10.0, 12.0, 60.0, 70.0]], []], id='one-image'),
    pytest.param([[], []], id='whole-batch'),
]
HEADS = [
    pytest.param(two_lines('atss/atss_r50_fpn_1x_coco.py', 'train_cfg.assigner', ATSS), id='mmdet-ATSSHead'),
    pytest.param(
        two_lines('retinanet/retinanet_r50_fpn_1x_coco.py', 'train_cfg.assigner', ATSS), id='mmdet-RetinaHead'
    ),
    pytest.param(two_lines('gfl/gfl_r50_fpn_1x_coco.py', 'train_cfg.assigner', ATSS), id='mmdet-GFLHead'),
    pytest.param(two_lines('vfnet/vfnet_r50_fpn_1x_coco.py', 'train_cfg.assigner', ATSS), id='mmdet-VFNetHead'),
    pytest.param(ATSS_ON_OURS, id='RetinaNetHead'),
    pytest.param(FCOS_ATSS, id='FCOSHead'),
]


@pytest.mark.parametrize('boxes', EMPTY)
@pytest.mark.parametrize('text', HEADS)
def test_3702_2555_without_ground_truth(text, boxes, tmp_path):
    model = detector(text, tmp_path)
    inputs = [torch.full((3, 96, 128), 90, dtype=torch.uint8)] * 2
    samples = [sample((96, 128), image, [0] * len(image)) for image in boxes]
    log = train_step(model, dict(inputs=inputs, data_samples=samples))
    assert all(math.isfinite(value) for value in log.values()), log
    assert log['loss_cls'] > 0
    if not any(boxes):
        assert all(value == 0 for key, value in log.items() if key not in ('loss', 'loss_cls')), log
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without  # a parameter without gradient stops distributed training
    assert all(bool(grad.isfinite().all()) for grad in gradients(model))


def test_3528_one_image_with_one_positive(tmp_path, monkeypatch):
    calls = record_calls(monkeypatch)
    model = detector(two_lines('atss/atss_r50_fpn_1x_coco.py', 'train_cfg.assigner', dict(ATSS, topk=1)), tmp_path)
    inputs = [torch.full((3, 64, 64), 90, dtype=torch.uint8)]
    # a box that only the middle anchor of the third level meets well
    log = train_step(model, dict(inputs=inputs, data_samples=[sample((64, 64), [[6.0, 7.0, 38.0, 39.0]], [2])]))
    assert int((calls[0].gt_inds > 0).sum()) == 1
    assert all(math.isfinite(value) for value in log.values())
