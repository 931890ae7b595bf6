"""The pyramid of priors: its levels, the locations of a level, the anchors of a location, and the grids they form.

Heads hand priors over as one (N, 4) tensor: level after level, within a level row after row, at a location its A
anchors. Half of mmdet's heads do not say where a level ends.  All of this is read from the priors, once for every
prior tensor.

Legend: N priors, L levels, A anchors per location, S groups of locations, n locations of a group, D locations of all
groups.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from .boxes import at_least_float32, centers, exact_dtype

# More grids than this in one prior tensor mean that it is not a pyramid.
MAX_LEVELS = 16


class Grid(NamedTuple):
    """A regular grid of locations: (x, y) of the first and between neighbours in pixels, and (columns, rows)."""

    origin: Tuple[float, float]
    step: Tuple[float, float]
    shape: Tuple[int, int]

    @property
    def size(self) -> int:
        """The number of its locations."""
        return self.shape[0] * self.shape[1]


class Grids(NamedTuple):
    """The grids of all groups of locations.

    Attributes:
        origin, step, shape (Tensor): (S, 2) of each grid, float64.
        first (Tensor): (S,) the number of its first location among those of all, float64.
        known (list[Grid]): the grids themselves, known to the host.
    """

    origin: Tensor
    step: Tensor
    shape: Tensor
    first: Tensor
    known: List[Grid]


class Locations(NamedTuple):
    """A group: locations of one level that have the same number of anchors.

    Normally the whole level; where anchors at the border were dropped one by one, one group per shape of anchor.

    Attributes:
        level (int): the pyramid level.
        points (Tensor): (n, 2) anchor points in pixels, float64, in the order of their priors.
        priors (Tensor): (n, A) the indices of the priors at each.
        grid (Grid, optional): the grid that the points are, row by row; None if they are not.
    """

    level: int
    points: Tensor
    priors: Tensor
    grid: Optional[Grid]


class Pyramid:
    """Priors and their locations, on the device of the priors.

    Attributes:
        priors (Tensor): (N, 4) xyxy in pixels, float32 or float64.
        centers (Tensor): (N, 2) their centres, in the same precision.
        priors_and_centers (Tensor): (N, 6) the two side by side.
        points (Tensor): (N, 2) the points of their locations: the centres without float noise, float64.
        levels (Tensor): (N,) the level of each.
        num_level_priors (list[int]): the priors of each level.
        groups (list[Locations]): the groups of locations, level by level.
        locations_per_k (int): how many locations of a group each of the k stands for: 1, but A where a caller gives A
            and the locations were not found to have A anchors each.
        members (Tensor, optional): (D, A) the priors of all locations, -1 where a group has fewer than A; None if
            prior i is location i.
        grids (Grids, optional): the grids of the groups; None unless all of them form one.
        searches (dict): what the search of the nearest locations keeps.
    """

    def __init__(
        self, priors: Tensor, num_level_priors: List[int], groups: List[Locations], locations_per_k: int
    ) -> None:
        device, exact = priors.device, exact_dtype(priors.device)
        self.priors, self.num_level_priors = priors, num_level_priors
        self.locations_per_k = locations_per_k
        self.centers = centers(priors)
        self.priors_and_centers = torch.cat([priors, self.centers], 1)
        self.groups = [g._replace(points=g.points.to(device, exact), priors=g.priors.to(device)) for g in groups]
        self.points = self.centers.to(exact, copy=True)
        self.levels = torch.zeros(len(priors), dtype=torch.long, device=device)
        for group in self.groups:
            self.points[group.priors] = group.points[:, None]
            self.levels[group.priors] = group.level
        anchors = [group.priors.size(1) for group in groups]
        members = torch.cat([F.pad(g.priors, (0, max(anchors) - a), value=-1) for a, g in zip(anchors, groups)])
        plain = members.size(1) == 1 and torch.equal(members[:, 0], torch.arange(len(priors), device=members.device))
        self.members = None if plain else members.to(device)
        self.grids: Optional[Grids] = None
        known = [group.grid for group in groups if group.grid is not None]
        if len(known) == len(groups):
            starts = torch.tensor([0] + [grid.size for grid in known[:-1]]).cumsum(0).tolist()
            origin, step, shape, first = (
                torch.tensor(c, dtype=torch.float64).to(device, exact) for c in (*zip(*known), starts)
            )
            self.grids = Grids(origin, step, shape, first, known)
        self.searches: Dict[int, Any] = {}

    def to(self, device: Union[str, torch.device]) -> 'Pyramid':
        """Return the same pyramid on another device."""
        return Pyramid(self.priors.to(device), self.num_level_priors, self.groups, self.locations_per_k)

    @property
    def num_locations(self) -> int:
        """D."""
        return sum(len(group.points) for group in self.groups)


def find_pyramid(
    priors: Tensor,
    num_level_priors: Optional[Sequence[int]] = None,
    anchors_per_location: Optional[int] = None,
) -> Pyramid:
    """Read the pyramid that priors form.

    Args:
        priors (Tensor): (N, 4) boxes xyxy in pixels, level by level; N > 0.
        num_level_priors (sequence[int], optional): the priors of each level; inferred if None.
        anchors_per_location (int, optional): A. If locations are not found to have that many, every prior counts as a
            location of its own, and A times as many of them are taken.

    Raises:
        ValueError: priors that are not finite boxes, sizes that do not add up to N, levels that cannot be inferred, or
            half precision in which the anchors do not form grids.
    """
    check_boxes(priors)
    dtype, priors = priors.dtype, at_least_float32(priors)
    host = priors.detach().cpu()
    sizes = infer_num_level_priors(host) if num_level_priors is None else check_sizes(num_level_priors, len(priors))
    groups, start = [], 0
    for level, size in enumerate(sizes):
        if size:
            groups += _group_level(level, host, slice(start, start + size))
        start += size
    if dtype in (torch.float16, torch.bfloat16) and any(group.grid is None for group in groups):
        raise ValueError(
            f'the priors, in {dtype}, do not form grids: generate them in float32, which does not round them'
        )
    locations_per_k = 1
    if anchors_per_location is not None and any(g.priors.size(1) != anchors_per_location for g in groups):
        groups, locations_per_k = _one_each(groups), anchors_per_location
    return Pyramid(priors, sizes, groups, locations_per_k)


def check_boxes(priors: Tensor) -> None:
    """Raise a ValueError unless the priors (N, 4) are finite boxes xyxy."""
    if not bool(priors.isfinite().all()):
        raise ValueError('priors contain NaN or infinite coordinates; check the anchor generator')
    if bool((priors[:, 2:] < priors[:, :2]).any()):
        raise ValueError(
            'priors must be boxes xyxy with x1 <= x2 and y1 <= y2. Points with strides (MlvlPointGenerator: YOLOX, '
            'RTMDet) are not boxes: use a head with an AnchorGenerator, such as atss_plugin.FCOSHead'
        )


def check_sizes(num_level_priors: Sequence[int], num_priors: int) -> List[int]:
    """Return the level sizes as a list of ints, if they add up to the number of priors."""
    sizes = [int(n) for n in num_level_priors]
    if sum(sizes) != num_priors or min(sizes, default=0) < 0:
        raise ValueError(
            f'num_level_priors {sizes} add up to {sum(sizes)}, but there are {num_priors} priors: '
            'pass the number of priors of every level, in the order of the priors'
        )
    return sizes


def check_one_per_level(name: str, values: Sequence, pyramid: Pyramid) -> None:
    """Raise a ValueError unless there is one of ``values`` for each level."""
    if len(values) != len(pyramid.num_level_priors):
        raise ValueError(
            f'{name} has {len(values)} entries, but the priors have {len(pyramid.num_level_priors)} '
            f'levels (of {pyramid.num_level_priors} priors): give {name} one entry for each level'
        )


# ---- the locations of a level


def _group_level(level: int, priors: Tensor, span: slice) -> List[Locations]:
    """Return the groups of the priors in ``span``.

    Where all points have equally many priors, A, that is one group.  Where mmdet's ``allowed_border`` has cut anchors
    off one by one, points near the border have fewer; then every shape of anchor is a group of its own, so that the k
    nearest of each are still k x A.  Priors that are neither (proposals) each count as a location.
    """
    priors, index = priors[span], torch.arange(span.start, span.stop)
    points, steps = anchor_points(priors)
    _, location, count = torch.unique(steps[:, 0] * 2**32 + steps[:, 1], return_inverse=True, return_counts=True)
    anchors = int(count.max())
    if bool((count == anchors).all()):
        members = torch.argsort(location, stable=True).view(-1, anchors)
        return [_locations(level, points, index, members[torch.argsort(members[:, 0])])]
    shapes = prior_shapes(priors)
    kinds = shapes.unique()
    if len(kinds) != anchors:
        return [_locations(level, points, index, torch.arange(len(priors))[:, None])]
    return [_locations(level, points, index, (shapes == kind).nonzero()) for kind in kinds]


def _locations(level: int, points: Tensor, index: Tensor, members: Tensor) -> Locations:
    """Return a group, given the positions (n, A) of its priors among those of its level."""
    points = points[members[:, 0]]
    grid = leading_grid(points)
    return Locations(level, points, index[members], grid if grid.size == len(points) else None)


def _one_each(groups: List[Locations]) -> List[Locations]:
    """Return the groups in which every prior is a location of its own, one per level."""
    levels: Dict[int, List[Locations]] = {}
    for group in groups:
        levels.setdefault(group.level, []).append(group)
    found = []
    for level, parts in levels.items():
        priors = torch.cat([part.priors.flatten() for part in parts])
        points = torch.cat([part.points.repeat_interleave(part.priors.size(1), 0) for part in parts])
        order = priors.argsort()
        found.append(_locations(level, points[order], priors[order], torch.arange(len(order))[:, None]))
    return found


def anchor_points(priors: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the points at which priors (n, 4) of one level sit: their centres without float noise.

    Corners such as ``32 - 16 * sqrt(2)`` are rounded, so the centres of the A anchors of a location differ in the last
    bits.  They share a point, and equal distances are equal, where differences from the first centre are rounded to
    2^-18 of the largest coordinate (1/128 pixel in an image of 1333): well above float32's noise (2^-23), below any
    distance between anchors.

    Returns:
        tuple: the points (n, 2) float64, and their differences from the first in that unit (n, 2) int64.
    """
    middle = centers(priors).double()
    unit = point_noise(priors)
    steps = torch.round((middle - middle[0]) / unit)
    return middle[0] + steps * unit, steps.long()


