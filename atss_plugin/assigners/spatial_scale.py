"""The spatial and scale constraint (SSC): FCOS's definition of positives.

Legend: N priors, G ground truths, g of them in a window, L levels, S groups of locations, A anchors a location, P
claims.
"""

from abc import abstractmethod
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import TASK_UTILS
from .arrays import Array, gather, library, positions, precise
from .base import GroundTruths, Match, PyramidAssigner
from .geometry import INSIDE_MARGIN, box_areas, side_distances
from .pyramid import Pyramid, Window

# FCOS's ranges of max(l, t, r, b) in pixels, one a level (RECIPE, "Sample definitions")
SCALE_RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, float('inf')))


class Claims(NamedTuple):
    """Ground truths and the anchors that they want.

    Attributes:
        prior (Array): (P,).
        gt (Array): (P,).
        mask (Array, optional): (P,) which claims count; None if all do.
    """

    prior: Array
    gt: Array
    mask: Optional[Array]


class ScaleRangeAssigner(PyramidAssigner):
    """What SSC and center sampling share: a scale range for each level, and the smallest box wins.

    Args:
        scale_ranges (sequence): (low, high) in pixels for each level, ends included.
        ignore_iof_thr (float): see :class:`PyramidAssigner`.
    """

    def __init__(self, scale_ranges: Sequence[Tuple[float, float]] = SCALE_RANGES, ignore_iof_thr: float = -1) -> None:
        super().__init__(ignore_iof_thr=ignore_iof_thr)
        self.scale_ranges = [tuple(float(v) for v in r) for r in scale_ranges]
        if any(len(r) != 2 or not r[0] <= r[1] for r in self.scale_ranges):
            raise ValueError(f'scale_ranges must be (low, high) pairs with low <= high, not {scale_ranges}')

    @abstractmethod
    def claims(self, pyramid: Pyramid, gts: GroundTruths) -> Claims:
        """Which anchors the ground truths want."""

    def match(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        gts: GroundTruths,
        predictions: Optional[InstanceData] = None,
    ) -> Match:
        """Let the smallest of the ground truths that claim an anchor have it."""
        pyramid = self.pyramids.get(priors, num_level_priors, None)
        check_num_ranges('scale_ranges', self.scale_ranges, pyramid)
        prior, gt, mask = self.claims(pyramid, gts)
        overlap = self.pair_overlaps(
            gather(pyramid.corners, prior), gather(pyramid.areas, prior), gather(gts.corners, gt)
        )
        # "Of several boxes, the smallest area."
        return Match(prior, gt, overlap, mask, priority=-box_areas(precise(gts.corners))[gt])


@TASK_UTILS.register_module()
class SpatialScaleAssigner(ScaleRangeAssigner):
    """FCOS's spatial and scale constraint (paper, section 3.3; https://arxiv.org/abs/1904.01355).

    An anchor is positive for a box if its point lies inside the box and the largest of its distances to the box's
    four sides is within the range of its level.  Of several boxes it goes to the smallest.

    Args:
        scale_ranges (sequence): (low, high) in pixels for each level, ends included. Defaults to FCOS's for five
            levels.
        ignore_iof_thr (float): see :class:`PyramidAssigner`. Defaults to -1, off.

    Raises:
        ValueError: a range with low > high, or, when assigning, as many ranges as there are not levels.
    """

    def claims(self, pyramid: Pyramid, gts: GroundTruths) -> Claims:
        """All anchors that meet both constraints."""
        box = precise(gts.corners)
        return claims_in_region(pyramid, box, box[:, :, None], INSIDE_MARGIN, self.scale_ranges)


def check_num_ranges(name: str, values: Sequence, pyramid: Pyramid) -> None:
    """Raise a ValueError unless there is one of ``values`` for each level."""
    if len(values) != len(pyramid.num_level_priors):
        raise ValueError(
            f'{name} has {len(values)} entries, but the priors have {len(pyramid.num_level_priors)} '
            f'levels (of {pyramid.num_level_priors} priors): give {name} one entry for each level'
        )


def claims_in_region(
    pyramid: Pyramid, box: Array, region: Array, margin: float, scale_ranges: List[Tuple[float, float]]
) -> Claims:
    """Return the anchors inside a region of each ground truth and in the scale range of their level.

    Args:
        pyramid (Pyramid): the priors.
        box (Array): (2, 2, G) corners of the ground truths, precise.
        region (Array): (2, 2, S or 1, G) corners of their region in each group of locations.
        margin (float): by how many pixels to be inside of the region.
        scale_ranges (list): (low, high) of max(l, t, r, b) for each level.
    """
    lib, ranges = library(box), np.array([scale_ranges[group.level] for group in pyramid.groups])
    scale = lib.precise(lib.from_host(ranges, box)).T[..., None]  # (2, S, 1)
    region = lib.broadcast_to(region, (2, 2, len(ranges), box.shape[-1]))
    # l, r <= high confines x to [x2 - high, x1 + high]; together with the box that is at most ``high`` wide
    low = lib.maximum(region[0], box[1][:, None] - scale[1])
    parts = []
    for window in pyramid.windows(low, ranges[:, 1].tolist()):
        part, groups = window.gts, window.groups
        wanted = _in_region(
            window, box[..., None, None, part], region[:, :, groups, None, part], margin, scale[:, groups, None]
        )
        cell, mask = positions(wanted)
        prior, mask = pyramid.anchors_at(window.locations(wanted.shape, cell), mask)  # (A, P)
        gt = lib.broadcast_to(cell[3] + part.start, prior.shape)
        parts.append(Claims(prior.reshape(-1), gt.reshape(-1), None if mask is None else mask.reshape(-1)))
    return (
        parts[0]
        if len(parts) == 1
        else Claims(*(None if column[0] is None else lib.concatenate(column) for column in zip(*parts)))
    )


def _in_region(window: Window, box: Array, region: Array, margin: float, scale: Array) -> Array:
    """Which cells (S, h, w, g) of the window lie in the regions and in the scale ranges; columns and rows first."""
    lib, (low, high) = library(box), scale
    within = lib.minimum(*side_distances(window.points, region)) > margin  # (2, S, w, g)
    distance = lib.maximum(*side_distances(window.points, box))
    column, row = window.cross(within & (distance <= high))
    wide, tall = window.cross(distance >= low)
    return column & row & (wide | tall)
