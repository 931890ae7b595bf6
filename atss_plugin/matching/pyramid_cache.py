"""Pyramids seen before."""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .pyramid import Pyramid, find_pyramid


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
        # key, priors as they were given, their version, pyramid; the last used is last
        self._kept: List[Tuple[tuple, Tensor, int, Pyramid]] = []

    def get(
        self, priors: Tensor, num_level_priors: Optional[Sequence[int]] = None, anchors: Optional[int] = None
    ) -> Pyramid:
        """Return the pyramid of these priors, found now or before; arguments as of :func:`find_pyramid`."""
        levels = None if num_level_priors is None else tuple(int(n) for n in num_level_priors)
        key = (priors.shape, priors.dtype, priors.device, levels, anchors)
        alike = [entry for entry in reversed(self._kept) if entry[0] == key and _version(entry[1]) == entry[2]]
        found = next((entry for entry in alike if entry[1] is priors), None) or next(
            (entry for entry in alike if torch.equal(entry[1], priors)), None
        )
        if found is None:
            found = (key, priors, _version(priors), find_pyramid(priors, levels, anchors))
        self._keep(found)
        return found[3]

    def _keep(self, entry: Tuple[tuple, Tensor, int, Pyramid]) -> None:
        self._kept = [other for other in self._kept if other is not entry]
        if entry[3].grids is None:
            return
        self._kept.append(entry)
        while sum(len(kept[1]) for kept in self._kept) > self.max_priors and len(self._kept) > 1:
            self._kept.pop(0)

    def __reduce__(self):
        return PyramidCache, (self.max_priors,)  # copies and pickles start empty


def _version(tensor: Tensor) -> int:
    """Return the count of in-place changes of a tensor; tensors of inference mode do not count them."""
    return 0 if tensor.is_inference() else tensor._version
