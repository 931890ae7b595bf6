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

Legend: G ground truths, S sheets, n locations, k locations, m the most ranks of an axis, T cells of the staircase.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from .arrays import Array, library, to_array
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
        half (Array): (m + 1, 1, 1) half the numbers 0 to m of nearest columns or rows.
        rank (Array): (m, 1, 1) 0 to m - 1.
        last_left (Array): (2, m + 1, S, 1) where so many neighbours start at most.
        missing (Array, optional): (2, m, S, 1) infinite for the ranks that a sheet does not have, else 0; None if
            all sheets have all.
        columns, rows (Array): (T,) the ranks of the cells of the staircase.
        complete (bool): whether every sheet has k locations.
    """

    half: Array
    rank: Array
    last_left: Array
    missing: Optional[Array]
    columns: Array
    rows: Array
    complete: bool


class Lattice:
    """The sheets of a pyramid, one for each group of locations, ready to be asked.

    Locations are numbered through all sheets.  Numbers are whole, but in floating point: all that is done with them is
    exact.

    Args:
        sheets (list[Sheet]): the sheets, in the order of their locations.
        like (Array): any array from where they will be asked.
    """

    def __init__(self, sheets: List[Sheet], like: Array) -> None:
        self.sheets, self.like = sheets, like
        # (2, 1, S, 1): an axis, room for ranks, a sheet, and room for ground truths
        self.origin, self.step, self.size = (
            self._constant(np.array(values, dtype=np.float64).T[:, None, :, None])
            for values in ([s.origin for s in sheets], [s.step for s in sheets], [s.shape for s in sheets])
        )
        self.zero = self._constant(np.zeros(1))
        # what a column and a row add to the number of a location: index * weight + start
        sizes = np.array([columns * rows for _, _, (columns, rows) in sheets])
        self.start = self._constant(np.stack([np.cumsum(sizes) - sizes, np.zeros_like(sizes)])[:, None, :, None])
        self.weight = self._constant(np.array([(1, s.shape[0]) for s in sheets]).T[:, None, :, None])
        self._searches = {}

    def _constant(self, values: np.ndarray) -> Array:
        lib = library(self.like)
        return lib.precise(lib.from_host(np.ascontiguousarray(values), self.like))

    def nearest(self, points: Array, k: int) -> Tuple[Array, Optional[Array]]:
        """Return the k locations of every sheet that are nearest to each point.

        Args:
            points (Array): (2, G) in pixels, precise.
            k (int): locations a sheet.

        Returns:
            tuple: the locations (k, S, G) in no particular order, and a mask of those that exist (a sheet may have
            fewer), None if all do.  Equal distances go to the lower location.
        """
        lib, search = library(points), self._search(k)
        ranked = self._ranked(points, search)
        # what columns and rows contribute, added up in the cells of the staircase: (T, S, G)
        location, squared = (part[0][search.columns] + part[1][search.rows] for part in ranked)
        chosen = lib.smallest(squared, location, k)
        location = lib.whole(lib.take(location, chosen))
        return location, None if search.complete else lib.isfinite(lib.take(squared, chosen))

    def _search(self, k: int) -> _Search:
        """Return what the search of k locations needs; a copy to the device makes the host wait, so it is kept."""
        if k not in self._searches:
            shapes = np.array([sheet.shape for sheet in self.sheets])
            size = shapes.T[:, None, :, None].astype(np.float64)
            num = np.arange(min(k, shapes.max()) + 1, dtype=np.float64)[:, None, None]
            rank = num[:-1]
            missing = np.where(rank < size, 0.0, np.inf)
            from_host = library(self.like).from_host
            self._searches[k] = _Search(
                self._constant(num / 2),
                self._constant(rank),
                self._constant(np.maximum(size - num, 0)),
                self._constant(missing) if missing.any() else None,
                *(from_host(ranks, self.like) for ranks in staircase(k, *shapes.max(0))),
                bool((shapes.prod(1) >= k).all()),
            )
        return self._searches[k]

    def _ranked(self, points: Array, search: _Search) -> Tuple[Array, Array]:
        """Return the m nearest columns and rows of points (2, G), nearest first: what they add to the number of a location,
        and their squared distance, infinite beyond the size of a sheet; (2, m, S, G) each."""
        lib = library(points)
        offset = points[:, None, None] - self.origin  # (2, 1, S, G)
        left = lib.ceil(offset / self.step - search.half)
        left = lib.minimum(lib.maximum(left, self.zero), search.last_left)  # of the nearest 0 to m
        before, left = left[:, :-1], left[:, 1:]
        # one more neighbour: the left end moved, or else it is the one at the right
        index = (left == before) * search.rank + left
        squared = index * self.step - offset
        squared *= squared
        if search.missing is not None:
            squared += search.missing
        return index * self.weight + self.start, squared

    def window_width(self, reach: Sequence[float]) -> int:
        """How many columns, and rows, of any sheet can lie in an interval of ``reach`` pixels (one for each sheet)."""
        return max(
            num if r >= num * step else min(num, int(r / step) + 2)
            for r, sheet in zip(reach, self.sheets)
            for num, step in zip(sheet.shape, sheet.step)
        )

    def window(self, low: Array, width: int) -> Tuple[Array, Array]:
        """As many columns and rows of every sheet from ``low`` (2, S, G) on, in pixels, precise.

        Returns:
            tuple: their x and y in pixels, infinite where a sheet has no more, and what they add to the number of a
            location: (2, S, width, G) each.
        """
        lib = library(low)
        origin, step, size, weight, start = (  # (2, S, 1, 1)
            t.swapaxes(1, 2) for t in (self.origin, self.step, self.size, self.weight, self.start)
        )
        first = lib.maximum(lib.ceil((low[:, :, None] - origin) / step), self.zero)
        first = lib.minimum(first, lib.maximum(size - width, self.zero))
        index = first + lib.precise(lib.arange(width, low))[:, None]
        points = origin + index * step
        if width > min(min(sheet.shape) for sheet in self.sheets):
            points = lib.where(index < size, points, np.inf)
        return points, index * weight + start


def staircase(k: int, columns: int, rows: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the ranks (a, b) with (a + 1)(b + 1) <= k, at most ``columns`` and ``rows`` of each: two arrays (T,)."""
    a, b = np.meshgrid(np.arange(min(k, columns)), np.arange(min(k, rows)))
    keep = (a + 1) * (b + 1) <= k
    return a[keep], b[keep]


def find_lattice(groups: List[Locations]) -> Optional[Lattice]:
    """Return the lattice that groups of locations form, or None if any of them is not exactly a grid.

    Whole pyramids are lattices, and so is what mmdet leaves of them: ``valid_flags`` cut off columns and rows,
    ``allowed_border`` does so for each shape of anchor.
    """
    sheets = [find_sheet(group.points.cpu()) for group in groups]
    return Lattice(sheets, to_array(groups[0].points)) if sheets and None not in sheets else None


def find_sheet(points: Tensor) -> Optional[Sheet]:
    """Return the grid that points (n, 2) form, row by row; None if they do not, exactly."""
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
