"""ATSS: positives chosen for each object from the statistics of its candidates (Algorithm 1 of arXiv:1912.02424).

Legend: G ground truths, M candidates of a ground truth.
"""

from typing import Callable, List, NamedTuple, Optional

import torch
from torch import Tensor

from .assignment import Assignment, to_highest
from .boxes import Measure, areas, centers, inside, iou, rows, to_float64, topk_smallest
from .ground_truths import GroundTruths
from .nearest import nearest
from .pyramid import Pyramid

# What takes the place of the IoU of the candidates: prior indices (G, M) to numbers (G, M).
Quality = Callable[[Tensor], Tensor]


class Candidates(NamedTuple):
    """The candidates of every ground truth and their statistics (lines 3 to 10 of Algorithm 1).

    Attributes:
        prior (Tensor): (G, M) prior indices of the candidates of all levels.
        iou (Tensor): (G, M) IoU with the ground truth, or what takes its place.
        level (list[int]): the pyramid level of each of the M.
        mean, std (Tensor): (G,) of the IoU, in float64; the deviation is that of a sample, n - 1.
    """

    prior: Tensor
    iou: Tensor
    level: List[int]
    mean: Tensor
    std: Tensor

    @property
    def threshold(self) -> Tensor:
        """(G,) mean + standard deviation."""
        return self.mean + self.std


def find_candidates(
    pyramid: Pyramid, gts: GroundTruths, topk: int = 9, measure: Measure = iou, quality: Optional[Quality] = None
) -> Candidates:
    """Return the candidates: lines 1 to 10 of Algorithm 1. Arguments as of :func:`atss`."""
    # Lines 3 to 6: "select k anchor boxes whose center are closest to the center of ground-truth box g based on L2
    # distance", on each pyramid level.
    index, level = nearest(pyramid, centers(gts.boxes), topk)
    # Line 7: the IoU between the candidates and g.
    overlap = measure(gts.boxes[:, None], rows(pyramid.priors, index)) if quality is None else quality(index)
    # Lines 8 and 9: its mean and standard deviation. A single candidate has no deviation: its threshold is its IoU.
    exact = to_float64(overlap)
    std, mean = torch.std_mean(exact, 1) if len(level) > 1 else (torch.zeros_like(exact[:, 0]), exact[:, 0])
    return Candidates(index, overlap, level, mean, std)


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
        quality (callable, optional): takes its place for the candidates (G, M), whatever the boxes.
        min_positives (int): a ground truth with fewer gets its next best candidates; beyond the paper.
    """
    candidates = find_candidates(pyramid, gts, topk, measure, quality)
    # Line 10: the threshold t = mean + standard deviation.
    threshold = candidates.threshold[:, None]
    # Lines 11 to 15: "whose IoU are greater than or equal to the threshold" and "limit the positive samples' center to
    # the ground-truth box".
    centered = inside(gts.boxes[:, None], rows(pyramid.centers, candidates.prior))
    positive = (candidates.iou >= threshold) & centered
    if min_positives > 0:
        positive = top_up(positive, centered, candidates, gts, min_positives)
    # "If an anchor box is assigned to multiple ground-truth boxes, the one with the highest IoU will be selected."
    return to_highest(candidates.prior, candidates.iou, positive, gts)


def top_up(positive: Tensor, centered: Tensor, candidates: Candidates, gts: GroundTruths, least: int) -> Tensor:
    """Return ``positive`` (G, M) and the next best candidates of ground truths that have fewer than ``least``.

    Those whose centre is inside come first, then by IoU; only candidates that overlap a ground truth of some area.
    """
    index, overlap = candidates.prior, to_float64(candidates.iou)
    eligible = (overlap > 0) & (areas(to_float64(gts.boxes)) > 0)[:, None]
    if gts.ignored is not None:
        eligible &= ~gts.ignored[gts.first_slot[:-1, None] + index]
    positive = positive & eligible
    # the positives come first, then those inside, then by IoU, and what is not eligible last
    rank = torch.where(eligible, overlap + 2.0 * centered + 4.0 * positive, -1.0)
    best = topk_smallest(-rank, to_float64(index), min(least, index.size(1)))
    return positive | (torch.zeros_like(positive).scatter_(1, best, True) & eligible)
