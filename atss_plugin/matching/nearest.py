"""The k locations nearest to a point on every level, without looking at all of them.

The locations of a level form a grid of ``columns x rows``.  Rank the columns by their distance to the point, and the
rows likewise: column rank ``a = 0, 1, 2, ...``, row rank ``b``, ties to the lower index.  A location of ranks ``(a,
b)`` is at least as far from the point as every location ``(a', b')`` with ``a' <= a`` and ``b' <= b``, because
distance grows with both coordinates.  There are ``(a + 1)(b + 1)`` of those, itself among them.  So it can be one of
the k nearest only if ``(a + 1)(b + 1) <= k``: a staircase of ``k + k/2 + k/3 + ...`` cells (23 for k = 9).  Nothing in
this depends on where the point is, so it holds at borders and outside the image, nor on the steps, so they need not be
square.  (If a location of the staircase is as far as one that is left out, the latter is dominated by k locations that
are as near, and come first in both orders.)

The ranks need no sorting either.  The m nearest of n equally spaced columns are m neighbours, and start at column
``ceil(u - m/2)``, clamped to ``[0, n - m]``, if the point is at column ``u`` (a tie falls to the left).  The column of
rank ``m - 1`` is the one by which the m nearest differ from the m - 1 nearest: the new left end, or else the right.

Legend: G points, S groups of locations, m the most ranks of an axis, T cells of the staircase, A anchors per location,
n locations of a group, M priors found for each point.
"""

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .boxes import chunks, exact_dtype, from_host, topk_smallest
from .pyramid import Grid, Pyramid


class Search(NamedTuple):
    """What finding the k nearest locations needs besides the points; copied to the device once.

    Attributes:
        number, minus_half (Tensor): (m + 1,) the numbers 0 to m of neighbours, and minus their halves.
        sum_from_0 (Tensor): (m + 1,) the sum 0 + 1 + ... of as many neighbours.
        last_left (Tensor): (S, 2, m + 1) where so many neighbours start at most.
        cell (Tensor): (2, T) the ranks of the cells of the staircase, column and row.
        step (Tensor): (S, 2, T) the step of the grid, infinite for cells that it does not have.
        keep (Tensor, optional): (M,) which of S x k x A priors exist, where levels have fewer than k locations or
            different A; None if all do.
        level (tuple[int]): the level of each of the M.
    """

    number: Tensor
    minus_half: Tensor
    sum_from_0: Tensor
    last_left: Tensor
    cell: Tensor
    step: Tensor
    keep: Optional[Tensor]
    level: Tuple[int, ...]


def nearest(pyramid: Pyramid, points: Tensor, k: int) -> Tuple[Tensor, Tuple[int, ...]]:
    """Find the anchors at the k locations of every level that are nearest to each point.

    Args:
        pyramid (Pyramid): the priors.
        points (Tensor): (G, 2) in pixels, finite.
        k (int): locations on each level; a level may have fewer.

    Returns:
        tuple: prior indices (G, M), in no particular order, and the level of each of the M.  Of equal distances those
        of lower index are taken.
    """
    k = k * pyramid.locations_per_k  # A where every anchor counts as a location of its own
    if pyramid.grids is None:
        return _nearest_of_all(pyramid, points, k)
    if k not in pyramid.searches:
        pyramid.searches[k] = _search(pyramid, pyramid.grids.known, k)
    search: Search = pyramid.searches[k]
    origin, step, shape, first, _ = pyramid.grids
    # from each point to the first location of a grid, and the left ends of its 0 to m nearest columns and rows
    offset = (origin - points[:, None])[..., None]  # (G, S, 2, 1)
    left = torch.addcdiv(search.minus_half, offset, step[..., None], value=-1).ceil()
    left = left.clamp(search.number[0], search.last_left)
    # the column of rank m - 1 is what the sum of the m nearest, m * left + m (m - 1) / 2, has more than that of m - 1
    index = torch.addcmul(search.sum_from_0, left, search.number).diff()  # (G, S, 2, m)
    cells = index.gather(-1, search.cell.expand(*index.shape[:2], -1, -1))  # (G, S, 2, T)
    # x * x + y * y, each rounded: in one operation they may not be, and what is equally far would differ
    squared = torch.addcmul(offset, cells, search.step).square().sum(-2)
    column, row = cells.unbind(-2)
    location = torch.addcmul(column, row, shape[:, :1])  # (G, S, T)
    chosen = topk_smallest(squared, location, min(k, location.size(-1)))
    location = (location.gather(-1, chosen) + first[:, None]).long()  # (G, S, k)
    return _priors_at(pyramid, location, search.keep), search.level


def _priors_at(pyramid: Pyramid, location: Tensor, keep: Optional[Tensor]) -> Tensor:
    """Return the priors (G, M) at locations (G, S, k)."""
    if keep is not None:  # a cell that does not exist may have any number
        location = location.clamp(0, pyramid.num_locations - 1)
    prior = (location if pyramid.members is None else pyramid.members[location]).flatten(1)
    return prior if keep is None else prior.index_select(1, keep)


def _search(pyramid: Pyramid, grids: List[Grid], k: int) -> Search:
    shapes = torch.tensor([grid.shape for grid in grids])
    cell = staircase(k, *shapes.amax(0).tolist())
    number = torch.arange(min(k, int(shapes.max())) + 1, dtype=torch.float64)
    step = torch.tensor([grid.step for grid in grids], dtype=torch.float64)[..., None].expand(-1, -1, cell.size(1))
    step = step.masked_fill(cell >= shapes[..., None], float('inf'))
    most = max(group.priors.size(1) for group in pyramid.groups)
    kept, level, start = [], [], 0
    for group in pyramid.groups:
        anchors, width = group.priors.size(1), min(k, cell.size(1))
        found = min(k, len(group.points))
        kept += [start + i * most + a for i in range(found) for a in range(anchors)]
        level += [group.level] * (found * anchors)
        start += width * most
    device, exact = pyramid.priors.device, exact_dtype(pyramid.priors.device)
    last_left = (shapes[..., None] - number).clamp(min=0)
    constants = (number, -number / 2, number * (number - 1) / 2, last_left)
    number, minus_half, sum_from_0, last_left = (values.to(device, exact) for values in constants)
    keep = None if len(kept) == start else from_host(kept, device)
    cell, step = cell.to(device), step.to(device, exact)
    return Search(number, minus_half, sum_from_0, last_left, cell, step, keep, tuple(level))


def staircase(k: int, columns: int, rows: int) -> Tensor:
    """Return the ranks (a, b) with (a + 1)(b + 1) <= k, at most ``columns`` and ``rows`` of each: (2, T)."""
    a, b = torch.meshgrid(torch.arange(min(k, columns)), torch.arange(min(k, rows)), indexing='ij')
    return torch.stack([a, b])[:, (a + 1) * (b + 1) <= k]


def _nearest_of_all(pyramid: Pyramid, points: Tensor, k: int) -> Tuple[Tensor, Tuple[int, ...]]:
    """Look at all locations, a few points at a time."""
    found, level = [], []
    for group in pyramid.groups:
        num = len(group.points)
        number = torch.arange(num, dtype=group.points.dtype, device=points.device)
        parts = [
            topk_smallest((group.points - points[part, None]).square().sum(-1), number, min(k, num))  # (g, n) to (g, k)
            for part in chunks(len(points), num)
        ]
        found.append(group.priors[torch.cat(parts)].flatten(1))
        level += [group.level] * found[-1].size(1)
    return torch.cat(found, 1), tuple(level)
