"""RFLA (https://arxiv.org/abs/2208.08738) as an assigner of mmdet."""

from typing import Sequence, Tuple

from .. import matching
from ..matching import Assignment, GroundTruths
from ..matching.rfla import RECEPTIVE_FIELDS
from ..registry import TASK_UTILS
from .base import Assigner, check_at_least, checked_positive


@TASK_UTILS.register_module()
class RFLAAssigner(Assigner):
    """Positives are the locations whose receptive field is most like the object: :func:`atss_plugin.matching.rfla`.

    Unlike the authors' code: a location that several objects of a stage claim goes to the most alike, not to the last;
    of equally alike ones k are taken, not all; and a location that is very much like an object without being chosen
    (RFD of 0.8 and more) is background, not ignored.

    Args:
        topk (tuple[int, int]): locations of an object in the first stage and in the second. Defaults to (3, 1).
        decay (float): by how much receptive fields shrink for the second stage. Defaults to 0.9.
        receptive_fields (sequence): sides of the theoretical receptive fields of the levels in pixels. Defaults to the
            authors' for P3 to P7 of ResNet-50.
        in_gt_box (bool): only points inside of the object are positive. Defaults to False, as in the paper.
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.

    Raises:
        ValueError: an entry of ``topk`` < 1, ``decay`` <= 0, or, when assigning, another number of receptive fields
            than of levels.
    """

    def __init__(
        self,
        topk: Tuple[int, int] = (3, 1),
        decay: float = 0.9,
        receptive_fields: Sequence[float] = RECEPTIVE_FIELDS,
        *,
        in_gt_box: bool = False,
        ignore_iof_thr: float = -1,
    ) -> None:
        super().__init__(ignore_iof_thr=ignore_iof_thr)
        if not hasattr(topk, '__len__') or len(topk) != 2:
            raise ValueError(f'topk must be two numbers, of the first stage and of the second, not {topk!r}')
        for k in topk:
            check_at_least('topk', k, 1)
        if decay <= 0:
            raise ValueError(f'decay must be positive (the paper uses 0.9), not {decay}')
        self.topk = (topk[0], topk[1])
        self.decay = decay
        self.receptive_fields = checked_positive('receptive_fields', receptive_fields)
        self.in_gt_box = in_gt_box

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Rank the receptive fields of all locations for every object, twice."""
        pyramid = self.pyramid(priors, num_level_priors)
        return matching.rfla(pyramid, gts, self.topk, self.decay, self.receptive_fields, self.in_gt_box)
