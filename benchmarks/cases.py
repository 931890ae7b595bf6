"""The cases: ours and mmdet's, each checked to agree before it is timed."""

from functools import partial
from typing import Callable, List, NamedTuple, Optional

import torch
from mmdet.models.dense_heads import ATSSHead, FCOSHead
from mmdet.models.task_modules import ATSSAssigner as MMDetATSSAssigner
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from atss_plugin import ATSSAssigner, RetinaNetHead, SpatialScaleAssigner
from atss_plugin.matching.boxes import INSIDE_MARGIN, centers, sides

from .scenes import IMAGE, STRIDES, coco_boxes, device, feature_sizes, pyramid, random_boxes


class Case(NamedTuple):
    """One thing that ours and mmdet's both do.

    Attributes:
        name (str): what it is.
        ours, peer (callable): run it.
        agree (callable): raises if the two results differ.
        memory (bool): compare peak memory, too.
        goal (float, optional): the ratio aimed at.
    """

    name: str
    ours: Callable
    peer: Callable
    agree: Callable
    memory: bool = False
    goal: Optional[float] = None


def all_cases(coco: Optional[str] = None, crowd: Optional[str] = None) -> List[Callable[[], Case]]:
    """Return the functions that make the cases: on random boxes, and on the boxes of the given COCO files."""
    cases = [partial(atss_single, num, goal) for num, goal in ((7, 6), (100, 50), (500, 150), (1000, 250))]
    cases += [atss_batch_of_random_boxes, atss_nine_anchors]
    cases += [partial(atss_in_mmdet_head, num, goal) for num, goal in ((7, 4), (100, 35), (500, 120))]
    cases += [partial(spatial_scale, num) for num in (7, 100, 500)]
    cases += [atss_dense, loss]
    if coco:
        cases.append(partial(atss_batch_of_coco, coco))
    if crowd:
        cases.append(partial(atss_most_crowded, crowd))
    return cases


def equal(ours: Tensor, peer: Tensor) -> None:
    """Raise unless two assignments are the same."""
    if not torch.equal(ours, peer):
        raise AssertionError(f'{int((ours != peer).sum())} of {ours.numel()} priors are assigned differently')


def equal_but_for_ties(ours: Tensor, peer: Tensor, priors: Tensor, boxes: Tensor) -> None:
    """Compare the assignments of one image with annotated boxes, whose coordinates are often whole or half pixels.

    Where anchors are equally far from a box, mmdet's topk takes any of them.
    """
    distance = torch.cdist(centers(boxes).double(), centers(priors).double())  # (G, N)
    for number in torch.cat([ours[ours != peer], peer[ours != peer]]).unique().tolist():
        mine, theirs = ((found == number) & (ours != peer) for found in (ours, peer))
        if number > 0 and not torch.equal(*(distance[number - 1, which].sort().values for which in (mine, theirs))):
            equal(ours, peer)


def atss_single(num: int, goal: float) -> Case:
    priors, levels = pyramid()
    pred, gts = InstanceData(priors=priors), random_boxes(num)
    ours, peer = ATSSAssigner(topk=9), MMDetATSSAssigner(topk=9)
    return Case(
        f'ATSS, 1 image, {num} boxes',
        lambda: ours.assign(pred, levels, gts),
        lambda: peer.assign(pred, levels, gts),
        lambda a, b: equal(a.gt_inds, b.gt_inds),
        memory=num == 500,
        goal=goal,
    )


def atss_batch(batch: List[InstanceData], image, name: str, goal: Optional[float] = None) -> Case:
    priors, levels = pyramid(image=image)
    pred, ours, peer = InstanceData(priors=priors), ATSSAssigner(topk=9), MMDetATSSAssigner(topk=9)

    def agree(found, expected) -> None:
        for gt_inds, result, gts in zip(found.gt_inds, expected, batch):
            equal_but_for_ties(gt_inds, result.gt_inds, priors, gts.bboxes)

    return Case(
        name,
        lambda: ours.assign_batch(priors, levels, batch),
        lambda: [peer.assign(pred, levels, gts) for gts in batch],
        agree,
        goal=goal,
    )


def atss_batch_of_random_boxes() -> Case:
    return atss_batch([random_boxes(7, seed) for seed in range(16)], IMAGE, 'ATSS, 16 images x 7 boxes', 40)


def atss_batch_of_coco(path: str) -> Case:
    """Assign images of one size, as many as a batch of the paper has."""
    scenes = coco_boxes(path)
    batch = [gt for size, gt in scenes if size == scenes[0][0]][:16]
    num = sum(len(gt.bboxes) for gt in batch)
    return atss_batch(batch, scenes[0][0], f'ATSS, {len(batch)} COCO images, {num} boxes')


def atss_most_crowded(path: str) -> Case:
    size, gts = max(coco_boxes(path), key=lambda scene: len(scene[1].bboxes))
    return atss_batch([gts], size, f'ATSS, the most crowded image, {len(gts.bboxes)} boxes')


