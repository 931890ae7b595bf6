"""SimOTA: the k cheapest predictions of an object, k being the sum of its highest IoUs (YOLOX, arXiv:2107.08430).

Legend: G ground truths of the batch, g of them in a chunk, N priors, B images, q candidates of a ground truth.
"""

from typing import NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from .assignment import Assignment, counted, finish, new_owners, to_lowest
from .boxes import Measure, centers, chunks, from_host, has_area, iou, sides, to_float64, topk_smallest
from .ground_truths import GroundTruths
from .predictions import Predictions, pairs, predicted_overlaps, sum_of_negatives
from .pyramid import Pyramid, check_one_per_level

# What a prior that is not both inside an object and near its centre costs besides; more than any other cost.
OUTSIDE = 1e5
EPS = 1e-7  # keeps the logarithm of an IoU of 0 finite
LEAST_LOG = -100.0  # as in torch's binary cross entropy


class Best(NamedTuple):
    """Of every prior of every image the lowest cost of all ground truths, and whose it is, (B, N) each."""

    cost: Tensor
    owner: Tensor


def simota(
    pyramid: Pyramid,
    gts: GroundTruths,
    predictions: Predictions,
    center_radius: float = 2.5,
    candidate_topk: int = 10,
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
    strides: Sequence[float] = (8, 16, 32, 64, 128),
    measure: Measure = iou,
) -> Assignment:
    """Give every object its k cheapest predictions, where k is the sum of its ``candidate_topk`` highest IoUs.

    A prediction costs the binary cross entropy of its scores with the object's class and ``iou_weight`` times
    -log(IoU).  Its point has to be inside some object of the image or within ``center_radius`` strides of some object's
    centre; for an object of which it is not both, it costs :data:`OUTSIDE` more.  A prior that several objects choose
    goes to the object of the image for which it is cheapest, as in the original.

    Args:
        pyramid (Pyramid): the priors.
        gts (GroundTruths): the ground truths.
        predictions (Predictions): what the model predicts.
        center_radius (float): half the side of the square around the centre, in strides.
        candidate_topk (int): q, how many IoUs are summed; k is at least 1 and at most q.
        iou_weight, cls_weight (float): the weights of the two costs.
        strides (sequence): the stride of each level in pixels.
        measure (callable): takes the place of IoU.

    Raises:
        ValueError: another number of strides than of levels.
    """
    gts.check_priors(pyramid.priors)
    check_one_per_level('strides', strides, pyramid)
    points = pyramid.points
    reach = center_radius * to_float64(from_host(strides, points.device, torch.float32))[pyramid.levels, None]  # (N, 1)
    # unlike mmdet's, a box of no area has no positive, and makes no prior a candidate
    exists = has_area(gts.boxes)[:, None]
    valid = _valid(gts, points, reach, exists)
    negatives = sum_of_negatives(_background(predictions.scores))
    best = Best(points.new_full(valid.shape, float('inf')), gts.image.new_full(valid.shape, len(gts.boxes)))
    number = torch.arange(len(points), dtype=points.dtype, device=points.device)
    num = min(candidate_topk, len(points))
    found = []
    for part in chunks(len(gts.boxes), 4 * len(points)):
        overlap, score = pairs(predictions, gts, part, measure)
        image = gts.image[part]
        classification = negatives[image] - to_float64(_background(score) + score.log().clamp(min=LEAST_LOG))
        cost = cls_weight * classification - iou_weight * torch.log(to_float64(overlap) + EPS)
        cost = cost + OUTSIDE * ~torch.logical_and(*_near(gts.boxes[part], points, reach))
        cost = torch.where(valid[image] & exists[part], cost, float('inf'))
        best = _update(best, cost, gts, part)
        # dynamic k: "the sum of these IoU values represents the estimated number of positives"
        k = torch.where(valid[image], overlap, 0.0).topk(num).values.sum(1).int().clamp(min=1)
        found.append(_cheapest(cost, number, k, num))
    prior, positive = (torch.cat(column) for column in zip(*found))
    owner = _settle(prior, positive, best, gts)
    return finish(owner, gts, predicted_overlaps(predictions, gts, owner, measure))


def _background(score: Tensor) -> Tensor:
    """Return the binary cross entropy of probabilities (...) with a target of 0."""
    return -torch.log1p(-score).clamp(min=LEAST_LOG)


def _near(boxes: Tensor, points: Tensor, reach: Tensor) -> Tuple[Tensor, Tensor]:
    """Return which points (N, 2) are inside of boxes (g, 4), and within reach (N, 1) of their centres, (g, N) each."""
    distance = (points - to_float64(centers(boxes))[:, None]).abs()
    return sides(boxes[:, None], points).amin(-1) > 0, (distance < reach).all(-1)


def _valid(gts: GroundTruths, points: Tensor, reach: Tensor, exists: Tensor) -> Tensor:
    """Return which priors (B, N) are inside of some object (G, 1) of the image that exists, or near its centre."""
    valid = gts.image.new_zeros((len(gts.counts), len(points)))
    for part in chunks(len(gts.boxes), 4 * len(points)):
        candidate = torch.logical_or(*_near(gts.boxes[part], points, reach)) & exists[part]
        valid.scatter_reduce_(0, gts.image[part, None].expand(candidate.shape), candidate.long(), 'amax')
    return valid > 0


def _update(best: Best, cost: Tensor, gts: GroundTruths, part: slice) -> Best:
    """Return the lowest costs when those of some more ground truths (g, N) are known; of equal ones the lower's."""
    image = gts.image[part, None].expand(cost.shape)
    lowest = best.cost.scatter_reduce(0, image, cost, 'amin')
    row = torch.where(cost == lowest[gts.image[part]], gts.row[part, None], gts.row[-1])
    owner = torch.where(lowest < best.cost, gts.row[-1], best.owner)
    return Best(lowest, owner.scatter_reduce_(0, image, row, 'amin'))


def _cheapest(cost: Tensor, number: Tensor, k: Tensor, num: int) -> Tuple[Tensor, Tensor]:
    """Return the ``num`` cheapest priors of every row (g, num), and which of them are among its k (g,) cheapest."""
    prior = topk_smallest(cost, number, num).sort(1).values
    cost, order = cost.gather(1, prior).sort(dim=1, stable=True)  # of equal costs the lower prior
    rank = torch.arange(num, device=cost.device)
    return prior.gather(1, order), (rank < k[:, None]) & (cost < float('inf'))


def _settle(prior: Tensor, positive: Tensor, best: Best, gts: GroundTruths) -> Tensor:
    """Return the owners (B * N,): who alone claims a prior, or for whom of the image it is cheapest."""
    slot, row = counted(prior, positive, gts, gts.row[:-1, None])
    alone = new_owners(gts)
    to_lowest(alone, slot, row)
    claims = torch.zeros_like(alone).scatter_add_(0, slot.flatten(), torch.ones_like(slot.flatten()))
    return torch.where(claims[:-1] > 1, best.owner.flatten(), alone[:-1])
