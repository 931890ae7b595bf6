"""TOOD's task alignment learning (https://arxiv.org/abs/2108.07755) as an assigner of mmdet."""

from .. import matching
from ..matching import Assignment, GroundTruths
from ..registry import TASK_UTILS
from .base import IOU, Assigner, check_at_least
from .predictions import stack_predictions


@TASK_UTILS.register_module()
class TaskAlignedAssigner(Assigner):
    """Positives are where score and box of a prediction agree: :func:`atss_plugin.matching.task_aligned`.

    The same assignment as mmdet's class of this name, but for: of equal alignments the lower prior is taken (``topk``
    takes any); a batch is assigned at once; ``max_overlaps`` is 0 for negatives, not -100000000; and there is no
    ``assign_metrics``: labels are hard, where TOOD's head makes soft ones of it.

    Args:
        topk (int): priors of an object, over all levels. Defaults to 13, TOOD's.
        alpha (float): the exponent of the score. Defaults to 1.
        beta (float): the exponent of the IoU. Defaults to 6.
        iou_calculator (dict): config of the IoU calculator.
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.

    Raises:
        ValueError: ``topk`` < 1, or, when assigning, a head that passes no predictions.
    """

    needs_predictions = True

    def __init__(
        self,
        topk: int = 13,
        alpha: float = 1.0,
        beta: float = 6.0,
        *,
        iou_calculator: dict = IOU,
        ignore_iof_thr: float = -1,
    ) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        self.topk = topk
        self.exponents = alpha, beta

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Rank all predictions for every object."""
        pyramid = self.pyramid(priors, num_level_priors)
        predicted = stack_predictions('TaskAlignedAssigner', predictions, gts)
        return matching.task_aligned(pyramid, gts, predicted, self.topk, *self.exponents, self.measure)
