"""TOPK, the authors' fourth sample definition, which no table of the paper uses.

Legend: N priors, G ground truths of the batch, g of them in a chunk, k anchors a ground truth.
"""

from typing import Optional, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import TASK_UTILS
from .arrays import gather, library, on_host, positions, to_array, to_tensor
from .atss import check_at_least
from .base import GroundTruths, Match, PyramidAssigner
from .geometry import box_centers, chunks, corners, inside
from .pyramid import check_boxes


@TASK_UTILS.register_module()
class TopKIoUAssigner(PyramidAssigner):
    """Positives are the k anchors of highest IoU with an object, over all levels, whose centre is inside it.

    Among equal IoUs the nearer anchor is preferred: the order is by IoU - d / (1000 d_max), with d the distance between
    the centres and d_max the largest such distance in the image.  An anchor claimed twice goes to the highest IoU.

    Args:
        topk (int): k, anchors over all levels. Defaults to 9.
        iou_calculator (dict): config of the IoU calculator.
        ignore_iof_thr (float): see :class:`PyramidAssigner`. Defaults to -1, off.

    Raises:
        ValueError: ``topk`` < 1.
    """

    def __init__(
        self, topk: int = 9, iou_calculator: dict = dict(type='BboxOverlaps2D'), ignore_iof_thr: float = -1
    ) -> None:
        super().__init__(iou_calculator, ignore_iof_thr)
        check_at_least('topk', topk, 1)
        self.topk = topk

    def match(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        gts: GroundTruths,
        predictions: Optional[InstanceData] = None,
    ) -> Match:
        """Rank all priors for every ground truth, some ground truths at a time."""
        if on_host(priors):  # elsewhere asking would make the host wait
            check_boxes(priors)
        boxes, image = gts.boxes, to_tensor(gts.image)
        points, centers = box_centers(corners(priors)).T, box_centers(corners(boxes)).T
        farthest = self._farthest(points, centers, image, gts.num_images)[image]
        order = torch.arange(len(priors), dtype=points.dtype, device=priors.device)
        index, iou = [], []
        for part in chunks(len(centers), len(priors)):
            overlaps = self.iou_calculator(boxes[part], priors)  # (g, N)
            distance = torch.cdist(centers[part], points, compute_mode='donot_use_mm_for_euclid_dist')
            rank, overlaps = (to_array(a) for a in (distance / (1000 * farthest[part, None]) - overlaps, overlaps))
            best = library(rank).smallest(rank.T, to_array(order)[:, None], self.topk)
            gt = library(best).arange(len(overlaps), best)
            index.append(best)
            iou.append(overlaps[gt, best])
        index, iou = (library(a[0]).concatenate(a, 1) for a in (index, iou))  # (k, G)
        # without overlap there is nothing to be positive for (boxes of no area, boxes outside the image)
        positive = inside(gather(to_array(points.T), index), gts.corners[:, :, None]) & (iou > 0)
        (row, gt), mask = positions(positive)
        return Match(index[row, gt], gt, iou[row, gt], mask)

    @staticmethod
    def _farthest(points: Tensor, centers: Tensor, image: Tensor, num_images: int) -> Tensor:
        """Return the largest distance between a prior (N, 2) and a ground truth (G, 2) of each image, (B,)."""
        largest = torch.cat(
            [
                torch.cdist(centers[part], points, compute_mode='donot_use_mm_for_euclid_dist').amax(1)
                for part in chunks(len(centers), len(points))
            ]
        )
        farthest = largest.new_full((num_images,), torch.finfo(torch.float32).tiny)
        return farthest.scatter_reduce_(0, image, largest, 'amax')
