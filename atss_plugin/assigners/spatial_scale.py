"""The spatial and scale constraint (SSC): FCOS's definition of positives.

Legend: N priors, G ground truths, L levels, A anchors a location, P claims.
"""
from abc import abstractmethod
from typing import Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import TASK_UTILS
from .base import GroundTruths, Match, PyramidAssigner
from .geometry import INSIDE_MARGIN, box_areas, positions, precise
from .pyramid import Pyramid, Window

# FCOS's ranges of max(l, t, r, b) in pixels, one a level (RECIPE, "Sample definitions")
SCALE_RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, float('inf')))


class ScaleRangeAssigner(PyramidAssigner):
    """What SSC and center sampling share: a scale range for each level, and the smallest box wins.

    Args:
        scale_ranges (sequence): (low, high) in pixels for each level, ends included.
        ignore_iof_thr (float): see :class:`PyramidAssigner`.
    """

    def __init__(self,
                 scale_ranges: Sequence[Tuple[float, float]] = SCALE_RANGES,
                 ignore_iof_thr: float = -1) -> None:
        super().__init__(ignore_iof_thr=ignore_iof_thr)
        self.scale_ranges = [tuple(float(v) for v in r) for r in scale_ranges]
        if any(len(r) != 2 or not r[0] <= r[1] for r in self.scale_ranges):
            raise ValueError(f'scale_ranges must be (low, high) pairs with low <= high, not {scale_ranges}')

    @abstractmethod
    def claims(self, pyramid: Pyramid, boxes: Tensor) -> Tuple[Optional[Tensor], Tensor, Tensor]:
        """Which anchors ground truths (G, 4) want: mask (None if all count), prior and ground truth (P,) each."""

    def match(self, priors: Tensor, num_level_priors: Optional[Sequence[int]], gts: GroundTruths,
              predictions: Optional[InstanceData] = None) -> Match:
        """Let the smallest of the ground truths that claim an anchor have it."""
        pyramid = self.pyramids.get(priors, num_level_priors, None)
        check_num_ranges('scale_ranges', self.scale_ranges, pyramid)
        mask, prior, gt = self.claims(pyramid, gts.boxes)
        overlap = self.pair_overlaps(priors[prior], gts.boxes[gt])
        # "Of several boxes, the smallest area."
        claims = gts.claims(mask, prior, gt, overlap, len(priors))
        return self.settle(claims, -box_areas(gts.boxes)[gt], gts.num_images * len(priors))


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

    def claims(self, pyramid: Pyramid, boxes: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """All anchors that meet both constraints."""
        boxes = precise(boxes)
        return gather_claims(
            claims_in_region(pyramid, group, boxes, (boxes[:, :2], boxes[:, 2:], INSIDE_MARGIN), scale_range)
            for group, scale_range in group_ranges(pyramid, self.scale_ranges))


def check_num_ranges(name: str, values: Sequence, pyramid: Pyramid) -> None:
    """Raise a ValueError unless there is one of ``values`` for each level."""
    if len(values) != len(pyramid.num_level_priors):
        raise ValueError(f'{name} has {len(values)} entries, but the priors have {len(pyramid.num_level_priors)} '
                         f'levels (of {pyramid.num_level_priors} priors): give {name} one entry for each level')


def group_ranges(pyramid: Pyramid, scale_ranges: List[Tuple[float, float]]) -> List[Tuple[int, Tuple[float, float]]]:
    """The groups of locations, with the scale range of their level."""
    return [(i, scale_ranges[group.level]) for i, group in enumerate(pyramid.groups)]


def in_scale_range(distance_x: Tensor, distance_y: Tensor, scale_range: Tuple[float, float]) -> Tensor:
    """Whether max(l, t, r, b) lies in the range, ends included, given max(l, r) and max(t, b)."""
    low, high = scale_range
    return (distance_x <= high) & (distance_y <= high) & ((distance_x >= low) | (distance_y >= low))


def claims_in_region(pyramid: Pyramid, group: int, boxes: Tensor, region: Tuple[Tensor, Tensor, float],
                     scale_range: Tuple[float, float]) -> Iterator[Tuple[Optional[Tensor], Tensor, Tensor]]:
    """The anchors of one group inside each ground truth's region and scale range, in parts.

    Args:
        pyramid (Pyramid): the priors.
        group (int): which group of locations.
        boxes (Tensor): (G, 4) ground truths, precise.
        region (tuple): corners (G, 2) and (G, 2) of the region of each, and by how many pixels to be inside.
        scale_range (tuple): (low, high) of max(l, t, r, b).
    """
    top_left, bottom_right, margin = region
    # l, r <= high confines x to [x2 - high, x1 + high]; together with the box that is at most ``high`` wide
    low = torch.maximum(top_left, boxes[:, 2:] - scale_range[1])
    for window in pyramid.windows(group, low, scale_range[1]):
        part = window.gts
        mask = _in_region(window, boxes[part], (top_left[part], bottom_right[part], margin), scale_range)
        gt, column, mask = positions(mask.flatten(1))
        cell = window.cell.expand(part.stop - part.start, -1, -1).flatten(1)[gt, column]
        priors = window.priors[cell]  # (P, A)
        gt = (gt + part.start)[:, None].expand_as(priors).flatten()
        yield mask if mask is None else mask[:, None].expand_as(priors).flatten(), priors.flatten(), gt


def _in_region(window: Window, boxes: Tensor, region: Tuple[Tensor, Tensor, float],
               scale_range: Tuple[float, float]) -> Tensor:
    """(g, h, w): which locations of the window lie in the regions and in the scale range; axis by axis."""
    far, within = [], []
    for axis, point in enumerate((window.x, window.y)):
        near_side, far_side, start, end = (
            t[:, i, None, None] for t, i in ((boxes, axis), (boxes, axis + 2), (region[0], axis), (region[1], axis)))
        far.append(torch.maximum(point - near_side, far_side - point))
        within.append(torch.minimum(point - start, end - point) > region[2])
    return within[0] & within[1] & in_scale_range(*far, scale_range)


def gather_claims(parts: Iterable) -> Tuple[Optional[Tensor], Tensor, Tensor]:
    """Concatenate the claims of all groups: mask (None if all count), prior and gt, (P,) each."""
    masks, priors, gts = zip(*(part for group in parts for part in group))
    return None if masks[0] is None else torch.cat(masks), torch.cat(priors), torch.cat(gts)