def point_noise(priors: Tensor) -> Tensor:
    """Return the pixels below which differences between centres of priors (n, 4) mean nothing, a power of two: ()."""
    largest = priors.abs().amax().double().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.exp2(torch.ceil(torch.log2(largest)) - 18)


def leading_grid(points: Tensor) -> Grid:
    """Return the largest regular grid, row by row, that the points (n, 2) begin with."""
    steps = torch.diff(points, dim=0)
    columns, step_x, step_y = 1, 1.0, 1.0  # a single column or row has no step of its own; it is never taken
    if len(steps) and steps[0, 1] == 0 and steps[0, 0] > 0:
        columns, step_x = 1 + _leading((steps == steps[0]).all(-1)), float(steps[0, 0])
    rows = len(points) // columns
    grid = points[: rows * columns].view(rows, columns, 2)
    if rows > 1 and grid[1, 0, 1] > grid[0, 0, 1]:
        step_y = float(grid[1, 0, 1] - grid[0, 0, 1])
        down = torch.arange(rows)[:, None, None] * points.new_tensor([0.0, step_y])
        rows = _leading((grid == grid[0] + down).all(-1).all(-1))
    else:
        rows = 1
    return Grid((float(points[0, 0]), float(points[0, 1])), (step_x, step_y), (columns, rows))


