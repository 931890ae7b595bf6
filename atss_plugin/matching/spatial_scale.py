"""The spatial and scale constraint (SSC): FCOS's positives (https://arxiv.org/abs/1904.01355, section 3.3 of the
paper).

Legend: G ground truths, g of them in a chunk, S groups of locations, w columns or rows of a window, n locations of a
group, A anchors per location.
"""

from typing import Iterator, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from .assignment import Assignment, to_smallest
from .boxes import INSIDE_MARGIN, chunks, exact_dtype, from_host, to_float64
from .ground_truths import GroundTruths
from .pyramid import Grid, Grids, Locations, Pyramid, check_one_per_level

# FCOS's ranges of max(l, t, r, b) in pixels, one per level, ends included.
SCALE_RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, float('inf')))


class Region(NamedTuple):
    """Where the points of positives may lie, and how far from the sides of their box.

    Attributes:
        box (Tensor): (G, 4) the boxes, float64.
        area (Tensor): (G, 1 or S, 4) the part of each box that counts, on each group of locations.
        margin (float): by how many pixels a point is inside of it.
        scale (Tensor): (S, 2) the range of max(l, t, r, b), ends included.
        reach (list[float]): the upper ends of the ranges, known to the host.
    """

    box: Tensor
    area: Tensor
    margin: float
    scale: Tensor
    reach: Sequence[float]


def spatial_scale(
    pyramid: Pyramid, gts: GroundTruths, scale_ranges: Sequence[Tuple[float, float]] = SCALE_RANGES
) -> Assignment:
    """Apply the rule: min(l, t, r, b) > 0.01 and low <= max(l, t, r, b) <= high; of several boxes the smallest.

    Here (l, t, r, b) are the distances in pixels from an anchor point to the sides of a box, and (low, high) is the
    range of the point's level.  FCOS's published code has no margin; torchvision's and detectron2's versions leave the
    ends of the ranges out.

    Args:
        pyramid (Pyramid): the priors.
        gts (GroundTruths): the ground truths.
        scale_ranges (sequence): (low, high) in pixels for each level.

    Raises:
        ValueError: another number of ranges than of levels.
    """
    gts.check_priors(pyramid.priors)
    box = to_float64(gts.boxes)
    region = Region(box, box[:, None], INSIDE_MARGIN, *scales(pyramid, scale_ranges))
    return to_smallest(anchors_in(pyramid, region), gts)


def scales(pyramid: Pyramid, scale_ranges: Sequence[Tuple[float, float]]) -> Tuple[Tensor, Sequence[float]]:
    """Return the ranges (S, 2) of all groups of locations on the device, and their upper ends on the host."""
    check_one_per_level('scale_ranges', scale_ranges, pyramid)
    ranges = [scale_ranges[group.level] for group in pyramid.groups]
    device = pyramid.priors.device
    return from_host(ranges, device, exact_dtype(device)), [high for _, high in ranges]


def anchors_in(pyramid: Pyramid, region: Region) -> Iterator[Tuple[slice, Tensor, Tensor]]:
    """Yield chunks: which ground truths, priors (g, ...) in a neighbourhood of each, and which are in the region."""
    width = 0 if pyramid.grids is None else _window_width(pyramid.grids.known, region.reach)
    cells = len(pyramid.groups) * width**2
    if pyramid.grids is not None and cells <= pyramid.num_locations:
        for part in chunks(len(region.box), cells):
            yield (part, *_in_windows(pyramid, pyramid.grids, region, part, width))
        return
    for i, group in enumerate(pyramid.groups):
        for part in chunks(len(region.box), len(group.points)):
            yield (part, *_in_group(group, region, part, i))


def admitted(points: Tensor, area: Tensor, box: Tensor, scale: Tensor, margin: float) -> Tuple[Tensor, Tensor]:
    """Judge one axis: is a coordinate well inside and near enough, and is it far enough to fill the scale?

    The rule is met where x and y are admitted and either is far enough: min and max over four sides are min and max
    over the two axes.

    Args:
        points (Tensor): (...) x or y.
        area, box, scale (Tensor): (..., 2) low and high ends; they broadcast to the points.
    """
    within = torch.minimum(points - area[..., 0], area[..., 1] - points) > margin
    distance = torch.maximum(points - box[..., 0], box[..., 1] - points)
    return within & (distance <= scale[..., 1]), distance >= scale[..., 0]


def _axes(boxes: Tensor) -> Tensor:
    """Return boxes (..., 4) as intervals of x and of y: (..., 2, 2), first the axis, then the end."""
    return boxes.unflatten(-1, (2, 2)).transpose(-1, -2)


def _in_group(group: Locations, region: Region, part: slice, i: int) -> Tuple[Tensor, Tensor]:
    """Look at all locations of group ``i``: prior indices (1, n, A), and for which ground truths they are (g, n, 1)."""
    area = region.area[part, i if region.area.size(1) > 1 else 0]
    area, box = _axes(area)[:, None], _axes(region.box[part])[:, None]  # (g, 1, 2, 2)
    near, far = admitted(group.points, area, box, region.scale[i], region.margin)  # (g, n, 2)
    return group.priors[None], (near.all(-1) & far.any(-1))[..., None]


# ---- windows of grids


def _window_width(grids: Sequence[Grid], reach: Sequence[float]) -> int:
    """Return how many columns, or rows, of any grid can lie in an interval of its reach."""
    return max(
        num if high >= num * step else min(num, max(0, int(high / step) + 2))
        for high, grid in zip(reach, grids)
        for num, step in zip(grid.shape, grid.step)
    )


def _in_windows(pyramid: Pyramid, grids: Grids, region: Region, part: slice, width: int) -> Tuple[Tensor, Tensor]:
    """Look at ``width`` columns and rows of every grid: prior indices and what is in the region, (g, S, w, w, A)."""
    origin, step, shape, first, _ = grids
    box, scale = _axes(region.box[part])[:, None], region.scale[:, None]  # (g, 1, 2, 2), (S, 1, 2)
    area = _axes(region.area[part])  # (g, S, 2, 2)
    # l, r <= high confines x to [x2 - high, x1 + high]; together with the box that is at most ``high`` wide
    low = torch.maximum(area[..., 0], box[..., 1] - scale[..., 1])  # (g, S, 2)
    left = ((low - origin) / step).ceil().clamp(min=0).minimum((shape - width).clamp(min=0))
    index = left[..., None] + torch.arange(width, dtype=left.dtype, device=left.device)  # (g, S, 2, w)
    points = torch.addcmul(origin[..., None], index, step[..., None])
    near, far = admitted(points, area[..., None, :], box[..., None, :], scale[..., None, :], region.margin)
    near = near & (index < shape[..., None])
    column, row = near[:, :, 0, None, :], near[:, :, 1, :, None]
    positive = column & row & (far[:, :, 0, None, :] | far[:, :, 1, :, None])  # (g, S, w, w)
    start = index[:, :, 0] + first[:, None]
    location = torch.addcmul(start[:, :, None, :], index[:, :, 1, :, None], shape[:, :1, None]).long()
    return _members_at(pyramid, location, positive)


def _members_at(pyramid: Pyramid, location: Tensor, positive: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the priors at some locations (...), any where there is none, and which are positive, (..., A) each."""
    if pyramid.members is None:
        return location[..., None], positive[..., None]
    prior = pyramid.members[location.clamp(max=pyramid.num_locations - 1)]
    return prior, positive[..., None] & (prior >= 0)
