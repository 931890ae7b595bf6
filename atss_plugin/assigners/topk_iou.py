"""TOPK, the authors' fourth sample definition, which no table of the paper uses.

Legend: N priors, G ground truths of the batch, g of them in a chunk, k anchors a ground truth.
"""
from typing import Optional, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import TASK_UTILS
from .atss import check_at_least
from .base import GroundTruths, Match, PyramidAssigner
from .geometry import box_centers, chunks, inside, positions, precise, smallest
from .pyramid import check_boxes


@TASK_UTILS.register_module()
class TopKIoUAssigner(PyramidAssigner):
    """Positives are the k anchors of highest IoU with an object, over all levels, whose centre is inside it.

    Among equal IoUs the nearer anchor is preferred: the order is by IoU - d / (1000 d_max), with d the distance
        between
    the centres and d_max the largest such distance in the image.  An anchor claimed twice goes to the highest IoU.

    Args:
        topk (int): k, anchors over all levels. Defaults to 9.
        iou_calculator (dict): config of the IoU calculator.
        ignore_iof_thr (float): see :class:`PyramidAssigner`. Defaults to -1, off.

    Raises:
        ValueError: ``topk`` < 1.
    """

    def __init__(self,
                 topk: int = 9,
                 iou_calculator: dict = dict(type='BboxOverlaps2D'),
                 ignore_iof_thr: float = -1) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        self.topk = topk

    def match(self, priors: Tensor, num_level_priors: Optional[Sequence[int]], gts: GroundTruths,
              predictions: Optional[InstanceData] = None) -> Match:
        """Rank all priors for every ground truth, some ground truths at a time."""
        if priors.device.type == 'cpu':  # elsewhere asking would make the host wait
            check_boxes(priors)
        points, centers = box_centers(priors), box_centers(gts.boxes)
        farthest = self._farthest(points, centers, gts)[gts.image]
        order = torch.arange(len(priors), dtype=points.dtype, device=priors.device)
        index, iou = [], []
        for part in chunks(len(centers), len(priors)):
            overlaps = self.iou_calculator(gts.boxes[part], priors)  # (g, N)
            distance = torch.cdist(centers[part], points, compute_mode='donot_use_mm_for_euclid_dist')
            penalty = distance / (1000 * farthest[part, None])
            best = smallest(penalty - precise(overlaps), order, self.topk, dim=1)
            index.append(best)
            iou.append(overlaps.gather(1, best))
        index, iou = torch.cat(index), torch.cat(iou)
        # without overlap there is nothing to be positive for (boxes of no area, boxes outside the image)
        positive = inside(points[index], gts.boxes[:, None]) & (iou > 0)
        gt, column, mask = positions(positive)
        prior, iou = index[gt, column], iou[gt, column]
        return self.settle(gts.claims(mask, prior, gt, iou, len(priors)), iou, gts.num_images * len(priors))

    @staticmethod
    def _farthest(points: Tensor, centers: Tensor, gts: GroundTruths) -> Tensor:
        """The largest distance between a prior and a ground truth of each image, (B,)."""
        largest = torch.cat([
            torch.cdist(centers[part], points, compute_mode='donot_use_mm_for_euclid_dist').amax(1)
            for part in chunks(len(centers), len(points))
        ])
        farthest = largest.new_full((gts.num_images, ), torch.finfo(torch.float32).tiny)
        return farthest.scatter_reduce_(0, gts.image, largest, 'amax')
