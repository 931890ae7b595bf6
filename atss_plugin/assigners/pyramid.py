"""The pyramid of priors that an assigner works on: a lattice where it is one, any set of points where it is not.

Both answer the same questions with the same result, ties included; what differs is how many priors they look at.

Legend: N priors, G ground truths, L levels, A anchors a location, k locations, n locations of a group.
"""
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .geometry import anchor_points, chunks, smallest
from .lattice import find_lattice
from .levels import check_num_level_priors, infer_num_level_priors
from .locations import group_locations


class Nearest(NamedTuple):
    """Candidates of every ground truth.

    Attributes:
        index (Tensor): (G, M) prior indices, 0 where there is none.
        mask (Tensor, optional): (G, M) bool, which exist; None if all do.
        level (Tensor): (M,) the pyramid level of each column.
    """
    index: Tensor
    mask: Optional[Tensor]
    level: Tensor


class Window(NamedTuple):
    """Locations of one group around some ground truths; x and y broadcast to (g, h, w).

    Attributes:
        gts (slice): which ground truths.
        x (Tensor): (g, 1, w) pixels, precise.
        y (Tensor): (g, h, 1) or (g, 1, w).
        cell (Tensor): (g, h, w) or (1, h, w) indices of the locations in their group.
        priors (Tensor): (n, A) the priors of the group's locations.
    """
    gts: slice
    x: Tensor
    y: Tensor
    cell: Tensor
    priors: Tensor


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

    def __init__(self,
                 priors: Tensor,
                 num_level_priors: Optional[Sequence[int]] = None,
                 anchors_per_location: Optional[int] = None,
                 use_lattice: bool = True) -> None:
        check_boxes(priors)
        self.priors = priors
        if num_level_priors is None:
            num_level_priors = infer_num_level_priors(priors)
        self.num_level_priors = check_num_level_priors(num_level_priors, len(priors))
        self.points = torch.cat([anchor_points(level) for level in priors.split(self.num_level_priors)])
        self.groups, self.take = group_locations(priors, self.points, self.num_level_priors, anchors_per_location)
        self.lattice = find_lattice(self.groups) if use_lattice else None
        self.group_levels = torch.tensor([g.level for g in self.groups], device=priors.device)

    def nearest(self, points: Tensor, k: int) -> Nearest:
        """The anchors at the k locations of every group that are nearest to each point (G, 2); lower index on
        ties."""
        k = k * self.take
        if self.lattice is None:
            return self._nearest_dense(points, k)
        index, mask = self.lattice.nearest(points, k)
        level = self.group_levels[:, None].expand(-1, index.size(2) * index.size(3)).flatten()
        return Nearest(index.flatten(1), None if mask is None else mask.flatten(1), level)

    def _nearest_dense(self, points: Tensor, k: int) -> Nearest:
        """``nearest`` by looking at all of them, a few ground truths at a time."""
        index, level = [], []
        for group in self.groups:
            order = torch.arange(len(group.points), dtype=points.dtype, device=points.device)
            rows = []
            for part in chunks(len(points), len(group.points)):
                squared = (group.points - points[part, None]).square().sum(-1)  # (g, n)
                rows.append(smallest(squared, order, k, dim=1))
            cell = torch.cat(rows)
            index.append(group.priors[cell].flatten(1))
            level += [group.level] * index[-1].size(1)
        index = torch.cat(index, 1)
        return Nearest(index, None, index.new_tensor(level))

    def windows(self, group: int, low: Tensor, reach: float) -> Iterator[Window]:
        """The locations of a group that can lie in the squares from ``low`` (G, 2) to ``low + reach``, and some
        more."""
        priors, points = self.groups[group].priors, self.groups[group].points
        if self.lattice is not None:
            yield Window(slice(0, len(low)), *self.lattice.window(group, low, reach), priors)
            return
        cell = torch.arange(len(points), device=low.device)[None, None]
        for part in chunks(len(low), len(points)):
            x, y = (points[:, axis].expand(1, 1, -1) for axis in (0, 1))
            yield Window(part, x, y, cell, priors)


def check_boxes(priors: Tensor) -> None:
    """Raise a ValueError unless the priors (N, 4) are finite boxes xyxy."""
    if not bool(priors.isfinite().all()):
        raise ValueError('priors contain NaN or infinite coordinates; check the anchor generator')
    if bool((priors[:, 2:] < priors[:, :2]).any()):
        raise ValueError('priors must be boxes xyxy with x1 <= x2 and y1 <= y2; points with strides '
                         '(MlvlPointGenerator: YOLOX, RTMDet) are none. Use a head with an AnchorGenerator, such as '
                         'atss_plugin.FCOSHead')


class PyramidCache:
    """The lattices of the last prior tensors, so that finding their structure costs a comparison.

    Heads make their priors anew for every batch.  A tensor that is the very one seen before (our head's) is
    recognised by identity, at no cost; another one by equality, which on an accelerator waits for the comparison.
    Priors that are no lattice are not kept: they are rarely seen twice.

    Args:
        max_priors (int): how many priors are kept in all (some 64 bytes each); the longest unused go first.
    """

    def __init__(self, max_priors: int = 1 << 21) -> None:
        self.max_priors = max_priors
        # key, version of the tensor, pyramid; the last used is last
        self._kept: List[Tuple[tuple, int, Pyramid]] = []

    def get(self, priors: Tensor, num_level_priors: Optional[Sequence[int]], anchors: Optional[int]) -> Pyramid:
        """The pyramid of these priors, found now or before."""
        levels = None if num_level_priors is None else tuple(int(n) for n in num_level_priors)
        key = (priors.shape, priors.dtype, priors.device, levels, anchors)
        alike = [entry for entry in reversed(self._kept) if entry[0] == key and _version(entry[2].priors) == entry[1]]
        found = next((entry for entry in alike if entry[2].priors is priors), None) or \
            next((entry for entry in alike if torch.equal(entry[2].priors, priors)), None)
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
        return PyramidCache, (self.max_priors, )  # copies and pickles start empty


def _version(tensor: Tensor) -> int:
    """Counts in-place changes of a tensor; tensors of inference mode do not count them."""
    return 0 if tensor.is_inference() else tensor._version
