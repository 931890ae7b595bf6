"""What all assigners share: mmdet's calling conventions, batches, ignored regions, bad input and the result.

Legend: N priors, G ground truths of all images together, B images, P claims, I ignored regions of an image.
"""

from abc import abstractmethod
from math import isfinite
from typing import List, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from mmdet.models.task_modules import AssignResult, BaseAssigner, BboxOverlaps2D
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from .arrays import Array, library, on_host, to_array, to_tensor
from .geometry import aligned_iou, chunks, corners
from .pyramid import PyramidCache


class GroundTruths(NamedTuple):
    """The ground truths of a batch, image after image, and where none may be positive.

    Attributes:
        boxes (Tensor): (G, 4) xyxy in pixels, at least float32.
        corners (Array): (2, 2, G) the same, see :func:`corners`.
        image (Array): (G,) the image of each.
        first_slot (Array): (G,) image * N: where its image begins among the priors of all images.
        labels (Array): (G,).
        number (Array): (G,) their numbers within the image, from 1.
        counts (list[int]): how many each image has.
        ignored (Array, optional): (B * N,) which priors of each image lie in ignored regions; None if none do.
    """

    boxes: Tensor
    corners: Array
    image: Array
    first_slot: Array
    labels: Array
    number: Array
    counts: List[int]
    ignored: Optional[Array] = None

    @property
    def num_images(self) -> int:
        """B."""
        return len(self.counts)


class Match(NamedTuple):
    """What a sample definition decides: claims of ground truths to priors of their images, and what it leaves out.

    Attributes:
        prior (Array): (P,) the prior that is wanted.
        gt (Array): (P,) the row of the ground truth that wants it.
        overlap (Array): (P,) their IoU.
        mask (Array, optional): (P,) which claims count; None if all do.
        priority (Array, optional): (P,) of several claims to a prior the highest counts, of equal ones that of the
            lowest ground truth; the IoU if None.
        ignored (Array, optional): (B * N,) which priors the definition leaves out.
        max_overlaps (Array, optional): (B * N,) what to report; the IoU of the positives if None.
    """

    prior: Array
    gt: Array
    overlap: Array
    mask: Optional[Array] = None
    priority: Optional[Array] = None
    ignored: Optional[Array] = None
    max_overlaps: Optional[Array] = None


