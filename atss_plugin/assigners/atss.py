"""ATSS: positives chosen for each object from the statistics of its candidates (Algorithm 1 of the paper).

Legend: N priors, G ground truths, M candidates of a ground truth, k locations a level, A anchors a location.
"""
from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import TASK_UTILS
from .base import GroundTruths, Match, PyramidAssigner
from .geometry import box_areas, box_centers, inside, positions, precise, smallest


class Candidates(NamedTuple):
    """The candidates of every ground truth and their statistics (lines 3 to 10 of Algorithm 1).

    Attributes:
        index (Tensor): (G, M) prior indices of the candidates of all levels.
        mask (Tensor): (G, M) bool, which exist: a level may have fewer than k locations.
        iou (Tensor): (G, M) IoU with the ground truth (with ``alpha``: the cost that takes its place), 0 if masked
            out.
        level (Tensor): (M,) the pyramid level of each column.
        mean (Tensor): (G,) of the IoU.
        std (Tensor): (G,) of the IoU, with n - 1; 0 for a single candidate.
        threshold (Tensor): (G,) mean + std.
    """
    index: Tensor
    mask: Tensor
    iou: Tensor
    level: Tensor
    mean: Tensor
    std: Tensor
    threshold: Tensor


@TASK_UTILS.register_module()
class ATSSAssigner(PyramidAssigner):
    """Adaptive Training Sample Selection, https://arxiv.org/abs/1912.02424, Algorithm 1.

    Unlike mmdet's assigner of the same name, ``topk`` counts locations: with A anchors a location, k x A anchors of
    each level are candidates.

    Args:
        topk (int): k, the candidate locations on each pyramid level. Defaults to 9, the paper's.
        anchors_per_location (int, optional): A. Found from the priors by default; 1 takes k anchors as mmdet does.
        iou_calculator (dict): config of the IoU calculator, which has to do aligned pairs (``is_aligned=True``).
        ignore_iof_thr (float): see :class:`PyramidAssigner`. Defaults to -1, off.
        alpha (float, optional): if given, ``sigmoid(score)^(1 - alpha) * IoU(prediction)^alpha`` takes the place of
            the IoU, as DDOD does (https://arxiv.org/abs/2107.02963); the head has to pass ``scores`` and ``bboxes``.
        min_positives (int): a ground truth with fewer positives gets its next best candidates up to this number,
            those whose centre is inside it first, by IoU; only candidates that overlap it, and not those that a
            ground truth of higher IoU claims. Beyond the paper, where a tiny object may stay without a positive.
            Defaults to 0, off.

    Raises:
        ValueError: ``topk`` < 1, ``anchors_per_location`` < 1 or ``min_positives`` < 0.
    """

    def __init__(self,
                 topk: int = 9,
                 anchors_per_location: Optional[int] = None,
                 iou_calculator: dict = dict(type='BboxOverlaps2D'),
                 ignore_iof_thr: float = -1,
                 alpha: Optional[float] = None,
                 min_positives: int = 0) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        check_at_least('min_positives', min_positives, 0)
        if anchors_per_location is not None:
            check_at_least('anchors_per_location', anchors_per_location, 1)
        self.topk = topk
        self.anchors_per_location = anchors_per_location
        self.alpha = alpha
        self.min_positives = min_positives

    def candidates(self,
                   priors: Tensor,
                   num_level_priors: Optional[Sequence[int]],
                   gt_bboxes: Tensor,
                   gt_labels: Optional[Tensor] = None,
                   predictions: Optional[InstanceData] = None) -> Candidates:
        """The candidates of ground truths (G, 4) among priors (N, 4), and their IoU threshold."""
        pyramid = self.pyramids.get(priors, num_level_priors, self.anchors_per_location)
        # "select k anchor boxes whose center are closest to the center of ground-truth box g based on L2 distance"
        index, mask, level = pyramid.nearest(box_centers(gt_bboxes), self.topk)
        iou = self._quality(priors, index, gt_bboxes, gt_labels, predictions)
        if mask is not None:
            iou = iou.masked_fill(~mask, 0)
        mean, std = mean_and_std(precise(iou), mask)
        mask = torch.ones_like(index, dtype=torch.bool) if mask is None else mask
        return Candidates(index, mask, iou, level, mean, std, mean + std)

    def _quality(self, priors: Tensor, index: Tensor, boxes: Tensor, labels: Optional[Tensor],
                 predictions: Optional[InstanceData]) -> Tensor:
        """IoU of ground truths (G, 4) with their candidates (G, M), or with ``alpha`` DDOD's cost: (G, M)."""
        pairs = boxes[:, None].expand(-1, index.size(1), -1).reshape(-1, 4)
        prior = index.flatten()
        if self.alpha is None:
            return self.pair_overlaps(priors[prior], pairs).view(index.shape)
        if predictions is None or 'scores' not in predictions or 'bboxes' not in predictions:
            raise ValueError(f'alpha={self.alpha} needs scores and bboxes in pred_instances, which this head does '
                             'not pass; use alpha=None, or a head such as DDODHead')
        overlap = self.pair_overlaps(predictions.bboxes[prior].to(boxes.dtype), pairs).view(index.shape)
        score = predictions.scores[index, labels[:, None]].to(overlap.dtype).sigmoid()
        return score**(1 - self.alpha) * overlap**self.alpha

    def match(self, priors: Tensor, num_level_priors: Optional[Sequence[int]], gts: GroundTruths,
              predictions: Optional[InstanceData] = None) -> Match:
        """Algorithm 1, lines 11 to 16, and the anchors that several objects claim."""
        c = self.candidates(priors, num_level_priors, gts.boxes, gts.labels, predictions)
        # "whose IoU are greater than or equal to the threshold"
        positive = (c.iou >= c.threshold[:, None]) & c.mask
        if self.min_positives > 0:
            positive = self._top_up(positive, c, priors, gts)
        gt, column, mask = positions(positive)
        prior, iou = c.index[gt, column], c.iou[gt, column]
        if self.min_positives == 0:
            # "limit the positive samples' center to the ground-truth box"
            is_inside = inside(box_centers(priors[prior]), gts.boxes[gt])
            mask = is_inside if mask is None else mask & is_inside
        # "If an anchor box is assigned to multiple ground-truth boxes, the one with the highest IoU will be
        # selected."
        return self.settle(gts.claims(mask, prior, gt, iou, len(priors)), iou, gts.num_images * len(priors))

    def _top_up(self, positive: Tensor, c: Candidates, priors: Tensor, gts: GroundTruths) -> Tensor:
        """``positive`` (G, M) and the next best candidates of ground truths with fewer than ``min_positives``."""
        is_inside = inside(box_centers(priors)[c.index], gts.boxes[:, None])
        eligible = c.mask & (c.iou > 0) & (box_areas(gts.boxes) > 0)[:, None]
        if gts.ignored is not None:
            eligible &= ~gts.ignored[gts.image[:, None] * len(priors) + c.index]
        positive = positive & is_inside & eligible
        rank = c.iou + 2.0 * is_inside + 4.0 * positive  # positives first, then inside, then by IoU
        best = smallest(-rank.masked_fill(~eligible, -1), precise(c.index), self.min_positives, dim=1)
        chosen = torch.zeros_like(positive).scatter_(1, best, True)
        return positive | (chosen & eligible)


def mean_and_std(values: Tensor, mask: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
    """Mean and standard deviation of the rows of (G, M), as far as they are in the mask (None: all): (G,) each.

    The deviation is that of a sample, n - 1 (RECIPE); a single value has none: its threshold is itself.  The mean of
    equal values is that value, exactly, so that all of them reach it.
    """
    if mask is None and values.size(1) > 1:
        std, mean = torch.std_mean(values, dim=1)
        return mean, std
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    count, highest = mask.sum(1), values.amax(1)
    mean = highest + (values - highest[:, None]).masked_fill(~mask, 0).sum(1) / count
    deviation = (values - mean[:, None]).masked_fill(~mask, 0)
    return mean, (deviation.square().sum(1) / (count - 1).clamp(min=1)).sqrt()


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise a ValueError that names the argument if it is no whole number of at least ``least``."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f'{name} must be a whole number of at least {least}, not {value!r}')
