"""What all assigners share: mmdet's calling conventions, ignored regions, bad input and mmdet's result.

Legend: N priors, G ground truths of all images together, B images, I ignored regions of an image, C classes.
"""

from abc import abstractmethod
from dataclasses import dataclass
from math import isfinite
from typing import List, Optional, Sequence, Union

import torch
from mmdet.models.task_modules import AssignResult, BaseAssigner, BboxOverlaps2D
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from .. import matching
from ..matching import Assignment, GroundTruths, Pyramid
from ..matching.boxes import Measure, at_least_float32, chunks, on_host

IOU = dict(type='mmdet.BboxOverlaps2D')


@dataclass
class BatchAssignment:
    """The assignment of a batch.

    Attributes:
        gt_inds (Tensor): (B, N) int64: 0 background, -1 ignored, i + 1 for ground truth i of the image.
        labels (Tensor): (B, N) int64, -1 where not positive.
        owner (Tensor): (B, N) int64, the row of ``gt_bboxes`` for positives; G for others.
        gt_bboxes (Tensor): (G, 4) the boxes of the batch, image after image.
        priors (Tensor): (N, 4).
        measure (callable): IoU, or what takes its place.
        overlaps (Tensor, optional): (B, N) what the definition knows of ``max_overlaps``.
    """

    gt_inds: Tensor
    labels: Tensor
    owner: Tensor
    gt_bboxes: Tensor
    priors: Tensor
    measure: Measure = matching.iou
    overlaps: Optional[Tensor] = None

    @property
    def max_overlaps(self) -> Tensor:
        """(B, N) float: see :class:`atss_plugin.matching.Assignment`; the IoU, where the definition looks at none."""
        if self.overlaps is None:  # a definition that does not look at it
            overlaps = self.measure(self.boxes_at(slice(None)).view(*self.owner.shape, 4), self.priors)
            self.overlaps = torch.where(self.owner < len(self.gt_bboxes), overlaps, torch.zeros_like(overlaps))
        return self.overlaps

    def boxes_at(self, slots: Union[Tensor, slice]) -> Tensor:
        """Return the ground truths (P, 4) that some of the B * N priors of all images are positive for, else zeros."""
        return torch.cat([self.gt_bboxes, self.gt_bboxes.new_zeros((1, 4))])[self.owner.flatten()[slots]]


class MMDetResult(AssignResult):
    """mmdet's result, which says so when a head looks for something that only its own assigner gives."""

    def __getattr__(self, name: str):
        raise AttributeError(
            f'the head reads {name!r} from the result of its assigner; the assigners of atss_plugin '
            'do not compute it, so this head works with its own assigner only'
        )


