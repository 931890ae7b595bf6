"""TOPK, the authors' fourth sample definition, as an assigner of mmdet."""

from .. import matching
from ..matching import Assignment, GroundTruths
from ..matching.boxes import on_host
from ..matching.pyramid import check_boxes
from ..registry import TASK_UTILS
from .base import IOU, Assigner, check_at_least


@TASK_UTILS.register_module()
class TopKIoUAssigner(Assigner):
    """Positives are the k anchors of highest IoU with an object, over all levels:
    :func:`atss_plugin.matching.topk_iou`.

    Among equal IoUs the nearer anchor is preferred, and its centre has to be inside the object.  No table of the paper
    uses it.

    Args:
        topk (int): k, anchors over all levels. Defaults to 9.
        iou_calculator (dict): config of the IoU calculator.
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.

    Raises:
        ValueError: ``topk`` < 1.
    """

    def __init__(self, topk: int = 9, iou_calculator: dict = IOU, ignore_iof_thr: float = -1) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        self.topk = topk

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Rank all priors for every ground truth."""
        if on_host(priors):  # elsewhere asking would make the host wait
            check_boxes(priors)
        return matching.topk_iou(priors, gts, self.topk, self.measure)
