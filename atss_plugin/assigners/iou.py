"""Fixed IoU thresholds as an assigner of mmdet."""

from typing import Tuple, Union

from .. import matching
from ..matching import Assignment, GroundTruths
from ..matching.boxes import on_host
from ..matching.pyramid import check_boxes
from ..registry import TASK_UTILS
from .base import IOU, Assigner


@TASK_UTILS.register_module()
class IoUAssigner(Assigner):
    """RetinaNet's positives (paper, section 3.3; https://arxiv.org/abs/1708.02002):
    :func:`atss_plugin.matching.max_iou`.

    A prior is positive if its IoU with its best ground truth reaches ``pos_iou_thr``, negative if it is below
    ``neg_iou_thr``, and ignored between them.  A prior that has the highest IoU of some ground truth (ties included)
    is positive in any case, for the ground truth that is *its own* best.

    The two thresholds may be given by position; what mmdet's MaxIoUAssigner has in the third place means something
    else, so all other arguments are given by name.

    Args:
        pos_iou_thr (float): Defaults to 0.5.
        neg_iou_thr (float | tuple[float, float]): Defaults to 0.4. Two numbers (low, high), as in mmdet: negative is
            low <= IoU < high.
        in_gt_box (bool): Table 1's "In GT box": a positive whose centre is not inside its ground truth is ignored.
        match_low_quality (bool): False drops the last rule. Defaults to True.
        iou_calculator (dict): config of the IoU calculator.
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.

    Raises:
        ValueError: thresholds that are not 0 <= neg_iou_thr <= pos_iou_thr <= 1.
    """

    def __init__(
        self,
        pos_iou_thr: float = 0.5,
        neg_iou_thr: Union[float, Tuple[float, float]] = 0.4,
        *,
        in_gt_box: bool = False,
        match_low_quality: bool = True,
        iou_calculator: dict = IOU,
        ignore_iof_thr: float = -1,
    ) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        interval = tuple(neg_iou_thr) if isinstance(neg_iou_thr, (tuple, list)) else (0.0, neg_iou_thr)
        if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= pos_iou_thr <= 1:
            raise ValueError(
                'thresholds must satisfy 0 <= neg_iou_thr <= pos_iou_thr <= 1, neg_iou_thr one number or (low, high), '
                f'not neg_iou_thr={neg_iou_thr}, pos_iou_thr={pos_iou_thr}'
            )
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = interval
        self.in_gt_box = in_gt_box
        self.match_low_quality = match_low_quality

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Compare every prior with every ground truth of each image."""
        if on_host(priors):  # elsewhere asking would make the host wait
            check_boxes(priors)
        return matching.max_iou(
            priors, gts, self.pos_iou_thr, self.neg_iou_thr, self.in_gt_box, self.match_low_quality, self.measure
        )
