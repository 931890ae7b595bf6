"""The lattice of a feature pyramid: the k nearest anchors, and those in a box, without looking at all of them.

The locations of a pyramid level form a grid of ``columns x rows``, ``step`` pixels apart.  What an assigner asks of
them are questions to a grid, and their answers lie in a few cells that can be written down at once.

**The k nearest locations.**  Rank the columns by their distance to the point, and the rows likewise: column rank
``a = 0, 1, 2, ...``, row rank ``b``, ties to the lower index.  A location of ranks ``(a, b)`` is at least as far from
the point as every location ``(a', b')`` with ``a' <= a`` and ``b' <= b``, because distance grows with both
coordinates. There are ``(a + 1)(b + 1)`` of those, itself among them.  So it can be one of the k nearest only if
``(a + 1)(b + 1) <= k``: a staircase of ``k + k/2 + k/3 + ...`` cells (23 for k = 9).  Nothing in this depends on
where the point is, so it holds at borders and for points outside the image, nor on the steps, so they need not be
square. (If a location of the staircase is as far as one that is left out, the latter is dominated by k locations that
are as near, and come first in both orders.)

The ranks need no sorting either.  The m nearest of n equally spaced columns are m neighbours, and start at column
``ceil(u - m/2)``, clamped to ``[0, n - m]``, if the point is at column ``u`` (a tie falls to the left).  The column
of rank ``m - 1`` is the one by which the m nearest differ from the m - 1 nearest: the new left end, or else the
right.

**The locations in an interval** of at most r pixels are at most ``floor(r / step) + 1`` neighbouring columns.

Legend: G ground truths, S sheets, n locations, A anchors a location, k locations, T cells of the staircase.
"""
from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import precise, smallest
from .locations import Locations


class Sheet(NamedTuple):
    """The grid that a group of locations forms, row by row.

    Attributes:
        origin (tuple): (x, y) of its first location in pixels.
        step (tuple): pixels between columns and between rows.
        shape (tuple): (columns, rows).
    """
    origin: Tuple[float, float]
    step: Tuple[float, float]
    shape: Tuple[int, int]


class _Search(NamedTuple):
    """What finding the k nearest locations needs besides the points; copied to the device once.

    Attributes:
        num (Tensor): (m + 1, 1, 1) the numbers 0 to m of nearest columns or rows.
        last_left (Tensor): (2, m + 1, S, 1) where so many neighbours start at most.
        missing (Tensor, optional): (2, m, S, 1) which ranks a sheet does not have; None if it has all.
        stairs (Tensor): (2 * T,) the cells of the staircase: their column ranks, and m + their row ranks.
    """
    num: Tensor
    last_left: Tensor
    missing: Optional[Tensor]
    stairs: Tensor


