"""Center sampling: FCOS's positives, from the middle of a box only.

Legend: N priors, G ground truths, L levels, k locations a level, A anchors a location, P claims.
"""
from typing import Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..registry import TASK_UTILS
from .atss import check_at_least
from .geometry import INSIDE_MARGIN, box_centers, positions, precise, side_distances
from .pyramid import Pyramid
from .spatial_scale import (SCALE_RANGES, ScaleRangeAssigner, check_num_ranges, claims_in_region, gather_claims,
                            group_ranges, in_scale_range)


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

    def __init__(self,
                 topk: int = 9,
                 radius: Optional[float] = None,
                 scale_ranges: Sequence[Tuple[float, float]] = SCALE_RANGES,
                 ignore_iof_thr: float = -1,
                 strides: Sequence[float] = (8, 16, 32, 64, 128)) -> None:
        super().__init__(scale_ranges, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        if radius is not None and radius <= 0:
            raise ValueError(f'radius must be positive (in strides; FCOS uses 1.5), or None, not {radius}')
        self.topk = topk
        self.radius = radius
        self.strides = [float(s) for s in strides]

    def claims(self, pyramid: Pyramid, boxes: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """The candidates that also meet both constraints of SSC."""
        if self.radius is None:
            return self._nearest_claims(pyramid, boxes)
        check_num_ranges('strides', self.strides, pyramid)
        center, boxes = box_centers(boxes), precise(boxes)
        parts = []
        for group, scale_range in group_ranges(pyramid, self.scale_ranges):
            half = self.radius * self.strides[pyramid.groups[group].level]
            region = (torch.maximum(center - half, boxes[:, :2]), torch.minimum(center + half, boxes[:, 2:]), 0.0)
            parts.append(claims_in_region(pyramid, group, boxes, region, scale_range))
        return gather_claims(parts)

    def _nearest_claims(self, pyramid: Pyramid, boxes: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        index, mask, level = pyramid.nearest(box_centers(boxes), self.topk)
        sides = side_distances(pyramid.points[index], boxes[:, None])  # (G, M, 4)
        far = torch.maximum(sides[..., :2], sides[..., 2:])
        ranges = precise(torch.tensor(self.scale_ranges)).to(boxes.device, non_blocking=True)[level]  # (M, 2)
        positive = (sides.amin(-1) > INSIDE_MARGIN) & in_scale_range(*far.unbind(-1), ranges.unbind(-1))
        if mask is not None:
            positive &= mask
        gt, column, mask = positions(positive)
        return mask, index[gt, column], gt