def _leading(flags: Tensor) -> int:
    """Return how many flags are true before the first that is not."""
    wrong = (~flags).nonzero()
    return int(wrong[0]) if len(wrong) else len(flags)


# ---- where levels end


def infer_num_level_priors(priors: Tensor) -> List[int]:
    """Find where the levels end in a flat tensor of priors (N, 4) on the host.

    A level is a grid of locations, row by row, with the same anchors at each.  It ends where the next location does not
    continue its grid, or has anchors of another size.  Where anchors were cut off one by one (mmdet's
    ``allowed_border`` with A > 1) there is no such grid; then a level ends where the sizes of its anchors end.

    Raises:
        ValueError: the priors are not a pyramid in that sense (shuffled priors, proposals).
    """
    middle, shapes = centers(priors).double() / point_noise(priors), prior_shapes(priors)
    levels = _levels_by_grid(middle, shapes)
    if len(levels) > MAX_LEVELS:
        levels = _levels_by_shape(middle, shapes)
    if len(levels) > MAX_LEVELS:
        raise ValueError(
            f'cannot infer the pyramid levels of {len(priors)} priors: they are not a stack of row-by-row grids. Pass '
            'num_level_priors=[...] to assign(); for proposals or refined boxes (R-CNN, second stages) use IoUAssigner '
            'or TopKIoUAssigner, which need no levels'
        )
    return levels


