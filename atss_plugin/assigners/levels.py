"""Where the levels of a flat tensor of priors end.

Heads hand priors over as one (N, 4) tensor: level after level, in a level row after row, at a location its A anchors.
Half of mmdet's heads do not say where a level ends, so it is read from the priors.

Legend: N priors, A anchors a location.
"""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .geometry import box_centers, corners, point_noise

MAX_LEVELS = 16
"""More grids than this in one prior tensor mean that it is no pyramid."""


def check_num_level_priors(num_level_priors: Sequence[int], num_priors: int) -> List[int]:
    """Return the level sizes as a list of ints, if they add up to the number of priors."""
    sizes = [int(n) for n in num_level_priors]
    if sum(sizes) != num_priors or min(sizes, default=0) < 0:
        raise ValueError(
            f'num_level_priors {sizes} add up to {sum(sizes)}, but there are {num_priors} priors: '
            'pass the number of priors of every level, in the order of the priors'
        )
    return sizes


def infer_num_level_priors(priors: Tensor) -> List[int]:
    """Find where the levels end in a flat tensor of priors (N, 4).

    A level is a grid of locations, row by row, with the same anchors at each.  It ends where the next location does
    not continue its grid, or has anchors of another size.  Where anchors were cut off one by one (mmdet's
    ``allowed_border`` with A > 1) there is no such grid; then a level ends where the sizes of its anchors end.

    Raises:
        ValueError: if the priors are no pyramid in that sense (shuffled priors, proposals).
    """
    priors = priors.detach().cpu()
    centers, shapes = box_centers(corners(priors)).T / point_noise(priors), prior_shapes(priors)
    levels = _levels_by_grid(centers, shapes)
    if len(levels) > MAX_LEVELS:
        levels = _levels_by_shape(centers, shapes)
    if len(levels) > MAX_LEVELS:
        raise ValueError(
            f'cannot infer the pyramid levels of {len(priors)} priors: they are no stack of row-by-row '
            'grids. Pass num_level_priors=[...] to assign(); for proposals or refined boxes (R-CNN, '
            'second stages) use IoUAssigner or TopKIoUAssigner, which need no levels'
        )
    return levels


def prior_shapes(priors: Tensor) -> Tensor:
    """Return a number for every distinct width x height among priors (N, 4), float noise apart: (N,) int64."""
    sizes = priors[:, 2:4].double() - priors[:, :2].double()
    noise = 2.0**-18 * float(priors.abs().max()) if len(priors) else 0.0
    width, height = (_cluster(size, noise) for size in sizes.unbind(-1))
    return width * (len(priors) + 1) + height


def _cluster(values: Tensor, gap: float) -> Tensor:
    """Return numbers of the groups of values (n,) between which there is a gap."""
    ordered, order = values.sort()
    group = torch.cumsum(torch.diff(ordered, prepend=ordered[:1]) > gap, 0)
    return torch.empty_like(order).scatter_(0, order, group)


def _levels_by_grid(centers: Tensor, shapes: Tensor) -> List[int]:
    """Return the levels of priors with these centres (N, 2), in units of their noise."""
    levels: List[int] = []
    anchors, start = None, 0
    while start < len(centers) and len(levels) <= MAX_LEVELS:
        points = torch.round(centers[start:] - centers[start])
        length, anchors = _level_length(points, shapes[start:], anchors)
        levels.append(length)
        start += length
    return levels


def _levels_by_shape(centers: Tensor, shapes: Tensor) -> List[int]:
    """Return a level ends where none of the shapes seen so far occurs again; within it the points go row by row."""
    _, shape = shapes.unique(return_inverse=True)
    position = torch.arange(len(shape))
    last = torch.zeros(len(shape), dtype=torch.long).scatter_reduce_(0, shape, position, 'amax')
    ends = (torch.cummax(last[shape], 0).values == position).nonzero().squeeze(1) + 1
    columns, rows = torch.round(torch.diff(centers, dim=0)).unbind(1)
    backwards = (rows < 0) | ((rows == 0) & (columns < 0))
    backwards[ends[:-1] - 1] = False
    if bool(backwards.any()):
        return [1] * len(centers)
    return torch.diff(ends, prepend=ends.new_zeros(1)).tolist()


def _level_length(points: Tensor, shapes: Tensor, anchors: Optional[int]) -> Tuple[int, int]:
    """Priors in the level that begins at the first of ``points``, and its anchors a location."""
    same = (points == points[0]).all(-1)
    run = _leading(same)
    # Levels of a single cell can share their point; then the anchors a location of the level before decide.
    if anchors is not None and run > anchors and run % anchors == 0:
        return anchors, anchors
    num = len(points) // run
    grid = points[: num * run].view(num, run, 2)
    # the locations from the first on that have its anchors: as many, of the same sizes, at one point
    alike = (shapes[: num * run].view(num, run) == shapes[:run]).all(-1)
    alike &= (grid == grid[:, :1]).all(-1).all(-1)
    grid = grid[: _leading(alike), 0]
    return _grid_length(grid) * run, run


def _grid_length(points: Tensor) -> int:
    """How many of the locations (n, 2), from the first on, form complete rows of one regular grid."""
    num = len(points)
    steps = torch.diff(points, dim=0)
    row = 1
    if num > 1 and steps[0, 1] == 0 and steps[0, 0] > 0:
        row += _leading((steps == steps[0]).all(-1))
    rows = num // row
    grid = points[: rows * row].view(rows, row, 2)
    if rows < 2 or grid[1, 0, 1] <= grid[0, 0, 1]:
        return row
    expected = grid[0] + torch.arange(rows)[:, None, None] * torch.stack(
        [points.new_zeros(()), grid[1, 0, 1] - grid[0, 0, 1]]
    )
    return _leading((grid == expected).all(-1).all(-1)) * row


def _leading(flags: Tensor) -> int:
    """How many flags are true before the first that is not."""
    wrong = (~flags).nonzero()
    return int(wrong[0]) if len(wrong) else len(flags)
