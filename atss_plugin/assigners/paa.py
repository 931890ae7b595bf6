"""PAA, probabilistic anchor assignment (https://arxiv.org/abs/2007.08103), as an assigner of mmdet."""

from .. import matching
from ..matching import Assignment, GroundTruths
from ..registry import TASK_UTILS
from .base import IOU, Assigner, check_at_least
from .predictions import stack_predictions


@TASK_UTILS.register_module()
class PAAAssigner(Assigner):
    """Positives are the better of two groups into which an object's losses fall: :func:`atss_plugin.matching.paa`.

    The same separation as mmdet's ``PAAHead.paa_reassign`` with ``covariance_type='diag'``, but for: the mixtures of
    all objects are fitted at once and in float64; and before that, an anchor that has the highest IoU of some object
    stays with its own best object (see :class:`IoUAssigner`).

    Args:
        topk (int): candidates of an object on each level. Defaults to 9.
        pos_iou_thr (float): the least IoU of a candidate. Defaults to 0.1.
        box_weight (float): the weight of GIoU loss relative to focal loss. Defaults to 1.3, PAA's.
        iou_calculator (dict): config of the IoU calculator.
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.

    Raises:
        ValueError: ``topk`` < 1, ``pos_iou_thr`` outside of 0 to 1, or, when assigning, a head that passes no
            predictions.
    """

    needs_predictions = True

    def __init__(
        self,
        topk: int = 9,
        pos_iou_thr: float = 0.1,
        box_weight: float = 1.3,
        *,
        iou_calculator: dict = IOU,
        ignore_iof_thr: float = -1,
    ) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        if not 0 <= pos_iou_thr <= 1:
            raise ValueError(f'pos_iou_thr must be between 0 and 1, not {pos_iou_thr}')
        self.topk = topk
        self.pos_iou_thr = pos_iou_thr
        self.box_weight = box_weight

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Fit a mixture to the losses of every object's candidates."""
        pyramid = self.pyramid(priors, num_level_priors)
        predicted = stack_predictions('PAAAssigner', predictions, gts)
        return matching.paa(pyramid, gts, predicted, self.topk, self.pos_iou_thr, self.box_weight, self.measure)