class BatchAssignment(NamedTuple):
    """The assignment of a batch.

    Attributes:
        gt_inds (Tensor): (B, N) int64: 0 background, -1 ignored, i + 1 for ground truth i of the image.
        labels (Tensor): (B, N) int64, -1 where not positive.
        max_overlaps (Tensor): (B, N) float, IoU with the assigned ground truth, 0 where not positive (IoUAssigner:
            the highest IoU with any).
        gt_bboxes (Tensor): (G, 4) the boxes of the batch, image after image.
        counts (list[int]): how many of them each image has.
    """

    gt_inds: Tensor
    labels: Tensor
    max_overlaps: Tensor
    gt_bboxes: Tensor
    counts: List[int]

    def boxes_at(self, slots: Union[Tensor, slice]) -> Tensor:
        """Return the ground truths (P, 4) that some of the B * N priors of all images are positive for, zeros for others."""
        device, num_priors = self.gt_inds.device, self.gt_inds.size(1)
        slots = torch.arange(self.gt_inds.numel(), device=device)[slots]
        counts = torch.tensor(self.counts, dtype=torch.long)
        first = (counts.cumsum(0) - counts).to(device, non_blocking=True)[slots // max(num_priors, 1)]
        number = self.gt_inds.flatten()[slots]
        rows = torch.where(number > 0, number - 1 + first, -1)
        return torch.cat([self.gt_bboxes, self.gt_bboxes.new_zeros((1, 4))])[rows]


class Assignment(AssignResult):
    """mmdet's result, which says so when a head looks for something that only the assigner made for that head
    gives."""

    def __getattr__(self, name: str):
        raise AttributeError(
            f'the head reads {name!r} from the result of its assigner; the assigners of atss_plugin '
            'do not compute it, so this head works with its own assigner only'
        )


class PyramidAssigner(BaseAssigner):
    """Base of the assigners of this package; a subclass says in ``match`` what makes a prior positive.

    Args:
        iou_calculator (dict): mmdet's config of an IoU calculator. Defaults to ``BboxOverlaps2D``.
        ignore_iof_thr (float): priors of which more than this share lies in an ignored region (intersection over
            prior area) are ignored. Negative: off, the default as in mmdet.
    """

    def __init__(self, iou_calculator: dict = dict(type='BboxOverlaps2D'), ignore_iof_thr: float = -1) -> None:
        self.iou_calculator = TASK_UTILS.build(iou_calculator)
        self.plain_iou = (
            type(self.iou_calculator) is BboxOverlaps2D
            and self.iou_calculator.scale == 1
            and self.iou_calculator.dtype is None
        )
        self.ignore_iof_thr = ignore_iof_thr
        self.pyramids = PyramidCache()

    @abstractmethod
    def match(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        gts: GroundTruths,
        predictions: Optional[InstanceData] = None,
    ) -> Match:
        """Decide which priors (N, 4) are positive for which ground truths; there is at least one of either."""

    def assign(self, pred_instances: InstanceData, *args, **kwargs) -> AssignResult:
        """Assign the priors of one image, in either of mmdet's calling orders.

        ``assign(pred_instances, gt_instances, gt_instances_ignore=None)`` as AnchorHead calls it, or
        ``assign(pred_instances, num_level_priors, gt_instances, gt_instances_ignore=None)`` as ATSSHead does; also by
        keyword.  What else heads pass (``img_meta``) is not needed.

        Args:
            pred_instances (InstanceData): ``priors`` (N, 4 or more columns) xyxy in pixels, of any float dtype.
            num_level_priors (list[int], optional): the priors of each level; inferred from the priors if not given.
            gt_instances (InstanceData): ``bboxes`` (G, 4) and ``labels`` (G,).
            gt_instances_ignore (InstanceData, optional): ``bboxes`` (I, 4) of regions to be ignored.

        Returns:
            AssignResult: mmdet's, with ``gt_inds``, ``max_overlaps`` and ``labels`` of shape (N,).

        Raises:
            ValueError: priors or boxes of a wrong shape, boxes that are NaN or infinite, level sizes that do not fit,
                or a head that needs an assigner of its own.
        """
        check_fields(pred_instances)
        # what else a head passes by position (img_meta, strides ...) is no InstanceData
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
            pred_instances,
        )
        return Assignment(len(batch.gt_bboxes), batch.gt_inds[0], batch.max_overlaps[0], labels=batch.labels[0])

    @torch.no_grad()
    def assign_batch(
        self,
        priors: Tensor,
        num_level_priors: Optional[Sequence[int]],
        batch_gt_instances: List[InstanceData],
        batch_gt_instances_ignore: Optional[List[InstanceData]] = None,
        predictions: Optional[InstanceData] = None,
    ) -> BatchAssignment:
        """Assign the priors that all images of a batch share, in one go.

        Args:
            priors (Tensor): (N, 4) xyxy in pixels, level by level.
            num_level_priors (list[int], optional): the priors of each level; inferred from the priors if None.
            batch_gt_instances (list[InstanceData]): ``bboxes`` and ``labels`` of each image.
            batch_gt_instances_ignore (list[InstanceData], optional): ``bboxes`` to be ignored of each image.
            predictions (InstanceData, optional): ``scores`` and ``bboxes`` of the priors, where the definition uses
                them.

        Raises:
            ValueError: as ``assign``; ground truths are named by image and number.
        """
        priors = checked_priors(priors)
        if batch_gt_instances_ignore is not None and len(batch_gt_instances_ignore) != len(batch_gt_instances):
            raise ValueError(
                f'{len(batch_gt_instances_ignore)} entries of ignored regions for '
                f'{len(batch_gt_instances)} images: give one InstanceData (or None) for each image'
            )
        with np.errstate(all='ignore'):  # PyTorch does not warn of overflows
            gts = collect(batch_gt_instances, priors)
            gts = gts._replace(ignored=self._in_ignored_regions(priors, batch_gt_instances_ignore))
            if len(priors) and len(gts.boxes):
                match = self.match(priors, num_level_priors, gts, predictions)
            else:
                match = Match(gts.image[:0], gts.image[:0], to_array(gts.boxes.new_zeros(0)))
            return self._result(len(priors), gts, match)

    @staticmethod
    def _result(num_priors: int, gts: GroundTruths, match: Match) -> BatchAssignment:
        """Give every claimed prior to one ground truth, and write the positives into tables (B, N)."""
        lib, num_slots, mask = library(gts.image), gts.num_images * num_priors, match.mask
        slot = match.prior if gts.num_images == 1 else gts.first_slot[match.gt] + match.prior
        if gts.ignored is not None:
            mask = ~gts.ignored[slot] if mask is None else mask & ~gts.ignored[slot]
        if mask is not None:  # claims that do not count go to one more slot, which is cut off
            slot = lib.where(mask, slot, num_slots)
        overlaps = lib.zeros(num_slots + 1, match.overlap)
        labels, gt_inds = lib.tables(num_slots + 1, (-1, 0), slot)
        # of several claims that of highest priority has the prior, of equal ones that of the lowest ground truth
        priority = match.overlap if match.priority is None else match.priority
        highest = overlaps if match.priority is None else lib.zeros(num_slots + 1, priority)
        lib.highest_at(highest, slot, priority)
        best = lib.where(priority == highest[slot], slot, num_slots)
        lib.lowest_at(gt_inds, best, match.gt)
        owner = gt_inds[slot]
        if match.priority is not None:
            overlaps[lib.where(owner == match.gt, slot, num_slots)] = match.overlap
        # whoever claims a slot writes there what its owner would
        labels[slot], gt_inds[slot] = gts.labels[owner], gts.number[owner]
        size = gts.num_images, num_priors
        labels, gt_inds, overlaps = (table[:-1].reshape(size) for table in (labels, gt_inds, overlaps))
        for ignored in (gts.ignored, match.ignored):
            if ignored is not None:
                gt_inds = lib.where(ignored.reshape(size), -1, gt_inds)
        if match.max_overlaps is not None:
            overlaps = match.max_overlaps.reshape(size)
        return BatchAssignment(*(to_tensor(table) for table in (gt_inds, labels, overlaps)), gts.boxes, gts.counts)

    def _in_ignored_regions(self, priors: Tensor, batch: Optional[List[InstanceData]]) -> Optional[Array]:
        """Which priors (B * N,) lie in an ignored region of their image, None if there can be none."""
        if self.ignore_iof_thr < 0 or batch is None or not any(i is not None and len(i.bboxes) for i in batch):
            return None
        regions = [InstanceData(bboxes=priors[:0]) if region is None else region for region in batch]
        ignored = torch.zeros((len(batch), len(priors)), dtype=torch.bool, device=priors.device)
        for row, boxes in zip(ignored, checked_boxes('ignored region', regions)):
            for part in chunks(len(boxes), len(priors)):
                iof = self.iou_calculator(priors, boxes[part], mode='iof')
                row |= (iof > self.ignore_iof_thr).any(1)
        return to_array(ignored.flatten())

    def pair_overlaps(self, priors: Array, areas: Array, boxes: Array) -> Array:
        """IoU of priors with corners (2, 2, ...) and these areas (...), and boxes (2, 2, ...), one by one: (...);
        shapes broadcast."""
        if self.plain_iou:
            return aligned_iou(priors, boxes, areas)
        boxes = library(boxes).broadcast_to(boxes, priors.shape)
        flat = (to_tensor(box.reshape(4, -1).T) for box in (priors, boxes))
        return to_array(self.iou_calculator(*flat, is_aligned=True)).reshape(areas.shape)


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