class Lattice:
    """The sheets of a pyramid, one for each group of locations, ready to be asked on the device of the priors."""

    def __init__(self, sheets: List[Sheet], groups: List[Locations]) -> None:
        device = groups[0].priors.device
        self.sheets = sheets
        # (2, S, 1): an axis, a sheet, and room for ground truths
        self.origin, self.step, self.size = (
            precise(torch.tensor(values, dtype=torch.float64)).t()[..., None].to(device)
            for values in ([s.origin for s in sheets], [s.step for s in sheets], [s.shape for s in sheets]))
        # what a column and a row add to the index of a location, (2, 1, S, 1)
        self.weight = torch.stack([torch.ones_like(self.size[0]), self.size[0]])[:, None]
        sizes = torch.tensor([len(g.priors) for g in groups])
        self.start = (sizes.cumsum(0) - sizes)[:, None].to(device)
        anchors = max(g.priors.size(1) for g in groups)
        self.even = anchors == min(g.priors.size(1) for g in groups)
        # the priors of every location, -1 where a group has fewer anchors a location than another
        self.priors = torch.cat([F.pad(g.priors, (0, anchors - g.priors.size(1)), value=-1) for g in groups])
        self._searches = {}

    def nearest(self, points: Tensor, k: int) -> Tuple[Tensor, Optional[Tensor]]:
        """The anchors at the k locations of every sheet that are nearest to each point.

        Args:
            points (Tensor): (G, 2) in pixels, precise.
            k (int): locations a sheet.

        Returns:
            tuple: prior indices (G, S, k, A) in no particular order, and a mask of those that exist (a sheet may have
            fewer than k locations), None if all do.  Equal distances go to the lower prior index.
        """
        search = self._search(k)
        index, squared = self._ranked(points.nan_to_num(), search)  # a box that is not finite finds some anchors
        cell, squared = (self._climb(t, search.stairs) for t in (index * self.weight, squared))  # (T, S, G)
        chosen = smallest(squared, cell, k, dim=0)  # (k, S, G)
        priors = self.priors[cell.gather(0, chosen).long() + self.start].permute(2, 1, 0, 3)
        if self.even and all(columns * rows >= k for columns, rows in (sheet.shape for sheet in self.sheets)):
            return priors, None
        exists = squared.gather(0, chosen).isfinite().permute(2, 1, 0)[..., None] & (priors >= 0)
        return priors.clamp(min=0), exists

    def _search(self, k: int) -> _Search:
        """What the search of k locations needs; a copy to the device makes the host wait, so it is kept."""
        if k not in self._searches:
            ranks = [min(k, max(sheet.shape[axis] for sheet in self.sheets)) for axis in (0, 1)]
            num = torch.arange(max(ranks) + 1, dtype=self.size.dtype, device=self.size.device)[:, None, None]
            size = self.size[:, None]
            missing = None if all(min(s.shape) >= k for s in self.sheets) else num[:-1] >= size
            a, b = staircase(k, *ranks)
            stairs = torch.cat([a, b + max(ranks)]).to(self.size.device)
            self._searches[k] = _Search(num, (size - num).clamp(min=0), missing, stairs)
        return self._searches[k]

    def _ranked(self, points: Tensor, search: _Search) -> Tuple[Tensor, Tensor]:
        """The m nearest columns and rows, nearest first, and their squared distances: (2, m, S, G) each.

        Whole numbers, but in floating point, as all that is done with them is exact.  Ranks beyond the size of a
        sheet are infinitely far.
        """
        offset = points.t()[:, None] - self.origin  # (2, S, G)
        left = ((offset / self.step)[:, None] - search.num / 2).ceil_().clamp_(min=0)
        left = torch.minimum(left, search.last_left)  # of the nearest 0 to m
        before, left = left[:, :-1], left[:, 1:]
        # one more neighbour: the left end moved, or else it is the one at the right
        index = (left == before) * search.num[:-1] + left
        if search.missing is not None:
            index = torch.minimum(index, self.size[:, None] - 1)
        squared = (index * self.step[:, None]).sub_(offset[:, None]).square_()
        return index, squared if search.missing is None else squared.masked_fill_(search.missing, float('inf'))

    @staticmethod
    def _climb(ranked: Tensor, stairs: Tensor) -> Tensor:
        """The sum of what columns and rows (2, m, S, G) contribute to the cells of the staircase: (T, S, G)."""
        columns, rows = ranked.flatten(0, 1).index_select(0, stairs).chunk(2)
        return columns + rows

    def window(self, sheet: int, low: Tensor, reach: float) -> Tuple[Tensor, Tensor, Tensor]:
        """The locations of one sheet that can lie in the squares from ``low`` to ``low + reach``, and some more.

        Args:
            sheet (int): which sheet.
            low (Tensor): (G, 2) the corners (x, y) where the squares begin, in pixels, precise.
            reach (float): their side in pixels, may be infinite.

        Returns:
            tuple: their x (G, 1, w) and y (G, h, 1) in pixels, and their indices in the group of locations, (G, h,
                w).
        """
        indices, points = [], []
        for position, origin, step, num in zip(low.unbind(1), *self.sheets[sheet]):
            need = num if reach >= num * step else min(num, int(reach / step) + 2)
            first = ((position - origin) / step).ceil_().clamp_(0, num - need).long().clamp_(min=0)
            indices.append(first[:, None] + torch.arange(need, device=low.device))
            points.append(origin + indices[-1].to(low.dtype) * step)
        (column, row), (x, y), columns = indices, points, self.sheets[sheet].shape[0]
        return x[:, None], y[:, :, None], row[:, :, None] * columns + column[:, None]


def staircase(k: int, columns: int, rows: int) -> Tuple[Tensor, Tensor]:
    """The ranks (a, b) with (a + 1)(b + 1) <= k, at most ``columns`` and ``rows`` of each: two arrays (T,)."""
    a, b = np.meshgrid(np.arange(min(k, columns)), np.arange(min(k, rows)))
    keep = (a + 1) * (b + 1) <= k
    return torch.from_numpy(a[keep]), torch.from_numpy(b[keep])


def find_lattice(groups: List[Locations]) -> Optional[Lattice]:
    """The lattice that groups of locations form, or None if any of them is not exactly a grid.

    Whole pyramids are lattices, and so is what mmdet leaves of them: ``valid_flags`` cut off columns and rows,
    ``allowed_border`` does so for each shape of anchor.
    """
    sheets = [find_sheet(group.points.cpu()) for group in groups]
    return Lattice(sheets, groups) if sheets and None not in sheets else None


def find_sheet(points: Tensor) -> Optional[Sheet]:
    """The grid that points (n, 2) form, row by row; None if they do not, exactly."""
    new_row = (points[:, 1] != points[0, 1]).nonzero()
    columns = int(new_row[0]) if len(new_row) else len(points)
    if len(points) % columns:
        return None
    rows = len(points) // columns
    x, y = points.view(rows, columns, 2).unbind(-1)
    # a single column or row has no step of its own; any will do, as it is never taken
    step_x = float(x[0, 1] - x[0, 0]) if columns > 1 else 1.0
    step_y = float(y[1, 0] - y[0, 0]) if rows > 1 else 1.0
    column, row = (torch.arange(n, dtype=points.dtype) for n in (columns, rows))
    regular = (x == x[0, 0] + column * step_x) & (y == y[0, 0] + row[:, None] * step_y)
    if step_x <= 0 or step_y <= 0 or not bool(regular.all()):
        return None
    return Sheet((float(x[0, 0]), float(y[0, 0])), (step_x, step_y), (columns, rows))
