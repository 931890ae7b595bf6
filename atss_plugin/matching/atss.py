"""ATSS: positives chosen for each object from the statistics of its candidates (Algorithm 1 of arXiv:1912.02424).

Legend: G ground truths, M candidates of a ground truth.
"""

from typing import Callable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .assignment import Assignment, to_highest
from .boxes import Measure, centers, has_area, inside, iou, rows, to_float64, topk_smallest
from .ground_truths import GroundTruths
from .nearest import nearest
from .pyramid import Pyramid

# What takes the place of the IoU of the candidates: prior indices (G, M) to numbers (G, M).
Quality = Callable[[Tensor], Tensor]


class Candidates(NamedTuple):
    """The candidates of every ground truth and their statistics.

    Attributes:
        prior (Tensor): (G, M) prior indices of the candidates of all levels.
        iou (Tensor): (G, M) IoU with the ground truth, or what takes its place.
        reaches (Tensor): (G, M) bool, whether it is at least the threshold.
        inside (Tensor): (G, M) bool, whether the candidate's centre is inside the ground truth.
        level (tuple[int]): the pyramid level of each of the M.
        first (Tensor): (G, 1) float64, the IoU of the first candidate.
        mean_difference (Tensor): (G,) float64, the mean of what the candidates' IoUs have more than the first.
        std (Tensor): (G,) float64, the standard deviation of the IoU: that of a sample, n - 1; 0 for a single one.
    """

    prior: Tensor
    iou: Tensor
    reaches: Tensor
    inside: Tensor
    level: Tuple[int, ...]
    first: Tensor
    mean_difference: Tensor
    std: Tensor

    @property
    def mean(self) -> Tensor:
        """(G,) the mean of the IoU."""
        return self.first[:, 0] + self.mean_difference

    @property
    def threshold(self) -> Tensor:
        """(G,) mean + standard deviation."""
        return self.mean + self.std


def find_candidates(
    pyramid: Pyramid, gts: GroundTruths, topk: int = 9, measure: Measure = iou, quality: Optional[Quality] = None
) -> Candidates:
    """Run lines 1 to 12 of Algorithm 1. Arguments as of :func:`atss`."""
    gts.check_priors(pyramid.priors)
    # Lines 3 to 6: "select k anchor boxes whose center are closest to the center of ground-truth box g based on L2
    # distance", on each pyramid level.
    prior, level = nearest(pyramid, centers(gts.boxes), topk)
    boxes = gts.boxes[:, None]
    anchors, middle = rows(pyramid.priors_and_centers, prior).split([4, 2], -1)
    # Line 7: the IoU between the candidates and g.
    overlap = measure(boxes, anchors) if quality is None else quality(prior)
    # Lines 8 and 9: its mean and standard deviation, of the differences from the first: equal IoUs then equal their
    # mean, to the last bit. A single candidate has no deviation: its threshold is its IoU.
    first = to_float64(overlap[:, :1])
    difference = overlap - first
    std, mean = torch.std_mean(difference, 1, unbiased=len(level) > 1)
    # Lines 10 to 12: the threshold t = mean + standard deviation, and "whose IoU are greater than or equal to the
    # threshold"; "limit the positive samples' center to the ground-truth box".
    reaches = difference >= (mean + std)[:, None]
    return Candidates(prior, overlap, reaches, inside(boxes, middle), level, first, mean, std)


def atss(
    pyramid: Pyramid,
    gts: GroundTruths,
    topk: int = 9,
    measure: Measure = iou,
    quality: Optional[Quality] = None,
    min_positives: int = 0,
) -> Assignment:
    """Adaptive Training Sample Selection, Algorithm 1.

    Args:
        pyramid (Pyramid): the priors.
        gts (GroundTruths): the ground truths.
        topk (int): k, locations on each level: with A anchors per location, k x A anchors are candidates.
        measure (callable): takes the place of IoU.
        quality (callable, optional): of the candidates' prior indices (G, M), what takes the place of their IoU.
        min_positives (int): a ground truth with fewer gets its next best candidates; beyond the paper.

    Raises:
        ValueError: ground truths that were collected for other priors, as in all definitions.
    """
    candidates = find_candidates(pyramid, gts, topk, measure, quality)
    # Line 13
    positive = candidates.reaches & candidates.inside
    if min_positives > 0:
        positive = top_up(positive, candidates, gts, min_positives)
    # "If an anchor box is assigned to multiple ground-truth boxes, the one with the highest IoU will be selected."
    return to_highest(candidates.prior, candidates.iou, positive, gts)


def top_up(positive: Tensor, candidates: Candidates, gts: GroundTruths, least: int) -> Tensor:
    """Return ``positive`` (G, M) and the next best candidates of ground truths that have fewer than ``least``.

    Those whose centre is inside come first, then by IoU; only candidates that overlap a ground truth of some area.
    """
    index, overlap = candidates.prior, to_float64(candidates.iou)
    eligible = (overlap > 0) & has_area(gts.boxes)[:, None]
    if gts.ignored is not None:
        eligible &= ~gts.ignored[gts.first_slot[:-1, None] + index]
    positive = positive & eligible
    # the positives come first, then those inside, then by IoU, and what is not eligible last
    rank = torch.where(eligible, overlap + 2.0 * candidates.inside + 4.0 * positive, -1.0)
    best = topk_smallest(-rank, to_float64(index), min(least, index.size(1)))
    return positive | (torch.zeros_like(positive).scatter_(1, best, True) & eligible)