def at_least_float32(boxes: Tensor) -> Tensor:
    """Boxes in float32 or better: half precision cannot tell pixels apart beyond 2048, bfloat16 beyond 256."""
    return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()


def checked_priors(priors: Tensor) -> Tensor:
    """Return the first four columns of the priors (N, 4 or more), at least float32, contiguous; a ValueError for others."""
    if priors.dim() != 2 or priors.size(1) < 4:
        raise ValueError(f'priors must be (N, 4) boxes xyxy, not of shape {tuple(priors.shape)}')
    if priors.size(1) > 4 or not priors.is_contiguous() or priors.element_size() < 4:
        priors = at_least_float32(priors[:, :4]).contiguous()
    return priors


def collect(batch: List[InstanceData], priors: Tensor) -> GroundTruths:
    """Return the ground truths of all images, checked."""
    boxes = checked_boxes('ground truth', batch)
    counts, labels = [box.size(0) for box in boxes], [getattr(gt, 'labels', None) for gt in batch]
    for i, count in enumerate(counts):
        if labels[i] is None:
            labels[i] = torch.zeros(count, dtype=torch.long, device=priors.device)
        elif labels[i].size(0) != count:
            raise ValueError(f'image {i} in the batch has {count} boxes but {labels[i].size(0)} labels')
    boxes, labels = joined(boxes, priors.new_zeros((0, 4))).detach(), joined(labels, priors.new_zeros(0)).long()
    if not on_host(boxes):  # where they were not asked to be finite; a box without area has no positive
        boxes = boxes.masked_fill(~boxes.isfinite().all(1, keepdim=True), 0)
    box = to_array(boxes)
    lib, image = library(box), np.repeat(np.arange(len(counts)), np.array(counts, dtype=np.int64))
    number = np.arange(1, len(image) + 1) - (np.cumsum(counts, dtype=np.int64) - counts)[image]
    image, first_slot, number = (lib.from_host(rows, box) for rows in (image, image * len(priors), number))
    return GroundTruths(boxes, lib.contiguous(corners(box)), image, first_slot, to_array(labels), number, counts)


def joined(parts: List[Tensor], none: Optional[Tensor] = None) -> Tensor:
    """Return the tensors of all images as one; ``none`` if there is no image."""
    return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else none


def checked_boxes(what: str, batch: List[InstanceData]) -> List[Tensor]:
    """Return the boxes (G, 4) of every image, at least float32.

    Raises:
        ValueError: another shape, or a box that is not finite; the latter is not asked on an accelerator, where
            asking makes the host wait (our data set has asked before: ``CocoDataset``).
    """
    boxes = [at_least_float32(get_box_tensor(instances.bboxes)) for instances in batch]
    for i, box in enumerate(boxes):
        if box.dim() != 2 or box.size(1) != 4:
            raise ValueError(
                f'{what}s of image {i} in the batch must be (G, 4) boxes xyxy, not of shape {tuple(box.shape)}'
            )
    if boxes and on_host(boxes[0]) and not isfinite(to_array(joined(boxes)).sum()):
        for i, box in enumerate(boxes):  # or only the sum is infinite
            for bad in (~box.isfinite()).any(1).nonzero().flatten().tolist():
                raise ValueError(
                    f'{what} {bad} of image {i} in the batch is not finite: {box[bad].tolist()}; '
                    'repair or filter the annotation'
                )
    return boxes
