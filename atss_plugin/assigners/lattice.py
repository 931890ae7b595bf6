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


class Lattice:
    """The sheets of a pyramid, one for each group of locations, ready to be asked on the device of the priors."""

    def __init__(self, sheets: List[Sheet], groups: List[Locations]) -> None:
        device = groups[0].priors.device
        self.sheets = sheets
        # (2, S, 1): an axis, a sheet, and room for ground truths
        self.origin, self.step, self.size = (
            precise(torch.tensor(values, dtype=torch.float64)).t()[..., None].to(device)
            for values in ([s.origin for s in sheets], [s.step for s in sheets], [s.shape for s in sheets]))
        sizes = torch.tensor([len(g.priors) for g in groups])
        self.start = (sizes.cumsum(0) - sizes)[:, None].to(device)
        anchors = max(g.priors.size(1) for g in groups)
        # the priors of every location, -1 where a group has fewer anchors a location than another
        self.priors = torch.cat([F.pad(g.priors, (0, anchors - g.priors.size(1)), value=-1) for g in groups])
        self._staircases = {}

    def nearest(self, points: Tensor, k: int) -> Tuple[Tensor, Tensor]:
        """The anchors at the k locations of every sheet that are nearest to each point.

        Args:
            points (Tensor): (G, 2) in pixels, precise.
            k (int): locations a sheet.

        Returns:
            tuple: prior indices (G, S, k, A) in no particular order, and a mask of those that exist (a sheet may have
            fewer than k locations).  Equal distances go to the lower prior index.
        """
        points = points.nan_to_num()  # a box that is not finite finds some anchors, and then no IoU with them
        ranks = [min(k, max(sheet.shape[axis] for sheet in self.sheets)) for axis in (0, 1)]
        (column, row), (squared_x, squared_y) = self._ranked(points, max(ranks))  # (m, S, G) each
        a, b = self._staircase(k, *ranks)
        cell = (row * self.size[0]).index_select(0, b) + column.index_select(0, a)  # (T, S, G)
        squared = squared_x.index_select(0, a) + squared_y.index_select(0, b)
        chosen = smallest(squared, cell, k, dim=0)  # (k, S, G)
        exists = squared.gather(0, chosen).isfinite()
        priors = self.priors[self.start + cell.gather(0, chosen).long()]  # (k, S, G, A)
        exists = exists[..., None] & (priors >= 0)
        return priors.clamp_(min=0).permute(2, 1, 0, 3), exists.permute(2, 1, 0, 3)

    def _staircase(self, *size: int) -> Tuple[Tensor, Tensor]:
        """:func:`staircase` on the device, copied there once: a copy makes the host wait."""
        if size not in self._staircases:
            self._staircases[size] = tuple(rank.to(self.priors.device) for rank in staircase(*size))
        return self._staircases[size]

    def _ranked(self, points: Tensor, num: int) -> Tuple[Tensor, Tensor]:
        """The ``num`` nearest columns and rows, nearest first, and their squared distances: (2, m, S, G) each.

        Whole numbers, but in floating point, as all that is done with them is exact.  Ranks beyond the size of a
        sheet are infinitely far.
        """
        size = self.size[:, None]  # (2, 1, S, 1)
        u = (points.t()[:, None] - self.origin) / self.step  # (2, S, G)
        m = torch.arange(num + 1, dtype=u.dtype, device=u.device)[:, None, None]
        left = (u[:, None] - m / 2).ceil_().clamp_(min=0)
        left = torch.minimum(left, (size - m).clamp_(min=0))  # of the m nearest, (2, m + 1, S, G)
        grew_left = left[:, 1:] < left[:, :-1]
        grew_left[:, 0] = True  # the nearest itself
        index = torch.where(grew_left, left[:, 1:], left[:, 1:] + m[:-1])
        index = torch.minimum(index, size - 1)
        distance = index * self.step[:, None]
        distance += self.origin[:, None] - points.t()[:, None, None]
        return index, distance.square_().masked_fill_(m[:-1] >= size, float('inf'))

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
