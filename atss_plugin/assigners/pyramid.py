"""The pyramid of priors that an assigner works on: a lattice where it is one, any set of points where it is not.

Both answer the same questions with the same result, ties included; what differs is how many priors they look at.

Legend: N priors, G ground truths, g of them in a chunk, L levels, S groups of locations, n locations, A anchors a
location, k locations.
"""

from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .arrays import Array, gather, library, to_array
from .geometry import anchor_points, box_areas, box_centers, chunks, corners
from .lattice import find_lattice
from .levels import check_num_level_priors, infer_num_level_priors
from .locations import group_locations


class Nearest(NamedTuple):
    """Candidates of every ground truth.

    Attributes:
        index (Array): (M, G) prior indices, any where there is none.
        mask (Array, optional): (M, G) bool, which exist; None if all do.
        level (Array): (M,) the pyramid level of each row.
    """

    index: Array
    mask: Optional[Array]
    level: Array


class Window(NamedTuple):
    """Locations around some ground truths: where columns and rows of a lattice cross, or (dense) single points.

    What holds for columns and what holds for rows comes as one array (2, S, w, g), first the columns.

    Attributes:
        gts (slice): which ground truths.
        groups (slice): which groups of locations.
        points (Array): (2, S, w, g or 1) x of the columns and y of the rows in pixels, precise; infinite where there
            is none.
        index (Array): (2, S, w, g or 1) what column and row add to the index of a location.
        crossing (bool): whether every column crosses every row; else the first crosses the first only, and so on.
    """

    gts: slice
    groups: slice
    points: Array
    index: Array
    crossing: bool

    def cross(self, values: Array) -> Tuple[Array, Array]:
        """Return what holds for columns and for rows (2, S, w, g), such that the two broadcast to the cells: (S, h, w, g),
        with h = w, or h = 1 where they do not cross."""
        columns, rows = values
        return columns[:, None], rows[:, :, None] if self.crossing else rows[:, None]

    def locations(self, shape: Sequence[int], cell: Tuple[Array, ...]) -> Array:
        """Return the indices (P,) of the locations in some cells, given by four indices (P,) into the shape (S, h, w, g)."""
        lib = library(self.index)
        column, row = (lib.broadcast_to(part, shape)[cell] for part in self.cross(self.index))
        return lib.whole(column + row)