def atss_nine_anchors() -> Case:
    priors, levels = pyramid(anchors=9)
    pred, gts = InstanceData(priors=priors), random_boxes(50)
    ours, peer = ATSSAssigner(topk=9), MMDetATSSAssigner(topk=81)
    return Case(
        'ATSS, #A=9, 50 boxes',
        lambda: ours.assign(pred, levels, gts),
        lambda: peer.assign(pred, levels, gts),
        lambda a, b: equal(a.gt_inds, b.gt_inds),
        goal=150,
    )


def mmdet_atss_head(assigner: dict) -> ATSSHead:
    """Return mmdet's own head with an assigner."""
    return ATSSHead(
        num_classes=80,
        in_channels=256,
        feat_channels=32,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            center_offset=0.5,
            strides=list(STRIDES),
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        train_cfg=ConfigDict(assigner=assigner, allowed_border=-1, pos_weight=-1, debug=False),
        test_cfg=ConfigDict(),
    )


def atss_in_mmdet_head(num: int, goal: float) -> Case:
    """Return the call as mmdet's head makes it: with new priors and valid flags, filtered, then assign()."""
    heads = [mmdet_atss_head(dict(type=t, topk=9)) for t in ('atss_plugin.ATSSAssigner', 'mmdet.ATSSAssigner')]
    gts, (priors, levels) = random_boxes(num), pyramid()
    inside = torch.ones(len(priors), dtype=torch.bool, device=device())

    def assign(head):
        # from ATSSHead._get_targets_single, where `anchors` is a new tensor each time
        anchors = priors[inside, :]
        return head.assigner.assign(InstanceData(priors=anchors), levels, gts, None)

    return Case(
        f"ATSS, as mmdet's ATSSHead calls it, {num} boxes",
        lambda: assign(heads[0]),
        lambda: assign(heads[1]),
        lambda a, b: equal(a.gt_inds, b.gt_inds),
        goal=goal,
    )


def spatial_scale(num: int) -> Case:
    priors, levels = pyramid()
    gts, ours = random_boxes(num), SpatialScaleAssigner()
    head = FCOSHead(num_classes=80, in_channels=256, feat_channels=32, strides=list(STRIDES))
    points = list(((priors[:, :2] + priors[:, 2:]) / 2).split(levels))

    def agree(result, targets) -> None:
        # FCOSHead takes points that are inside by more than 0 pixels, the paper's authors by more than 0.01
        distances = sides(gts.bboxes[:, None], centers(priors).double())  # (G, N, 4)
        clear = distances.abs().amin((0, 2)) > INSIDE_MARGIN
        equal(torch.where(result.labels < 0, 80, result.labels)[clear], torch.cat(targets[0])[clear])

    pred = InstanceData(priors=priors)
    return Case(
        f"SSC, against FCOSHead's targets, {num} boxes",
        lambda: ours.assign(pred, levels, gts),
        lambda: head.get_targets(points, [gts]),
        agree,
    )


def atss_dense() -> Case:
    """Assign to priors in random order within their level, which do not form grids."""
    priors, levels = pyramid()
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(num, generator=generator).to(device()) for num in levels]
    shuffled = torch.cat([p[order] for p, order in zip(priors.split(levels), orders)])
    # seed 0 has a box that is equally far from two priors, which mmdet decides by their order
    pred, gts = InstanceData(priors=shuffled), random_boxes(500, seed=1)
    ours, peer = ATSSAssigner(topk=9), MMDetATSSAssigner(topk=9)
    return Case(
        'ATSS, 500 boxes, priors that do not form grids',
        lambda: ours.assign(pred, levels, gts),
        lambda: peer.assign(pred, levels, gts),
        lambda a, b: equal(a.gt_inds, b.gt_inds),
        memory=True,
        goal=1,
    )


def loss() -> Case:
    """Run the losses forward and backward, assignment included, with B = 2 and 80 classes."""
    peer = mmdet_atss_head(dict(type='mmdet.ATSSAssigner', topk=9)).to(device())
    ours = RetinaNetHead(
        num_classes=80,
        in_channels=256,
        feat_channels=32,
        train_cfg=dict(assigner=dict(type='atss_plugin.ATSSAssigner', topk=9)),
    ).to(device())
    gts, height, width = [random_boxes(7, seed) for seed in range(2)], *IMAGE
    metas = [dict(img_shape=IMAGE, pad_shape=(800, 1344))] * 2
    generator = torch.Generator().manual_seed(0)
    maps = [
        [
            (torch.randn(2, c, h, w, generator=generator) * 0.5 + bias).to(device())
            for h, w in feature_sizes(height, width)
        ]
        for c, bias in ((80, -4.0), (4, 0.0), (1, 0.0))
    ]

    def run(head) -> Tensor:
        leaves = [[m.detach().requires_grad_() for m in level] for level in maps]
        losses = head.loss_by_feat(*leaves, gts, metas)
        total = sum(sum(v) if isinstance(v, list) else v for v in losses.values())
        total.backward()
        return torch.stack([total.detach()] + [m.grad.norm() for level in leaves for m in level])

    return Case(
        'loss_by_feat forward + backward, 2 images x 7 boxes',
        lambda: run(ours),
        lambda: run(peer),
        lambda a, b: torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6),
        goal=2.5,
    )
