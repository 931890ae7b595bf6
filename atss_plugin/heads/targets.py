"""From an assignment to training targets.

Legend: N priors of an image, B images, P priors looked at (the positives, or all).
"""

from inspect import signature
from typing import List, Optional, Union

import torch
from mmdet.models.task_modules import BaseAssigner
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from ..assigners import BatchAssignment
from ..compiling import uncompiled


@uncompiled  # how priors are assigned depends on the data
def assign_images(
    assigner: BaseAssigner,
    priors: Tensor,
    num_level_priors: List[int],
    batch_gt_instances: List[InstanceData],
    batch_gt_instances_ignore: Optional[List[InstanceData]],
) -> BatchAssignment:
    """Assign the priors (N, 4) for all images: in one go by our assigners, one by one by mmdet's."""
    if hasattr(assigner, 'assign_batch'):
        return assigner.assign_batch(priors, num_level_priors, batch_gt_instances, batch_gt_instances_ignore)
    levels = dict(num_level_priors=num_level_priors) if takes_levels(assigner) else {}
    ignores = batch_gt_instances_ignore or [None] * len(batch_gt_instances)
    results = [
        assigner.assign(InstanceData(priors=priors), gt_instances=gt, gt_instances_ignore=ignore, **levels)
        for gt, ignore in zip(batch_gt_instances, ignores)
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
