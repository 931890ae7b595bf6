"""Fixed IoU thresholds: RetinaNet's positives (https://arxiv.org/abs/1708.02002, section 3.3 of the paper).

Legend: G ground truths of the batch, g of them in a chunk, N priors, B images.
"""

from typing import Tuple

import torch
from torch import Tensor

from .assignment import Assignment, finish
from .boxes import Measure, at_least_float32, centers, chunks, inside, iou, to_float64
from .ground_truths import GroundTruths


def max_iou(
    priors: Tensor,
    gts: GroundTruths,
    pos_iou_thr: float = 0.5,
    neg_iou_thr: Tuple[float, float] = (0.0, 0.4),
    in_gt_box: bool = False,
    match_low_quality: bool = True,
    measure: Measure = iou,
) -> Assignment:
    """Compare every prior with every ground truth of its image.

    A prior is positive if its IoU with its best ground truth reaches ``pos_iou_thr``, background if it is within
    ``neg_iou_thr``, and ignored otherwise.  A prior that has the highest IoU of some ground truth (ties included) is
    positive in any case, for the ground truth that is *its own* best.

    Args:
        priors (Tensor): (N, 4) xyxy in pixels.
        gts (GroundTruths): the ground truths.
        pos_iou_thr (float): the positives' least IoU.
        neg_iou_thr (tuple[float, float]): background is low <= IoU < high.
        in_gt_box (bool): Table 1's "In GT box": a positive whose centre is not inside its ground truth is ignored.
        match_low_quality (bool): False drops the last rule.
        measure (callable): takes the place of IoU.

    Raises:
        ValueError: ground truths that were collected for other priors.
    """
    gts.check_priors(priors)
    priors = at_least_float32(priors)
    dtype = torch.promote_types(priors.dtype, gts.boxes.dtype)
    # of each image, the highest IoU of every prior
    best = priors.new_full((len(gts.counts), len(priors)), -1.0, dtype=dtype)
    owner = gts.image.new_full(best.shape, len(gts.boxes))  # with which ground truth, the lowest of equal ones
    rescued = torch.zeros_like(owner)  # has the highest IoU of some ground truth
    for part in chunks(len(gts.boxes), len(priors)):
        overlap = measure(gts.boxes[part, None], priors)  # (g, N)
        image = gts.image[part, None].expand(overlap.shape)
        before, best = best, best.scatter_reduce(0, image, overlap, 'amax')
        row = torch.where(overlap == best[gts.image[part]], gts.row[part, None], gts.row[-1])
        owner = torch.where(best > before, gts.row[-1], owner).scatter_reduce_(0, image, row, 'amin')
        # a ground truth that no prior overlaps (no area, outside the image) has no best prior
        highest = overlap.amax(1, keepdim=True)
        rescued.scatter_reduce_(0, image, ((overlap == highest) & (highest > 0)).long(), 'amax')
    positive = best >= pos_iou_thr
    if match_low_quality:
        positive = positive | (rescued > 0)
    low, high = neg_iou_thr
    left_out = ~positive & ((best >= high) | ((best >= 0) & (best < low)))
    if gts.ignored is not None:
        positive = positive & ~gts.ignored.view_as(positive)
    if in_gt_box:
        boxes = torch.cat([gts.boxes, gts.boxes.new_zeros((1, 4))])[owner]  # (B, N, 4)
        outside = positive & ~inside(boxes, to_float64(centers(priors)))
        positive, left_out = positive & ~outside, left_out | outside
    owner = torch.where(positive, owner, gts.row[-1]).flatten()
    ignored = left_out.flatten() if gts.ignored is None else left_out.flatten() | gts.ignored
    return finish(owner, gts._replace(ignored=ignored), best.clamp(min=0))
