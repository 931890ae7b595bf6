"""Center sampling, in either of its forms, as an assigner of mmdet."""

from typing import Optional, Sequence, Tuple

from .. import matching
from ..matching import SCALE_RANGES, Assignment, GroundTruths
from ..registry import TASK_UTILS
from .base import check_at_least, checked_positive
from .spatial_scale import SpatialScaleAssigner


@TASK_UTILS.register_module()
class CenterSamplingAssigner(SpatialScaleAssigner):
    """SSC restricted to anchor points near the centre of the box ("FCOS + Center sampling" of Table 3).

    The paper's lite version of ATSS takes the ``topk`` points nearest to the centre on each level as candidates; the
    version merged into FCOS takes the points strictly inside a square of ``radius`` strides around the centre,
    clipped to the box.

    Args:
        topk (int): k, candidate locations on a level. Defaults to 9, the paper's.
        radius (float, optional): half the side of the square in strides; takes the place of ``topk``. FCOS uses 1.5.
        scale_ranges (sequence): (low, high) in pixels for each level, ends included. Defaults to FCOS's for five
            levels.
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.
        strides (sequence): the stride of each level in pixels, for ``radius``.

    Raises:
        ValueError: ``topk`` < 1, ``radius`` <= 0, a range with low > high, or, when assigning, another number of ranges
            or strides than of levels.
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
        self.strides = checked_positive('strides', strides)

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Find the anchors near the centre that meet both constraints of SSC."""
        pyramid = self.pyramid(priors, num_level_priors)
        if self.radius is None:
            return matching.center_sampling(pyramid, gts, self.topk, self.scale_ranges)
        return matching.center_region(pyramid, gts, self.radius, self.strides, self.scale_ranges)
