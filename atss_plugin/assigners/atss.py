"""ATSS: positives chosen for each object from the statistics of its candidates (Algorithm 1 of the paper).

Legend: N priors, G ground truths, M candidates of a ground truth, k locations a level, A anchors a location.
"""

from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import TASK_UTILS
from .arrays import Array, gather, library, positions, precise, to_array, to_tensor
from .base import GroundTruths, Match, PyramidAssigner, checked_priors, collect
from .geometry import box_areas, box_centers, corners, inside
from .pyramid import Nearest, Pyramid


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

    def __init__(
        self,
        topk: int = 9,
        anchors_per_location: Optional[int] = None,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
        ignore_iof_thr: float = -1,
        alpha: Optional[float] = None,
        min_positives: int = 0,
    ) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        check_at_least('min_positives', min_positives, 0)
        if anchors_per_location is not None:
            check_at_least('anchors_per_location', anchors_per_location, 1)
        self.topk = topk
        self.anchors_per_location = anchors_per_location
        self.alpha = alpha
        self.min_positives = min_positives

    @torch.no_grad()
    def candidates(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        gt_bboxes: Tensor,
        gt_labels: Optional[Tensor] = None,
        predictions: Optional[InstanceData] = None,
    ) -> Candidates:
        """Return the candidates of ground truths (G, 4) among priors (N, 4), and their IoU threshold."""
        gts = InstanceData(bboxes=gt_bboxes) if gt_labels is None else InstanceData(bboxes=gt_bboxes, labels=gt_labels)
        priors = checked_priors(priors)
        with np.errstate(all='ignore'):
            pyramid = self.pyramids.get(priors, num_level_priors, self.anchors_per_location)
            near, iou, mean, std = self._candidates(pyramid, collect([gts], priors), predictions)
        mask = near.index >= 0 if near.mask is None else near.mask
        index, mask, iou, level, *statistics = (
            to_tensor(a) for a in (near.index.T, mask.T, iou.T, near.level, mean, std, mean + std)
        )
        return Candidates(index, mask, iou, level.clone(), *statistics)

    def _candidates(
        self, pyramid: Pyramid, gts: GroundTruths, predictions: Optional[InstanceData]
    ) -> Tuple[Nearest, Array, Array, Array]:
        """Return the candidates, their IoU (M, G), and its mean and standard deviation (G,)."""
        # "select k anchor boxes whose center are closest to the center of ground-truth box g based on L2 distance"
        near = pyramid.nearest(box_centers(gts.corners), self.topk)
        iou = self._quality(pyramid, near.index, gts, predictions)
        if near.mask is not None:
            iou = iou * near.mask
        return (near, iou, *mean_and_std(precise(iou), near.mask))

    def _quality(self, pyramid: Pyramid, index: Array, gts: GroundTruths, predictions: Optional[InstanceData]) -> Array:
        """IoU of ground truths with their candidates (M, G), or with ``alpha`` DDOD's cost: (M, G)."""
        if self.alpha is None:
            return self.pair_overlaps(
                gather(pyramid.corners, index), gather(pyramid.areas, index), gts.corners[:, :, None]
            )
        if predictions is None or 'scores' not in predictions or 'bboxes' not in predictions:
            raise ValueError(
                f'alpha={self.alpha} needs scores and bboxes in pred_instances, which this head does '
                'not pass; use alpha=None, or a head such as DDODHead'
            )
        boxes = gather(to_array(corners(predictions.bboxes.to(gts.boxes.dtype))), index)
        overlap = self.pair_overlaps(boxes, box_areas(boxes), gts.corners[:, :, None])
        score = predictions.scores[to_tensor(index), to_tensor(gts.labels)]  # half precision is nothing for NumPy
        score = to_array(score.to(gts.boxes.dtype).sigmoid())
        return score ** (1 - self.alpha) * overlap**self.alpha

    def match(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        gts: GroundTruths,
        predictions: Optional[InstanceData] = None,
    ) -> Match:
        """Algorithm 1, lines 11 to 16, and the anchors that several objects claim."""
        pyramid = self.pyramids.get(priors, num_level_priors, self.anchors_per_location)
        near, iou, mean, std = self._candidates(pyramid, gts, predictions)
        # "whose IoU are greater than or equal to the threshold"
        positive = iou >= mean + std
        if near.mask is not None:
            positive &= near.mask
        if self.min_positives > 0:
            positive = self._top_up(positive, iou, near, pyramid, gts)
        (row, gt), mask = positions(positive)
        prior, iou = near.index[row, gt], iou[row, gt]
        if self.min_positives == 0:
            # "limit the positive samples' center to the ground-truth box"
            is_inside = inside(gather(pyramid.centers, prior), gather(gts.corners, gt))
            mask = is_inside if mask is None else mask & is_inside
        # "If an anchor box is assigned to multiple ground-truth boxes, the one with the highest IoU will be
        # selected."
        return Match(prior, gt, iou, mask)

    def _top_up(self, positive: Array, iou: Array, near: Nearest, pyramid: Pyramid, gts: GroundTruths) -> Array:
        """``positive`` (M, G) and the next best candidates of ground truths with fewer than ``min_positives``."""
        lib = library(iou)
        is_inside = inside(gather(pyramid.centers, near.index), gts.corners[:, :, None])
        eligible = (iou > 0) & (box_areas(precise(gts.corners)) > 0)
        if near.mask is not None:
            eligible &= near.mask
        if gts.ignored is not None:
            eligible &= ~gts.ignored[gts.first_slot + near.index]
        positive = positive & is_inside & eligible
        # positives first, then inside, then by IoU; the others last
        rank = (precise(iou) + 2.0 * is_inside + 4.0 * positive) * eligible - 1.0 * ~eligible
        best = lib.smallest(-rank, precise(near.index), self.min_positives)
        row = lib.arange(len(iou), iou)[:, None, None]
        return positive | ((best == row).any(1) & eligible)


def mean_and_std(values: Array, mask: Optional[Array]) -> Tuple[Array, Array]:
    """Mean and standard deviation of the columns of (M, G), as far as they are in the mask (None: all): (G,) each.

    The deviation is that of a sample, n - 1 (RECIPE); a single value has none: its threshold is itself.  The mean of
    equal values is that value, exactly, so that all of them reach it.
    """
    if mask is None:
        return library(values).mean_and_std(values) if len(values) > 1 else (values[0], 0 * values[0])
    count, highest = mask.sum(0), library(values).amax(values * mask, 0)
    mean = highest + ((values - highest) * mask).sum(0) / count
    deviation = (values - mean) * mask
    return mean, ((deviation * deviation).sum(0) / (count - 1).clip(1)) ** 0.5


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise a ValueError that names the argument if it is no whole number of at least ``least``."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f'{name} must be a whole number of at least {least}, not {value!r}')
