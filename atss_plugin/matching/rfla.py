"""RFLA: positives by the receptive fields of locations, for tiny objects (https://arxiv.org/abs/2208.08738).

How alike a field and a box are as Gaussians is the receptive field distance RFD = 1 / (1 + KL(field || box)).

Legend: G ground truths of the batch, g of them in a chunk, N priors, k candidates of a ground truth.
"""

from typing import Sequence, Tuple

import torch
from torch import Tensor

from .assignment import Assignment, finish, to_highest
from .boxes import centers, chunks, from_host, has_area, inside, to_float64, topk_smallest
from .ground_truths import GroundTruths
from .pyramid import Pyramid, check_one_per_level

# Theoretical receptive fields of P3 to P7 of ResNet-50 in pixels, those that the authors use.
RECEPTIVE_FIELDS = (91, 267, 427, 555, 811)


def rfla(
    pyramid: Pyramid,
    gts: GroundTruths,
    topk: Tuple[int, int] = (3, 1),
    decay: float = 0.9,
    receptive_fields: Sequence[float] = RECEPTIVE_FIELDS,
    in_gt_box: bool = False,
) -> Assignment:
    """Take the locations whose receptive field is most like the object, in two stages.

    The effective receptive field of a location is a Gaussian around its point, its deviation half the radius of the
    theoretical one.  First the k1 locations of highest RFD are positive; then, with fields ``decay`` times as wide, the
    k2 of highest RFD, unless they are positive already (for whatever object).  A location that several objects of a
    stage claim goes to the highest RFD.  With A anchors per location the lowest of them are taken (where
    anchors at the border were cut off one by one, every shape of anchor has locations of its own).

    Args:
        pyramid (Pyramid): the priors, of which only the points count.
        gts (GroundTruths): the ground truths.
        topk (tuple[int, int]): k1 and k2, over all levels.
        decay (float): beta of the paper.
        receptive_fields (sequence): sides of the theoretical receptive fields in pixels, one per level.
        in_gt_box (bool): only points inside of the object are positive.

    Raises:
        ValueError: another number of receptive fields than of levels.
    """
    gts.check_priors(pyramid.priors)
    check_one_per_level('receptive_fields', receptive_fields, pyramid)
    fields = to_float64(from_host(receptive_fields, pyramid.points.device, torch.float32))
    lowest = torch.cat([group.priors[:, 0] for group in pyramid.groups]).sort().values  # prior of each location
    points, deviation = pyramid.points[lowest], fields[pyramid.levels[lowest]] / 4  # half the radius
    claims = (_claims(points, deviation * shrink, gts, k, in_gt_box) for shrink, k in zip((1.0, decay), topk))
    first, second = (to_highest(lowest[location], rfd, positive, gts) for location, rfd, positive in claims)
    owner = torch.where(first.owner < len(gts.boxes), first.owner, second.owner)
    return finish(owner.flatten(), gts)


def _claims(
    points: Tensor, deviation: Tensor, gts: GroundTruths, k: int, in_gt_box: bool
) -> Tuple[Tensor, Tensor, Tensor]:
    """Return the k locations of highest RFD with each ground truth, their RFD, and which may be positive, (G, k)."""
    number = torch.arange(len(points), device=points.device)
    found, likenesses = [], []
    for part in chunks(len(gts.boxes), 2 * len(points)):
        rfd = receptive_field_distance(to_float64(gts.boxes[part, None]), points, deviation)
        found.append(topk_smallest(-rfd, number, min(k, len(points))))
        likenesses.append(rfd.gather(1, found[-1]))
    location, likeness = torch.cat(found), torch.cat(likenesses)
    # nothing is like a box of no area
    positive = likeness > 0
    if in_gt_box:
        positive = positive & inside(gts.boxes[:, None], points[location])
    return location, likeness, positive


def receptive_field_distance(boxes: Tensor, points: Tensor, deviation: Tensor) -> Tensor:
    """Return RFD = 1 / (1 + KL(field || box)) (...), high where they are alike, 0 for a box of no area.

    Args:
        boxes (Tensor): (..., 4), the Gaussians of mean (cx, cy) and covariance diag(w^2 / 4, h^2 / 4).
        points (Tensor): (..., 2) the means of the fields in pixels.
        deviation (Tensor): (...) their standard deviation in pixels.
    """
    variance = ((boxes[..., 2:] - boxes[..., :2]) / 2).square()
    ratio = deviation.square()[..., None] / variance
    apart = (centers(boxes) - points).square() / variance
    divergence = (ratio + apart - ratio.log() - 1).sum(-1) / 2
    return torch.where(has_area(boxes), 1 / (1 + divergence), 0.0)
