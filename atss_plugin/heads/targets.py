"""From an assignment to training targets.

Legend: N priors of an image, B images, C classes, P priors looked at (the positives, or all).
"""

from inspect import signature
from typing import Callable, List, Optional, Sequence, Union

import torch
from mmdet.models.task_modules import BaseAssigner, DynamicSoftLabelAssigner, SimOTAAssigner, TaskAlignedAssigner
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from ..assigners import BatchAssignment
from ..compiling import uncompiled

# What mmdet's assigners that look at predictions are given by the heads they were made for: priors as points with
# strides (x, y, stride x, stride y) or as boxes, and scores as probabilities or as logits.
MMDET_PREDICTIONS = {
    SimOTAAssigner: ('points', 'scores'),
    DynamicSoftLabelAssigner: ('points', 'logits'),
    TaskAlignedAssigner: ('boxes', 'scores'),
}


def needs_predictions(assigner: BaseAssigner) -> bool:
    """Return whether an assigner, ours or mmdet's, looks at what the model predicts."""
    return getattr(assigner, 'needs_predictions', False) or isinstance(assigner, tuple(MMDET_PREDICTIONS))


@uncompiled  # InstanceData are not tensors
@torch.no_grad()
def predict_all(logits: Tensor, deltas: Tensor, priors: Tensor, decode: Callable) -> List[InstanceData]:
    """Return what the model predicts for every prior, for assigners that look at it; without a gradient.

    Args:
        logits (Tensor): (B, N, C).
        deltas (Tensor): (B, N, 4).
        priors (Tensor): (N, 4).
        decode (callable): priors (P, 4) and deltas (P, 4) to boxes (P, 4).

    Returns:
        list[InstanceData]: ``bboxes`` (N, 4) decoded, xyxy in pixels, ``scores`` (N, C), the probabilities of the
        classification alone, and ``logits`` (N, C) of each image.
    """
    boxes = decode(priors.repeat(len(deltas), 1), deltas.detach().flatten(0, 1)).view_as(deltas)
    logits = logits.detach()
    return [
        InstanceData(bboxes=box, scores=score, logits=logit)
        for box, score, logit in zip(boxes, logits.sigmoid(), logits)
    ]


@uncompiled  # how priors are assigned depends on the data
def assign_images(
    assigner: BaseAssigner,
    priors: Tensor,
    num_level_priors: List[int],
    batch_gt_instances: List[InstanceData],
    batch_gt_instances_ignore: Optional[List[InstanceData]],
    predictions: Optional[List[InstanceData]] = None,
    strides: Sequence[tuple] = (),
) -> BatchAssignment:
    """Assign the priors (N, 4) for all images: in one go by our assigners, one by one by mmdet's.

    Args:
        assigner (BaseAssigner): of either kind.
        priors (Tensor): (N, 4) xyxy in pixels, level by level.
        num_level_priors (list[int]): the priors of each level.
        batch_gt_instances (list[InstanceData]): ``bboxes`` and ``labels`` of each image.
        batch_gt_instances_ignore (list[InstanceData], optional): ``bboxes`` to be ignored of each image.
        predictions (list[InstanceData], optional): :func:`predict_all`, for assigners that look at them.
        strides (sequence[tuple]): (x, y) of each level, for those of mmdet's that take points with strides.
    """
    if hasattr(assigner, 'assign_batch'):
        return assigner.assign_batch(
            priors, num_level_priors, batch_gt_instances, batch_gt_instances_ignore, predictions
        )
    given = mmdet_instances(assigner, priors, num_level_priors, predictions, strides)
    levels = dict(num_level_priors=num_level_priors) if takes_levels(assigner) else {}
    ignores = batch_gt_instances_ignore or [None] * len(batch_gt_instances)
    results = [
        assigner.assign(pred, gt_instances=gt, gt_instances_ignore=ignore, **levels)
        for pred, gt, ignore in zip(given or [InstanceData(priors=priors)] * len(ignores), batch_gt_instances, ignores)
    ]
    gt_inds = torch.stack([r.gt_inds for r in results])
    labels = torch.stack([r.labels for r in results])
    boxes = torch.cat([get_box_tensor(gt.bboxes) for gt in batch_gt_instances])
    first = [sum(len(gt.bboxes) for gt in batch_gt_instances[:i]) for i in range(len(results))]
    owner = torch.stack(
        [torch.where(r.gt_inds > 0, r.gt_inds - 1 + start, len(boxes)) for r, start in zip(results, first)]
    )
    return BatchAssignment(gt_inds, labels, owner, boxes, priors)


def takes_levels(assigner: BaseAssigner) -> bool:
    """Return whether an assigner wants to be told the priors of each level, as mmdet's ATSSHead does."""
    return 'num_level_priors' in signature(assigner.assign).parameters


def mmdet_instances(
    assigner: BaseAssigner,
    priors: Tensor,
    num_level_priors: List[int],
    predictions: Optional[List[InstanceData]],
    strides: Sequence[tuple],
) -> Optional[List[InstanceData]]:
    """Return the ``pred_instances`` of each image as one of mmdet's assigners expects them; None if it needs none.

    Raises:
        ValueError: it looks at predictions, and there are none.
    """
    kinds = next((kinds for kind, kinds in MMDET_PREDICTIONS.items() if isinstance(assigner, kind)), None)
    if kinds is None:
        return None
    if predictions is None:
        raise ValueError(
            f'{type(assigner).__name__} looks at predictions: give bboxes and scores of each image, as OneStageHead '
            'does'
        )
    shape, scores = kinds
    if shape == 'points':
        steps = [priors.new_tensor(stride).expand(n, 2) for stride, n in zip(strides, num_level_priors)]
        priors = torch.cat([(priors[:, :2] + priors[:, 2:]) / 2, torch.cat(steps)], 1)
    return [InstanceData(priors=priors, bboxes=p.bboxes, scores=p[scores]) for p in predictions]


def box_loss_rows(positive: Tensor) -> Union[Tensor, slice]:
    """Return the rows of a flat batch that the box losses look at: the positives.

    On an accelerator counting them would make the host wait, and all rows are looked at, the others with weight 0.
    Without a positive one row is looked at, so that all parameters have a gradient: mmdet's IoU of no boxes has none.
    """
    if positive.device.type != 'cpu':
        return slice(None)
    rows = positive.nonzero().squeeze(1)
    return rows if len(rows) else slice(0, 1)


def centerness_targets(priors: Tensor, boxes: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of the centres of priors (P, 4) in boxes (P, 4): (P,).

    0 for a centre outside its box, which happens where "in GT box" is not ticked.
    """
    center = (priors[:, :2] + priors[:, 2:]) / 2
    before, after = (center - boxes[:, :2]).clamp(min=0), (boxes[:, 2:] - center).clamp(min=0)
    ratio = torch.minimum(before, after) / torch.maximum(before, after).clamp(min=torch.finfo(boxes.dtype).eps)
    return ratio.prod(-1).sqrt()
