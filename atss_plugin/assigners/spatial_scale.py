"""FCOS's spatial and scale constraint as an assigner of mmdet."""

from typing import Sequence, Tuple

from .. import matching
from ..matching import SCALE_RANGES, Assignment, GroundTruths
from ..registry import TASK_UTILS
from .base import Assigner


@TASK_UTILS.register_module()
class SpatialScaleAssigner(Assigner):
    """FCOS's positives (paper, section 3.3; https://arxiv.org/abs/1904.01355):
    :func:`atss_plugin.matching.spatial_scale`.

    An anchor is positive for a box if its point lies inside the box, by more than 0.01 pixels, and the largest of its
    distances to the box's four sides is within the range of its level, ends included (torchvision's and detectron2's
    versions leave them out).  Of several boxes it goes to the smallest.

    Args:
        scale_ranges (sequence): (low, high) in pixels for each level, ends included. Defaults to FCOS's for five
            levels.
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.

    Raises:
        ValueError: a range with low > high, or, when assigning, another number of ranges than of levels.
    """

    def __init__(self, scale_ranges: Sequence[Tuple[float, float]] = SCALE_RANGES, ignore_iof_thr: float = -1) -> None:
        super().__init__(ignore_iof_thr=ignore_iof_thr)
        try:
            ranges = [(float(low), float(high)) for low, high in scale_ranges]
            valid = all(low <= high for low, high in ranges)
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(f'scale_ranges must be (low, high) pairs with low <= high, not {scale_ranges}')
        self.scale_ranges = ranges

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Find the anchors that meet both constraints."""
        return matching.spatial_scale(self.pyramid(priors, num_level_priors), gts, self.scale_ranges)