class Pyramid:
    """Priors with their levels and locations.

    Args:
        priors (Tensor): (N, 4) float, level by level.
        num_level_priors (sequence[int], optional): the priors of each level; inferred if None.
        anchors_per_location (int, optional): A; found from the priors if None.
        use_lattice (bool): look for a lattice.  False is for comparing with the dense path.

    Raises:
        ValueError: priors that are no (N, 4) or not finite, level sizes that do not add up to N, or levels that
            cannot be inferred.
    """

    def __init__(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]] = None,
        anchors_per_location: Optional[int] = None,
        use_lattice: bool = True,
    ) -> None:
        check_boxes(priors)
        self.priors = priors
        if num_level_priors is None:
            num_level_priors = infer_num_level_priors(priors)
        self.num_level_priors = check_num_level_priors(num_level_priors, len(priors))
        points = torch.cat([anchor_points(level) for level in priors.split(self.num_level_priors)])
        self.groups, self.take = group_locations(priors, points, self.num_level_priors, anchors_per_location)
        self.lattice = find_lattice(self.groups) if use_lattice else None
        anchors = [g.priors.size(1) for g in self.groups]
        self.anchors_differ = len(set(anchors)) > 1
        # (A, n) the priors of all locations, -1 where a group has fewer anchors a location than another
        members = torch.cat([F.pad(g.priors, (0, max(anchors) - a), value=-1) for a, g in zip(anchors, self.groups)]).T
        self.num_locations = members.size(1)
        if len(members) == 1 and torch.equal(members[0], torch.arange(len(priors), device=priors.device)):
            self.members = None  # every prior is the location of its number
        else:
            self.members = to_array(members.contiguous())
        # of all priors, as the assigners want them: (2, 2, N), (2, N), (2, N) and (N,)
        self.corners = to_array(corners(priors).contiguous())
        self.points = to_array(points.T.contiguous())
        self.centers, self.areas = box_centers(self.corners), box_areas(self.corners)
        self._levels = {}

    def nearest(self, points: Array, k: int) -> Nearest:
        """Return the anchors at the k locations of every group that are nearest to each point (2, G); lower index on
        ties."""
        k = k * self.take
        if self.lattice is None:
            location, exists = self._nearest_dense(points, k), None
        else:
            location, exists = self.lattice.nearest(points, k)  # (k, S, G)
            location, exists = join(location), None if exists is None else join(exists)
        prior, mask = self.anchors_at(location, exists)  # (A, M / A, G)
        if k not in self._levels:  # a copy to the device makes the host wait, so it is kept
            if self.lattice is None:
                levels = [group.level for group in self.groups for _ in range(min(k, len(group.points)))]
            else:
                levels = [group.level for group in self.groups] * (len(location) // len(self.groups))
            self._levels[k] = library(points).from_host(np.array(levels * len(prior)), points)
        return Nearest(join(prior), None if mask is None else join(mask), self._levels[k])

    def _nearest_dense(self, points: Array, k: int) -> Array:
        """Return the locations (M, G) by looking at all of them, a few ground truths at a time."""
        lib, locations, start = library(points), [], 0
        for group in self.groups:
            x, y = to_array(group.points.T)[:, None]  # (1, n)
            order = lib.precise(lib.arange(len(group.points), points))
            chosen = []
            for part in chunks(max(points.shape[1], 1), len(group.points)):
                squared = (x - points[0, part, None]) ** 2 + (y - points[1, part, None]) ** 2  # (g, n)
                chosen.append(lib.smallest(squared.T, order[:, None], k) + start)
            locations.append(lib.concatenate(chosen, 1))
            start += len(group.points)
        return lib.concatenate(locations)

    def anchors_at(self, location: Array, mask: Optional[Array]) -> Tuple[Array, Optional[Array]]:
        """Return the priors (A, ...) at some locations (...), and which of them exist, given a mask of the locations; None
        if all do."""
        if mask is not None:
            location = location.clip(0, self.num_locations - 1)
        prior = location[None] if self.members is None else gather(self.members, location)
        mask = None if mask is None else library(mask).broadcast_to(mask, prior.shape)
        if self.anchors_differ:
            mask = prior >= 0 if mask is None else mask & (prior >= 0)
            prior = prior.clip(0)
        return prior, mask

    def windows(self, low: Array, reach: Sequence[float]) -> Iterator[Window]:
        """Windows with all locations of the S groups that can lie in squares, and some more.

        Args:
            low (Array): (2, S, G) the corners (x, y) where the squares of the ground truths begin, precise.
            reach (sequence): the side of the squares in each group, may be infinite.
        """
        num_groups, num_gts = low.shape[1:]
        width = self.lattice.window_width(reach) if self.lattice is not None else 0
        cells = num_groups * width**2
        if 0 < cells <= self.num_locations:
            for part in chunks(num_gts, cells):
                yield Window(part, slice(0, num_groups), *self.lattice.window(low[..., part], width), crossing=True)
            return
        lib, start = library(low), 0
        for i, group in enumerate(self.groups):
            points, num = to_array(group.points.T)[:, None, :, None], len(group.points)
            index = lib.arange(num, low) + start
            index = lib.stack([index, 0 * index])[:, None, :, None]
            for part in chunks(num_gts, num):
                yield Window(part, slice(i, i + 1), points, index, crossing=False)
            start += num


def join(array: Array) -> Array:
    """Return an array (m, n, ...) with its first two dimensions as one."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def check_boxes(priors: Tensor) -> None:
    """Raise a ValueError unless the priors (N, 4) are finite boxes xyxy."""
    if not bool(priors.isfinite().all()):
        raise ValueError('priors contain NaN or infinite coordinates; check the anchor generator')
    if bool((priors[:, 2:] < priors[:, :2]).any()):
        raise ValueError(
            'priors must be boxes xyxy with x1 <= x2 and y1 <= y2; points with strides '
            '(MlvlPointGenerator: YOLOX, RTMDet) are none. Use a head with an AnchorGenerator, such as '
            'atss_plugin.FCOSHead'
        )


class PyramidCache:
    """The lattices of the last prior tensors, so that finding their structure costs a comparison.

    Heads make their priors anew for every batch.  A tensor that is the very one seen before (our head's) is
    recognised by identity, at no cost; another one by equality, which on an accelerator waits for the comparison.
    Priors that are no lattice are not kept: they are rarely seen twice.

    Args:
        max_priors (int): how many priors are kept in all (some 100 bytes each); the longest unused go first.
    """

    def __init__(self, max_priors: int = 1 << 21) -> None:
        self.max_priors = max_priors
        # key, version of the tensor, pyramid; the last used is last
        self._kept: List[Tuple[tuple, int, Pyramid]] = []

    def get(self, priors: Tensor, num_level_priors: Optional[Sequence[int]], anchors: Optional[int]) -> Pyramid:
        """Return the pyramid of these priors, found now or before."""
        levels = None if num_level_priors is None else tuple(int(n) for n in num_level_priors)
        key = (priors.shape, priors.dtype, priors.device, levels, anchors)
        alike = [entry for entry in reversed(self._kept) if entry[0] == key and _version(entry[2].priors) == entry[1]]
        found = next((entry for entry in alike if entry[2].priors is priors), None) or next(
            (entry for entry in alike if same(entry[2].priors, priors)), None
        )
        if found is None:
            found = (key, _version(priors), Pyramid(priors, levels, anchors))
        elif found is self._kept[-1]:
            return found[2]
        self._keep(found)
        return found[2]

    def _keep(self, entry: Tuple[tuple, int, Pyramid]) -> None:
        self._kept = [other for other in self._kept if other is not entry]
        if entry[2].lattice is None:
            return
        self._kept.append(entry)
        while sum(len(pyramid.priors) for _, _, pyramid in self._kept) > self.max_priors and len(self._kept) > 1:
            self._kept.pop(0)

    def __reduce__(self):
        return PyramidCache, (self.max_priors,)  # copies and pickles start empty


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of the same shape hold the same; on an accelerator the host waits for the answer."""
    one, other = to_array(one), to_array(other)
    return library(one).equal(one, other)


def _version(tensor: Tensor) -> int:
    """Count in-place changes of a tensor; tensors of inference mode do not count them."""
    return 0 if tensor.is_inference() else tensor._version
