"""Fixed IoU thresholds: RetinaNet's definition of positives.

Legend: N priors, G ground truths of the batch, g of them in a chunk, B images.
"""

from typing import NamedTuple, Optional, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import TASK_UTILS
from .arrays import gather, on_host, positions, to_array
from .base import GroundTruths, Match, PyramidAssigner
from .geometry import box_centers, chunks, corners, inside
from .pyramid import check_boxes


class _Best(NamedTuple):
    """What is known of the priors of one image after some of its ground truths, (N,) each."""

    iou: Tensor  # the highest IoU so far, -1 before the first
    gt: Tensor  # with which ground truth (lowest on ties)
    rescued: Tensor  # has the highest IoU of some ground truth


@TASK_UTILS.register_module()
class IoUAssigner(PyramidAssigner):
    """RetinaNet's definition (paper, section 3.3; https://arxiv.org/abs/1708.02002).

    A prior is positive if its IoU with its best ground truth reaches ``pos_iou_thr``, negative if it is below
    ``neg_iou_thr``, and ignored between them.  A prior that has the highest IoU of some ground truth (ties included)
    is positive in any case, for the ground truth that is *its own* best.  All priors are looked at, some ground
    truths at a time.

    Args:
        pos_iou_thr (float): Defaults to 0.5.
        neg_iou_thr (float): Defaults to 0.4.
        in_gt_box (bool): Table 1's "In GT box": a positive whose centre is not inside its ground truth is ignored.
        iou_calculator (dict): config of the IoU calculator.
        ignore_iof_thr (float): see :class:`PyramidAssigner`. Defaults to -1, off.

    Raises:
        ValueError: thresholds that are not 0 <= neg_iou_thr <= pos_iou_thr <= 1.
    """

    def __init__(
        self,
        pos_iou_thr: float = 0.5,
        neg_iou_thr: float = 0.4,
        in_gt_box: bool = False,
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
        ignore_iof_thr: float = -1,
    ) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        if not 0 <= neg_iou_thr <= pos_iou_thr <= 1:
            raise ValueError(
                'thresholds must satisfy 0 <= neg_iou_thr <= pos_iou_thr <= 1, not '
                f'neg_iou_thr={neg_iou_thr}, pos_iou_thr={pos_iou_thr}'
            )
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = neg_iou_thr
        self.in_gt_box = in_gt_box

    def match(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        gts: GroundTruths,
        predictions: Optional[InstanceData] = None,
    ) -> Match:
        """Compare every prior with every ground truth of each image."""
        if on_host(priors):  # elsewhere asking would make the host wait
            check_boxes(priors)
        start, best = 0, []
        for count in gts.counts:
            best.append(self._best_of_image(priors, gts.boxes[start : start + count], start))
            start += count
        iou, gt, rescued = (to_array(torch.cat(column)) for column in zip(*best))
        positive = rescued | (iou >= self.pos_iou_thr)
        ignored = ~positive & (iou >= self.neg_iou_thr)
        if gts.ignored is not None:
            positive = positive & ~gts.ignored
        (image, prior), mask = positions(positive.reshape(gts.num_images, -1))
        slot = image * len(priors) + prior
        gt = gt[slot].clip(0, len(gts.boxes) - 1)  # "none" after the last image that has any
        if self.in_gt_box:
            is_inside = inside(box_centers(gather(to_array(corners(priors)), prior)), gather(gts.corners, gt))
            outside = ~is_inside if mask is None else mask & ~is_inside
            ignored[slot] = ignored[slot] | outside
            mask = is_inside if mask is None else mask & is_inside
        return Match(prior, gt, iou[slot], mask, ignored=ignored, max_overlaps=iou.clip(0))

    def _best_of_image(self, priors: Tensor, boxes: Tensor, first: int) -> _Best:
        """Return the best ground truth of every prior; ``first`` is the row of the image's first ground truth."""
        best = _Best(
            priors.new_full((len(priors),), -1.0),
            torch.full((len(priors),), first, device=priors.device),
            torch.zeros(len(priors), dtype=torch.bool, device=priors.device),
        )
        for part in chunks(len(boxes), len(priors)):
            overlaps = self.iou_calculator(priors, boxes[part])  # (N, g)
            iou = overlaps.amax(1)
            # the lowest of equal ones
            gt = (overlaps == iou[:, None]).to(torch.uint8).argmax(1)
            better = iou > best.iou
            highest = overlaps.amax(0)
            # a ground truth that no prior overlaps (no area, outside the image) has no best prior
            rescued = ((overlaps == highest) & (highest > 0)).any(1)
            best = _Best(
                torch.where(better, iou, best.iou),
                torch.where(better, gt + first + part.start, best.gt),
                best.rescued | rescued,
            )
        return best