class Assigner(BaseAssigner):
    """Base of the assigners of this package; a subclass says in ``match`` what makes a prior positive.

    Args:
        iou_calculator (dict): mmdet's config of an IoU calculator, or of another measure. Defaults to
            ``BboxOverlaps2D``.
        ignore_iof_thr (float): priors of which more than this share lies in an ignored region (intersection over
            prior area) are ignored. Negative: off, the default as in mmdet.

    Attributes:
        needs_predictions (bool): whether the definition looks at what the model predicts.
    """

    needs_predictions = False

    def __init__(self, iou_calculator: dict = IOU, ignore_iof_thr: float = -1) -> None:
        self.measure = as_measure(TASK_UTILS.build(iou_calculator))
        self.ignore_iof_thr = ignore_iof_thr
        self.pyramids = matching.PyramidCache()

    @abstractmethod
    def match(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        gts: GroundTruths,
        predictions: Optional[List[InstanceData]] = None,
    ) -> Assignment:
        """Decide which priors (N, 4) are positive for which ground truths; there is at least one of either."""

    def assign(self, pred_instances: InstanceData, *args, **kwargs) -> AssignResult:
        """Assign the priors of one image, in either of mmdet's calling orders.

        ``assign(pred_instances, gt_instances, gt_instances_ignore=None)`` as AnchorHead calls it, or
        ``assign(pred_instances, num_level_priors, gt_instances, gt_instances_ignore=None)`` as ATSSHead does; also by
        keyword.  What else heads pass (``img_meta``) is not needed.

        Args:
            pred_instances (InstanceData): ``priors`` (N, 4 or more columns) xyxy in pixels, computed with in
                float32 or better (half precision may have moved the anchors of a location apart: then each counts as
                a location); for a definition that looks at predictions also ``bboxes`` (N, 4) and ``scores`` (N, C).
            num_level_priors (list[int], optional): the priors of each level; inferred from the priors if not given.
            gt_instances (InstanceData): ``bboxes`` (G, 4) and ``labels`` (G,).
            gt_instances_ignore (InstanceData, optional): ``bboxes`` (I, 4) of regions to be ignored.

        Returns:
            AssignResult: mmdet's, with ``gt_inds``, ``max_overlaps`` and ``labels`` of shape (N,).

        Raises:
            ValueError: priors or boxes of a wrong shape, boxes that are NaN or infinite, no labels, level sizes that do
                not fit, or a head that needs an assigner of its own.
            TypeError: no ``gt_instances``.
        """
        check_fields(pred_instances)
        # what else a head passes by position (img_meta, strides ...) is not an InstanceData
        if args and not isinstance(args[0], InstanceData):
            kwargs['num_level_priors'] = args[0]
        kwargs.update(zip(('gt_instances', 'gt_instances_ignore'), (a for a in args if isinstance(a, InstanceData))))
        if kwargs.get('gt_instances') is None:
            raise TypeError('assign() needs gt_instances, an InstanceData with bboxes and labels')
        ignore = kwargs.get('gt_instances_ignore')
        batch = self.assign_batch(
            get_box_tensor(pred_instances.priors),
            kwargs.get('num_level_priors'),
            [kwargs['gt_instances']],
            None if ignore is None else [ignore],
            [pred_instances],
        )
        return MMDetResult(len(batch.gt_bboxes), batch.gt_inds[0], batch.max_overlaps[0], labels=batch.labels[0])

    @torch.no_grad()
    def assign_batch(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        batch_gt_instances: List[InstanceData],
        batch_gt_instances_ignore: Optional[List[InstanceData]] = None,
        predictions: Optional[List[InstanceData]] = None,
    ) -> BatchAssignment:
        """Assign the priors that all images of a batch share, in one go.

        Args:
            priors (Tensor): (N, 4) xyxy in pixels, level by level.
            num_level_priors (list[int], optional): the priors of each level; inferred from the priors if None.
            batch_gt_instances (list[InstanceData]): ``bboxes`` and ``labels`` of each image.
            batch_gt_instances_ignore (list[InstanceData], optional): ``bboxes`` to be ignored of each image.
            predictions (list[InstanceData], optional): ``bboxes`` (N, 4) and ``scores`` (N, C) of each image, where the
                definition looks at them.

        Raises:
            ValueError: as ``assign``; ground truths are named by image and number.
        """
        priors = checked_priors(priors)
        if batch_gt_instances_ignore is not None and len(batch_gt_instances_ignore) != len(batch_gt_instances):
            raise ValueError(
                f'{len(batch_gt_instances_ignore)} entries of ignored regions for '
                f'{len(batch_gt_instances)} images: give one InstanceData (or None) for each image'
            )
        boxes, labels = checked_boxes('ground truth', batch_gt_instances), checked_labels(batch_gt_instances)
        if on_host(priors):
            check_finite('ground truth', boxes)
        gts = matching.collect(boxes, labels, priors)
        gts = gts._replace(ignored=self._in_ignored_regions(priors, batch_gt_instances_ignore))
        if len(priors) and len(gts.boxes):
            found = self.match(priors, num_level_priors, gts, predictions)
        else:
            found = matching.unassigned(gts)
        return BatchAssignment(
            found.gt_inds, found.labels, found.owner, gts.boxes, priors, self.measure, found.max_overlaps
        )

    def pyramid(
        self, priors: Tensor, num_level_priors: Optional[Sequence[int]], anchors: Optional[int] = None
    ) -> Pyramid:
        """Return the pyramid of these priors, found now or at an earlier call."""
        return self.pyramids.get(priors, num_level_priors, anchors)

    def _in_ignored_regions(self, priors: Tensor, batch: Optional[List[InstanceData]]) -> Optional[Tensor]:
        """Return which priors (B * N,) lie in an ignored region of their image, None if there can be none."""
        if self.ignore_iof_thr < 0 or batch is None or not any(i is not None and len(i.bboxes) for i in batch):
            return None
        regions = [InstanceData(bboxes=priors[:0]) if region is None else region for region in batch]
        ignored = torch.zeros((len(batch), len(priors)), dtype=torch.bool, device=priors.device)
        batch_boxes = checked_boxes('ignored region', regions)
        if on_host(priors):
            check_finite('ignored region', batch_boxes)
        for row, boxes in zip(ignored, batch_boxes):
            for part in chunks(len(boxes), len(priors)):
                row |= (matching.iof(boxes[part, None], priors) > self.ignore_iof_thr).any(0)
        return ignored.flatten()


