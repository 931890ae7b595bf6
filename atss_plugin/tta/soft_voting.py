"""Soft voting: one set of detections from those of several views of an image (Table 8, multi-scale testing).

Legend: D detections of all views of one image, E pairs of detections of one class that overlap.
Boxes are [x1, y1, x2, y2] in pixels, continuous (width = x2 - x1).
"""

from typing import Optional, Tuple

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

# How many IoUs are in memory at once: few enough for a CPU's cache (2**22 takes twice the time).
_MAX_PAIRS = 2**18


def within_size_range(
    boxes: Tensor, size_range: Optional[Tuple[float, float]], scale_factor: Tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """Return which boxes have a size that their scale is trusted with.

    Args:
        boxes: (D, 4), in pixels of the original image.
        size_range: Smallest and largest sqrt(area) in pixels of the resized image, bounds excluded; None for any.
        scale_factor: Width and height of the resized image, in those of the original one.

    Returns:
        (D,), bool.
    """
    if size_range is None:
        return torch.ones_like(boxes[:, 0], dtype=torch.bool)
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).unbind(1)
    size = (width * scale_factor[0] * height * scale_factor[1]).sqrt()
    return (size > size_range[0]) & (size < size_range[1])


def soft_voting(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_thr: float = 0.66,
    score_thr: float = 0.05,
    max_per_img: int = 1000,
) -> Tuple[Tensor, Tensor, Tensor]:
    """Merge detections class by class.

    Taken by falling score, a detection and the remaining ones of its class with IoU >= ``iou_thr`` to it
    form a group. A group gives the score-weighted mean of its boxes with its highest score, and besides each
    further member with its score x (1 - its IoU to the best), if that is >= ``score_thr``. Among equal
    scores the detection that comes first in the input is the better one.

    Args:
        boxes: (D, 4), in one frame.
        scores: (D,), in [0, 1].
        labels: (D,).
        iou_thr: From what overlap with the best a detection belongs to its group.
        score_thr: What score the further members need.
        max_per_img: How many results are kept, the best ones.

    Returns:
        Boxes (R, 4), scores (R,) and labels (R,) by falling score, R <= ``max_per_img``.
    """
    scores, order = scores.sort(descending=True, stable=True)
    boxes, labels = boxes[order], labels[order]
    best = _best_of_group(boxes, labels, iou_thr)
    is_best = best == torch.arange(len(best), device=best.device)

    total = torch.zeros_like(scores).index_add(0, best, scores)
    mean = torch.zeros_like(boxes).index_add(0, best, boxes * scores[:, None]) / total[:, None]
    # A group of one is kept as it is, to the last bit; so is one of zero scores, which has no weighted mean.
    alone = (torch.bincount(best, minlength=len(best)) < 2) | (total == 0)
    voted = torch.where(alone[:, None], boxes, mean)

    softened = scores * (1 - bbox_overlaps(boxes, boxes[best], is_aligned=True))
    again = ~is_best & (softened >= score_thr)  # the best itself would come again with score x (1 - 1)
    scores, order = torch.cat([scores[is_best], softened[again]]).sort(descending=True, stable=True)
    order = order[:max_per_img]
    return (
        torch.cat([voted[is_best], boxes[again]])[order],
        scores[:max_per_img],
        torch.cat([labels[is_best], labels[again]])[order],
    )


def _best_of_group(boxes: Tensor, labels: Tensor, iou_thr: float) -> Tensor:
    """Return for each detection (D,) the index of the best of its group; detections come by falling score."""
    better, worse = _overlapping_pairs(boxes, labels, iou_thr)  # (E,), (E,)
    # Greedy grouping, all at once: a detection is the best of a group unless a better one that overlaps it
    # is. Each round settles at least the first unsettled detection; the rounds end when nothing changes.
    is_best = torch.ones_like(labels, dtype=torch.bool)
    while True:
        taken = torch.zeros_like(is_best).index_fill(0, worse[is_best[better]], True)
        if torch.equal(is_best, ~taken):
            break
        is_best = ~taken
    itself = torch.arange(len(labels), device=labels.device)
    of_best = is_best[better]
    # Of several bests that overlap a detection, the first took it.
    return itself.scatter_reduce(0, worse[of_best], better[of_best], 'amin')


def _overlapping_pairs(boxes: Tensor, labels: Tensor, iou_thr: float) -> Tuple[Tensor, Tensor]:
    """Return every two detections of one class that overlap: indices (E,) of the former, (E,) of the latter."""
    pairs = [labels.new_zeros((0, 2), dtype=torch.long)]
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        candidates = boxes[members]
        rows = max(1, _MAX_PAIRS // len(members))
        for start in range(0, len(members), rows):
            # Only the later ones can be worse.
            ious = bbox_overlaps(candidates[start : start + rows], candidates[start:])
            former, latter = (ious >= iou_thr).nonzero().unbind(1)
            pair = torch.stack([members[start + former], members[start + latter]], dim=1)
            pairs.append(pair[former < latter])
    former, latter = torch.cat(pairs).unbind(1)
    return former, latter
