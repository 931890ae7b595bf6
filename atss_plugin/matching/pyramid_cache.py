"""Pyramids seen before."""

from typing import List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from .pyramid import Pyramid, find_pyramid


class Kept(NamedTuple):
    """A pyramid, and the priors that it was found from: as they were given, and how often they had been changed."""

    key: tuple
    priors: Tensor
    version: int
    pyramid: Pyramid


class PyramidCache:
    """The pyramids of the last prior tensors, so that finding their structure costs a comparison.

    Heads make their priors anew for every batch.  A tensor that is the very one seen before (our head's) is recognised
    by identity, at no cost; another one by equality, which on an accelerator waits for the comparison.  Priors that do
    not form grids are not kept: they are rarely seen twice.

    Args:
        max_priors (int): how many priors are kept in all (some 100 bytes each); the longest unused go first.
    """

    def __init__(self, max_priors: int = 1 << 21) -> None:
        self.max_priors = max_priors
        self._kept: List[Kept] = []  # the last used is last

    def get(
        self, priors: Tensor, num_level_priors: Optional[Sequence[int]] = None, anchors: Optional[int] = None
    ) -> Pyramid:
        """Return the pyramid of these priors, found now or before; arguments as of :func:`find_pyramid`."""
        levels = None if num_level_priors is None else tuple(int(n) for n in num_level_priors)
        key = (priors.shape, priors.dtype, priors.device, levels, anchors)
        alike = [kept for kept in reversed(self._kept) if kept.key == key and _version(kept.priors) == kept.version]
        found = next((kept for kept in alike if kept.priors is priors), None) or next(
            (kept for kept in alike if torch.equal(kept.priors, priors)), None
        )
        if found is None:
            found = Kept(key, priors, _version(priors), find_pyramid(priors, levels, anchors))
        self._keep(found)
        return found.pyramid

    def _keep(self, entry: Kept) -> None:
        self._kept = [other for other in self._kept if other is not entry]
        if entry.pyramid.grids is None:
            return
        self._kept.append(entry)
        while sum(len(kept.priors) for kept in self._kept) > self.max_priors and len(self._kept) > 1:
            self._kept.pop(0)

    def __reduce__(self):
        return PyramidCache, (self.max_priors,)  # copies and pickles start empty


def _version(tensor: Tensor) -> int:
    """Return the count of in-place changes of a tensor; tensors of inference mode do not count them."""
    return 0 if tensor.is_inference() else tensor._version
