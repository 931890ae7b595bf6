"""SimOTA (YOLOX, https://arxiv.org/abs/2107.08430) as an assigner of mmdet."""

from typing import Sequence

from .. import matching
from ..matching import Assignment, GroundTruths
from ..registry import TASK_UTILS
from .base import IOU, Assigner, check_at_least, checked_positive
from .predictions import stack_predictions


@TASK_UTILS.register_module()
class SimOTAAssigner(Assigner):
    """Positives are the cheapest predictions, more of them the better they are: :func:`atss_plugin.matching.simota`.

    The same assignment as mmdet's class of this name, but for: the priors are anchors, whose strides are given here,
    not points with strides; costs are summed in float64 (mmdet adds 100000 to some in float32, which leaves it two
    digits after the point to choose by); of equal costs the lower prior is taken; a box of no area has no positive; a
    batch is assigned at once; and ``max_overlaps`` is 0 for negatives, not -100000.

    Args:
        center_radius (float): half the side of the square around an object's centre, in strides. Defaults to 2.5.
        candidate_topk (int): how many IoUs are summed to give the number of positives. Defaults to 10.
        iou_weight (float): Defaults to 3.
        cls_weight (float): Defaults to 1.
        strides (sequence): the stride of each level in pixels.
        iou_calculator (dict): config of the IoU calculator.
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.

    Raises:
        ValueError: ``candidate_topk`` < 1 or ``center_radius`` <= 0; when assigning, another number of strides than of
            levels, or a head that passes no predictions.
    """

    needs_predictions = True

    def __init__(
        self,
        center_radius: float = 2.5,
        candidate_topk: int = 10,
        iou_weight: float = 3.0,
        cls_weight: float = 1.0,
        *,
        strides: Sequence[float] = (8, 16, 32, 64, 128),
        iou_calculator: dict = IOU,
        ignore_iof_thr: float = -1,
    ) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('candidate_topk', candidate_topk, 1)
        if center_radius <= 0:
            raise ValueError(f'center_radius must be positive (in strides; YOLOX uses 2.5), not {center_radius}')
        self.center_radius = center_radius
        self.candidate_topk = candidate_topk
        self.iou_weight = iou_weight
        self.cls_weight = cls_weight
        self.strides = checked_positive('strides', strides)

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Give every object its cheapest predictions."""
        return matching.simota(
            self.pyramid(priors, num_level_priors),
            gts,
            stack_predictions('SimOTAAssigner', predictions, gts),
            self.center_radius,
            self.candidate_topk,
            self.iou_weight,
            self.cls_weight,
            self.strides,
            self.measure,
        )
