"""Center sampling: FCOS's positives, from the middle of a box only.

Legend: N priors, G ground truths, L levels, k locations a level, A anchors a location, P claims.
"""

from typing import Optional, Sequence, Tuple

import numpy as np

from ..registry import TASK_UTILS
from .arrays import Array, gather, library, positions, precise
from .atss import check_at_least
from .base import GroundTruths
from .geometry import INSIDE_MARGIN, box_centers, side_distances
from .pyramid import Pyramid
from .spatial_scale import SCALE_RANGES, Claims, ScaleRangeAssigner, check_num_ranges, claims_in_region


@TASK_UTILS.register_module()
class CenterSamplingAssigner(ScaleRangeAssigner):
    """SSC restricted to anchor points near the centre of the box ("FCOS + Center sampling" of Table 3).

    The paper's lite version of ATSS takes the ``topk`` points nearest to the centre on each level as candidates; the
    version merged into FCOS takes the points strictly inside a square of ``radius`` strides around the centre,
    clipped to the box.

    Args:
        topk (int): k, candidate locations a level. Defaults to 9, the paper's.
        radius (float, optional): half the side of the square in strides; takes the place of ``topk``. FCOS uses 1.5.
        scale_ranges (sequence): (low, high) in pixels for each level, ends included. Defaults to FCOS's for five
            levels.
        ignore_iof_thr (float): see :class:`PyramidAssigner`. Defaults to -1, off.
        strides (sequence): pixels between locations for each level, used with ``radius`` only.

    Raises:
        ValueError: ``topk`` < 1, ``radius`` <= 0, or, when assigning, not one range (and stride) for each level.
    """

    def __init__(
        self,
        topk: int = 9,
        radius: Optional[float] = None,
        scale_ranges: Sequence[Tuple[float, float]] = SCALE_RANGES,
        ignore_iof_thr: float = -1,
        strides: Sequence[float] = (8, 16, 32, 64, 128),
    ) -> None:
        super().__init__(scale_ranges, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        if radius is not None and radius <= 0:
            raise ValueError(f'radius must be positive (in strides; FCOS uses 1.5), or None, not {radius}')
        self.topk = topk
        self.radius = radius
        self.strides = [float(s) for s in strides]

    def claims(self, pyramid: Pyramid, gts: GroundTruths) -> Claims:
        """Return the candidates that also meet both constraints of SSC."""
        center, box = box_centers(gts.corners), precise(gts.corners)
        if self.radius is None:
            return self._nearest_claims(pyramid, center, box)
        check_num_ranges('strides', self.strides, pyramid)
        lib = library(box)
        half = np.array([[self.radius * self.strides[group.level]] for group in pyramid.groups])  # (S, 1)
        half = lib.precise(lib.from_host(half, box))
        center, (low, high) = center[:, None], box[:, :, None]
        region = lib.stack([lib.maximum(center - half, low), lib.minimum(center + half, high)])
        return claims_in_region(pyramid, box, region, 0.0, self.scale_ranges)

    def _nearest_claims(self, pyramid: Pyramid, center: Array, box: Array) -> Claims:
        lib, near = library(box), pyramid.nearest(center, self.topk)
        sides = side_distances(gather(pyramid.points, near.index), box[:, :, None])  # (2, M, G) each
        distance = lib.maximum(*sides)
        low, high = lib.precise(lib.from_host(np.array(self.scale_ranges), box))[near.level].T[..., None]
        positive = (
            (lib.minimum(*lib.minimum(*sides)) > INSIDE_MARGIN) & (distance <= high).all(0) & (distance >= low).any(0)
        )
        if near.mask is not None:
            positive &= near.mask
        (row, gt), mask = positions(positive)
        return Claims(near.index[row, gt], gt, mask)