def prior_shapes(priors: Tensor) -> Tensor:
    """Return a number for every distinct width x height among priors (N, 4), float noise apart: (N,) int64."""
    sizes = priors[:, 2:].double() - priors[:, :2].double()
    noise = 2.0**-18 * float(priors.abs().max()) if len(priors) else 0.0
    width, height = (_cluster(size, noise) for size in sizes.unbind(-1))
    return width * (len(priors) + 1) + height


def _cluster(values: Tensor, gap: float) -> Tensor:
    """Return numbers of the groups of values (n,) between which there is a gap."""
    ordered, order = values.sort()
    group = torch.cumsum(torch.diff(ordered, prepend=ordered[:1]) > gap, 0)
    return torch.empty_like(order).scatter_(0, order, group)


def _levels_by_grid(middle: Tensor, shapes: Tensor) -> List[int]:
    """Return the levels of priors with these centres (N, 2), in units of their noise."""
    levels: List[int] = []
    anchors, start = None, 0
    while start < len(middle) and len(levels) <= MAX_LEVELS:
        size, anchors = _first_level(torch.round(middle[start:] - middle[start]), shapes[start:], anchors)
        levels.append(size)
        start += size
    return levels


def _first_level(points: Tensor, shapes: Tensor, anchors: Optional[int]) -> Tuple[int, int]:
    """Return the priors in the level that begins at the first of ``points``, and its anchors per location."""
    run = _leading((points == points[0]).all(-1))
    # Levels of a single cell can share their point; then the anchors per location of the level before decide.
    if anchors is not None and run > anchors and run % anchors == 0:
        return anchors, anchors
    num = len(points) // run
    grid = points[: num * run].view(num, run, 2)
    # the locations from the first on that have its anchors: as many, of the same sizes, at one point
    alike = (shapes[: num * run].view(num, run) == shapes[:run]).all(-1)
    alike &= (grid == grid[:, :1]).all(-1).all(-1)
    return leading_grid(grid[: _leading(alike), 0]).size * run, run


def _levels_by_shape(middle: Tensor, shapes: Tensor) -> List[int]:
    """Return levels that end where none of the shapes seen so far occurs again; within one the points go row by row."""
    _, shape = shapes.unique(return_inverse=True)
    position = torch.arange(len(shape))
    last = torch.zeros(len(shape), dtype=torch.long).scatter_reduce_(0, shape, position, 'amax')
    ends = (torch.cummax(last[shape], 0).values == position).nonzero().squeeze(1) + 1
    columns, rows = torch.round(torch.diff(middle, dim=0)).unbind(1)
    backwards = (rows < 0) | ((rows == 0) & (columns < 0))
    backwards[ends[:-1] - 1] = False
    if bool(backwards.any()):
        return [1] * len(middle)
    return torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
