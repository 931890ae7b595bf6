"""Pure functions on boxes and points that the assigners share; on tensors as well as on NumPy's arrays.

Legend: N priors, G ground truths.
"""

from typing import Iterator, Tuple

import torch
from torch import Tensor

from .arrays import Array, library, precise

# An anchor point counts as inside a box if it is more than this many pixels from every side
# (RECIPE: min(l, t, r, b) > 0.01, in all four definitions).
INSIDE_MARGIN = 0.01

# Elements of one dense (ground truths x priors) temporary.  A dense path holds about six such temporaries of at
# most eight bytes: some 25 MiB however many ground truths there are (one row of N priors is its only lower bound).
DENSE_BUDGET = 1 << 19


def corners(boxes: Array) -> Array:
    """Return the corners of boxes (n, 4) xyxy: (2, 2, n), first the lower, then the upper ones, x and y of each."""
    return boxes.T.reshape(2, 2, -1)


def box_centers(box: Array) -> Array:
    """Centres of boxes with corners (2, 2, ...), computed in the boxes' own precision, returned precise: (2, ...)."""
    low, high = box
    return precise((low + high) / 2)


def point_noise(priors: Tensor) -> Tensor:
    """Pixels below which differences between the centres of priors (N, 4) mean nothing, a power of two: ().

    Corners such as ``32 - 16 * sqrt(2)`` are rounded, so the centres of the A anchors of a location differ in the
    last bits.  This is 2^-18 of the largest coordinate (1/128 pixel in an image of 1333): well above float32's noise
    (2^-23), below any distance between anchors.
    """
    largest = precise(priors.abs().amax()).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.exp2(torch.ceil(torch.log2(largest)) - 18)


def anchor_points(priors: Tensor) -> Tensor:
    """Return the points at which priors (N, 4) of one level sit: their centres without float noise, (N, 2).

    The A anchors of a location share its point, and equal distances are equal: noise would decide ties at random.  So
    the centres' differences from the first one are rounded to :func:`point_noise`.
    """
    centers = box_centers(corners(priors)).T
    if len(centers) == 0:
        return centers
    unit = point_noise(priors)
    return centers[0] + torch.round((centers - centers[0]) / unit) * unit


def side_distances(points: Array, box: Array) -> Tuple[Array, Array]:
    """Pixels from points (2, ...) to the sides of boxes with corners (2, 2, ...), negative outside: (left, top) and
    (right, bottom), (2, ...) each; shapes broadcast."""
    low, high = precise(box)
    return points - low, high - points


def inside(points: Array, box: Array, margin: float = INSIDE_MARGIN) -> Array:
    """Whether points (2, ...) lie more than ``margin`` pixels inside boxes with corners (2, 2, ...); shapes
    broadcast."""
    minimum = library(points).minimum
    return minimum(*minimum(*side_distances(points, box))) > margin


def box_areas(box: Array) -> Array:
    """Areas of boxes with corners (2, 2, ...) in square pixels, in the boxes' own precision: (...)."""
    low, high = box
    width, height = high - low
    return width * height


def aligned_iou(one: Array, other: Array, area: Array) -> Array:
    """IoU of boxes with corners (2, 2, ...), one by one, given the area of the first; shapes broadcast.

    The same arithmetic as in mmdet's ``bbox_overlaps``, so the same bits, in a third of the operations.
    """
    lib, (low, high), (other_low, other_high) = library(one), one, other
    width, height = lib.at_least(lib.minimum(high, other_high) - lib.maximum(low, other_low), 0)
    overlap = width * height
    return overlap / lib.at_least(area + box_areas(other) - overlap, 1e-6)


def chunks(num_gts: int, num_priors: int) -> Iterator[slice]:
    """Slices of the ground truths whose (ground truths x priors) temporaries fit ``DENSE_BUDGET``."""
    step = max(1, DENSE_BUDGET // max(num_priors, 1))
    for start in range(0, num_gts, step):
        yield slice(start, min(start + step, num_gts))
