"""ATSS (https://arxiv.org/abs/1912.02424), and DDOD's variant of it, as assigners of mmdet.

Legend: N priors, G ground truths, M candidates of a ground truth, k locations on a level, C classes.
"""

from typing import List, Optional, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from .. import matching
from ..matching import Assignment, Candidates, GroundTruths
from ..matching.atss import Quality
from ..registry import TASK_UTILS
from .base import IOU, Assigner, check_at_least, checked_boxes, checked_priors
from .predictions import checked_predictions


@TASK_UTILS.register_module()
class ATSSAssigner(Assigner):
    """Adaptive Training Sample Selection, Algorithm 1 of the paper: :func:`atss_plugin.matching.atss`.

    Unlike mmdet's assigner of the same name, ``topk`` counts locations: with A anchors per location, k x A anchors of
    each level are candidates.

    Args:
        topk (int): k, the candidate locations on each pyramid level. Defaults to 9, the paper's.
        anchors_per_location (int, optional): A. Found from the priors by default; 1 takes k anchors as mmdet does.
        iou_calculator (dict): config of the IoU calculator, which has to do aligned pairs (``is_aligned=True``).
        ignore_iof_thr (float): see :class:`Assigner`. Defaults to -1, off.
        min_positives (int): a ground truth with fewer positives gets its next best candidates up to this number,
            those whose centre is inside it first, by IoU; only candidates that overlap it, and not those that a
            ground truth of higher IoU claims. Beyond the paper, where a tiny object may stay without a positive.
            Defaults to 0, off.
        alpha (None): an argument of mmdet's assigner, which here makes another class: :class:`DDODAssigner`.

    Raises:
        ValueError: ``topk`` < 1, ``anchors_per_location`` < 1 or ``min_positives`` < 0.
    """

    def __init__(
        self,
        topk: int = 9,
        anchors_per_location: Optional[int] = None,
        iou_calculator: dict = IOU,
        ignore_iof_thr: float = -1,
        *,
        min_positives: int = 0,
        alpha: None = None,
    ) -> None:
        if alpha is not None:
            raise ValueError(f"alpha={alpha} is DDOD's cost instead of the IoU: write type='atss_plugin.DDODAssigner'")
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        check_at_least('min_positives', min_positives, 0)
        if anchors_per_location is not None:
            check_at_least('anchors_per_location', anchors_per_location, 1)
        self.topk = topk
        self.anchors_per_location = anchors_per_location
        self.min_positives = min_positives

    def match(self, priors, num_level_priors, gts: GroundTruths, predictions=None) -> Assignment:
        """Run Algorithm 1."""
        pyramid = self.pyramid(priors, num_level_priors, self.anchors_per_location)
        quality = self.quality(gts, predictions)
        return matching.atss(pyramid, gts, self.topk, self.measure, quality, self.min_positives)

    def quality(self, gts: GroundTruths, predictions: Optional[List[InstanceData]]) -> Optional[Quality]:
        """Return what takes the place of the candidates' IoU: nothing."""

    @torch.no_grad()
    def candidates(self, priors: Tensor, num_level_priors: Optional[Sequence[int]], gt_bboxes: Tensor) -> Candidates:
        """Return the candidates of ground truths (G, 4) among priors (N, 4), and their IoU threshold."""
        priors, boxes = checked_priors(priors), checked_boxes('ground truth', [InstanceData(bboxes=gt_bboxes)])
        gts = matching.collect(boxes, [torch.zeros_like(boxes[0][:, 0]).long()], priors)
        pyramid = self.pyramid(priors, num_level_priors, self.anchors_per_location)
        return matching.find_candidates(pyramid, gts, self.topk, self.measure)


@TASK_UTILS.register_module()
class DDODAssigner(ATSSAssigner):
    """ATSS by a cost instead of the IoU, as DDOD does it (https://arxiv.org/abs/2107.02963).

    ``sigmoid(score)^(1 - alpha) * IoU(predicted box)^alpha`` takes the place of the IoU of the candidates.  The head
    has to pass ``bboxes`` (N, 4) and logits (N, C): as ``logits`` (our heads), or as ``scores`` (mmdet's DDODHead).

    Args:
        topk (int): k, the candidate locations on each pyramid level. Defaults to 9.
        alpha (float): the weight of the box. Defaults to 0.8, DDOD's for classification.
        **kwargs: of :class:`ATSSAssigner`.
    """

    needs_predictions = True

    def __init__(self, topk: int = 9, *, alpha: float = 0.8, **kwargs) -> None:
        super().__init__(topk, **kwargs)
        self.alpha = alpha

    def quality(self, gts: GroundTruths, predictions: Optional[List[InstanceData]]) -> Quality:
        """Return DDOD's cost."""
        given = 'logits' if predictions and all('logits' in p for p in predictions) else 'scores'
        boxes, scores = checked_predictions('DDODAssigner', predictions, gts, given)
        boxes = boxes.to(gts.boxes.dtype)
        image, label = gts.image[:, None], gts.labels[:, None]

        def cost(index: Tensor) -> Tensor:
            overlap = self.measure(gts.boxes[:, None], boxes[image, index])
            score = scores[image, index, label].to(overlap.dtype).sigmoid()
            return score ** (1 - self.alpha) * overlap**self.alpha

        return cost