def as_measure(calculator) -> Measure:
    """Return mmdet's IoU calculator as a function of boxes (..., 4) and priors (..., 4) that broadcast.

    Raises:
        ValueError: it cannot compare boxes one by one.
    """
    if type(calculator) is BboxOverlaps2D and calculator.scale == 1 and calculator.dtype is None:
        return matching.iou
    pair = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]])
    if calculator(pair, pair, is_aligned=True).shape != (2,):
        raise ValueError(
            f'iou_calculator: {type(calculator).__name__} compares all boxes with all even where it is_aligned; '
            "choose another one, such as mmdet's BboxOverlaps2D"
        )

    def measure(boxes: Tensor, priors: Tensor) -> Tensor:
        dtype = torch.promote_types(boxes.dtype, priors.dtype)  # a calculator may compute in half precision
        if priors.dim() == 2 and boxes.dim() == 3 and boxes.size(1) == 1:  # every box with every prior
            return calculator(priors, boxes[:, 0]).t().to(dtype)
        boxes, priors = torch.broadcast_tensors(boxes, priors)
        flat = calculator(priors.reshape(-1, 4), boxes.reshape(-1, 4), is_aligned=True)
        return flat.view(boxes.shape[:-1]).to(dtype)

    return measure


# What pred_instances hold in heads whose targets are tied to one assigner.
FOREIGN_FIELDS = {
    'decoder_priors': "YOLOF's head reads its positive pairs from mmdet's UniformAssigner: keep that one",
    'responsible_flags': "YOLOv3's box coder can only encode a box whose centre lies in the cell of its anchor: keep "
    "mmdet's GridAssigner",
}


def check_fields(pred_instances: InstanceData) -> None:
    """Raise a ValueError for a head that cannot be served."""
    if 'priors' not in pred_instances:
        raise ValueError(
            'pred_instances have no priors, so there are no anchor boxes to assign: heads that match '
            "queries (the DETR family) need mmdet's HungarianAssigner"
        )
    for field in FOREIGN_FIELDS:
        if field in pred_instances:
            raise ValueError(FOREIGN_FIELDS[field])


def checked_priors(priors: Tensor) -> Tensor:
    """Return the first four columns of the priors (N, 4 or more), at least float32, contiguous.

    Raises:
        ValueError: another shape, or rotated boxes.
    """
    if priors.dim() == 2 and priors.size(1) == 5:
        raise ValueError(
            'priors of shape (N, 5) are rotated boxes (x, y, w, h, angle); the definitions of atss_plugin are made for '
            "boxes xyxy: use mmrotate's own assigners"
        )
    if priors.dim() != 2 or priors.size(1) < 4:
        raise ValueError(f'priors must be (N, 4) boxes xyxy, not of shape {tuple(priors.shape)}')
    if priors.size(1) > 4 or not priors.is_contiguous():
        priors = priors[:, :4].contiguous()
    return at_least_float32(priors)


def checked_labels(batch: List[InstanceData]) -> List[Tensor]:
    """Return the labels (G,) of every image.

    Raises:
        ValueError: an image without labels.
    """
    for i, gts in enumerate(batch):
        if getattr(gts, 'labels', None) is None:
            raise ValueError(
                f'the ground truths of image {i} in the batch have no labels: give an InstanceData with bboxes and '
                'labels (zeros, where there is one class)'
            )
    return [gts.labels for gts in batch]


def checked_boxes(what: str, batch: List[InstanceData]) -> List[Tensor]:
    """Return the boxes (G, 4) of every image, at least float32.

    Raises:
        ValueError: no boxes, or another shape.
    """
    for i, instances in enumerate(batch):
        if getattr(instances, 'bboxes', None) is None:
            raise ValueError(
                f'{what}s of image {i} in the batch have no bboxes: give an InstanceData with (G, 4) boxes'
            )
    boxes = [at_least_float32(get_box_tensor(instances.bboxes)) for instances in batch]
    for i, box in enumerate(boxes):
        if box.dim() != 2 or box.size(1) != 4:
            raise ValueError(
                f'{what}s of image {i} in the batch must be (G, 4) boxes xyxy, not of shape {tuple(box.shape)}'
            )
    return boxes


def check_finite(what: str, boxes: List[Tensor]) -> None:
    """Raise a ValueError that names the first box that is NaN or infinite.

    It is not called on an accelerator, where asking makes the host wait; our ``CocoDataset`` has asked before.
    """
    if not boxes or isfinite(float(torch.cat(boxes).sum())):
        return
    for i, box in enumerate(boxes):
        for bad in (~box.isfinite()).any(1).nonzero().flatten().tolist():
            raise ValueError(
                f'{what} {bad} of image {i} in the batch is not finite: {box[bad].tolist()}; '
                'repair or filter the annotation'
            )


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise a ValueError that names the argument if it is not a whole number of at least ``least``."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f'{name} must be a whole number of at least {least}, not {value!r}')


def checked_positive(name: str, values: Sequence[float]) -> List[float]:
    """Return the numbers, one per level, as floats.

    Raises:
        ValueError: they are not a sequence of positive numbers.
    """
    try:
        numbers = [float(value) for value in values]
        valid = all(number > 0 for number in numbers)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f'{name} must be positive numbers of pixels, one for each level, not {values!r}')
    return numbers
