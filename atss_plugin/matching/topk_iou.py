"""TOPK, the authors' fourth sample definition, which no table of the paper uses.

Legend: G ground truths of the batch, g of them in a chunk, N priors, k anchors of a ground truth.
"""

import torch
from torch import Tensor

from .assignment import Assignment, to_highest
from .boxes import Measure, at_least_float32, centers, chunks, inside, iou, to_float64, topk_smallest
from .ground_truths import GroundTruths


def topk_iou(priors: Tensor, gts: GroundTruths, topk: int = 9, measure: Measure = iou) -> Assignment:
    """Take the k anchors of highest IoU with an object, over all levels, whose centre is inside it.

    Among equal IoUs the nearer anchor is preferred: the order is by IoU - d / (1000 d_max), with d the distance
    between the centres and d_max the largest such distance in the image.  An anchor claimed twice goes to the highest
    IoU.

    Args:
        priors (Tensor): (N, 4) xyxy in pixels.
        gts (GroundTruths): the ground truths.
        topk (int): k, anchors over all levels.
        measure (callable): takes the place of IoU.

    Raises:
        ValueError: ground truths that were collected for other priors.
    """
    gts.check_priors(priors)
    priors = at_least_float32(priors)
    points, middle = to_float64(centers(priors)), to_float64(centers(gts.boxes))
    farthest = points.new_full((len(gts.counts),), torch.finfo(torch.float32).tiny)
    for part in chunks(len(middle), len(points)):
        farthest.scatter_reduce_(0, gts.image[part], _distance(middle[part], points).amax(1), 'amax')
    number = torch.arange(len(points), dtype=points.dtype, device=points.device)
    priors_of, overlaps = [], []
    for part in chunks(len(middle), len(points)):
        candidates = measure(gts.boxes[part, None], priors)  # (g, N)
        distance = _distance(middle[part], points) / (1000 * farthest[gts.image[part], None])
        priors_of.append(topk_smallest(distance - candidates, number, min(topk, len(points))))
        overlaps.append(candidates.gather(1, priors_of[-1]))
    prior, overlap = torch.cat(priors_of), torch.cat(overlaps)
    # without overlap there is nothing to be positive for (boxes of no area, boxes outside the image)
    positive = inside(gts.boxes[:, None], points[prior]) & (overlap > 0)
    return to_highest(prior, overlap, positive, gts)


def _distance(centers: Tensor, points: Tensor) -> Tensor:
    """Return the distances (g, N) between points in pixels, exactly, not by way of a matrix product."""
    return torch.cdist(centers, points, compute_mode='donot_use_mm_for_euclid_dist')
