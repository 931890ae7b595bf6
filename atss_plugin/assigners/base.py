"""What all assigners share: mmdet's calling conventions, batches, ignored regions, bad input and the result.

Legend: N priors, G ground truths of all images together, B images, P claims, I ignored regions of an image.
"""
from abc import abstractmethod
from math import isfinite
from typing import List, NamedTuple, Optional, Sequence

import torch
from mmdet.models.task_modules import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from .geometry import chunks, resolve_claims
from .pyramid import PyramidCache


class GroundTruths(NamedTuple):
    """The ground truths of a batch, image after image, and where none may be positive.

    Attributes:
        boxes (Tensor): (G, 4) xyxy in pixels, at least float32.
        labels (Tensor): (G,).
        image (Tensor): (G,) the image of each.
        number (Tensor): (G,) their numbers within the image, from 1.
        counts (list[int]): how many each image has.
        ignored (Tensor, optional): (B * N,) which priors of each image lie in ignored regions; None if none do.
    """
    boxes: Tensor
    labels: Tensor
    image: Tensor
    number: Tensor
    counts: List[int]
    ignored: Optional[Tensor] = None

    @property
    def num_images(self) -> int:
        """B."""
        return len(self.counts)

    def claims(self, mask: Optional[Tensor], prior: Tensor, gt: Tensor, overlap: Tensor, num_priors: int) -> 'Claims':
        """Claims of ground truths (P,) to priors of their images (P,), those in ignored regions left out."""
        slot = self.image[gt] * num_priors + prior
        if mask is None:
            mask = torch.ones_like(slot, dtype=torch.bool)
        return Claims(mask if self.ignored is None else mask & ~self.ignored[slot], slot, gt, overlap)


class Claims(NamedTuple):
    """Ground truths and the priors that they want, or, once settled, have.

    Attributes:
        mask (Tensor): (P,) which claims count.
        slot (Tensor): (P,) image * N + prior.
        gt (Tensor): (P,) rows of the batch's ground truths.
        overlap (Tensor): (P,) IoU.
    """
    mask: Tensor
    slot: Tensor
    gt: Tensor
    overlap: Tensor


class Match(NamedTuple):
    """What a sample definition decides.

    Attributes:
        positives (Claims): at most one claim for each prior of each image.
        ignored (Tensor, optional): (B * N,) which priors the definition leaves out.
        overlaps (Tensor, optional): (B * N,) what to report as ``max_overlaps``; the positives' IoU if None.
    """
    positives: Claims
    ignored: Optional[Tensor] = None
    overlaps: Optional[Tensor] = None


class BatchAssignment(NamedTuple):
    """The assignment of a batch.

    Attributes:
        gt_inds (Tensor): (B, N) int64: 0 background, -1 ignored, i + 1 for ground truth i of the image.
        labels (Tensor): (B, N) int64, -1 where not positive.
        max_overlaps (Tensor): (B, N) float, IoU with the assigned ground truth, 0 where not positive (IoUAssigner:
            the highest IoU with any).
        gt_rows (Tensor): (B, N) int64, row in ``gt_bboxes``; the last row, of zeros, where not positive.
        gt_bboxes (Tensor): (G + 1, 4) the boxes of the batch and a row of zeros.
    """
    gt_inds: Tensor
    labels: Tensor
    max_overlaps: Tensor
    gt_rows: Tensor
    gt_bboxes: Tensor


class Assignment(AssignResult):
    """mmdet's result, which says so when a head looks for something that only the assigner made for that head
    gives."""

    def __getattr__(self, name: str):
        raise AttributeError(f'the head reads {name!r} from the result of its assigner; the assigners of atss_plugin '
                             'do not compute it, so this head works with its own assigner only')


class PyramidAssigner(BaseAssigner):
    """Base of the assigners of this package; a subclass says in ``match`` what makes a prior positive.

    Args:
        iou_calculator (dict): mmdet's config of an IoU calculator. Defaults to ``BboxOverlaps2D``.
        ignore_iof_thr (float): priors of which more than this share lies in an ignored region (intersection over
            prior area) are ignored. Negative: off, the default as in mmdet.
    """

    def __init__(self, iou_calculator: dict = dict(type='BboxOverlaps2D'), ignore_iof_thr: float = -1) -> None:
        self.iou_calculator = TASK_UTILS.build(iou_calculator)
        self.ignore_iof_thr = ignore_iof_thr
        self.pyramids = PyramidCache()

    @abstractmethod
    def match(self, priors: Tensor, num_level_priors: Optional[Sequence[int]], gts: GroundTruths,
              predictions: Optional[InstanceData] = None) -> Match:
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
            get_box_tensor(pred_instances.priors), kwargs.get('num_level_priors'), [kwargs['gt_instances']],
            None if ignore is None else [ignore], pred_instances)
        return Assignment(
            len(batch.gt_bboxes) - 1, batch.gt_inds[0], batch.max_overlaps[0], labels=batch.labels[0])

    @torch.no_grad()
    def assign_batch(self,
                     priors: Tensor,
                     num_level_priors: Optional[Sequence[int]],
                     batch_gt_instances: List[InstanceData],
                     batch_gt_instances_ignore: Optional[List[InstanceData]] = None,
                     predictions: Optional[InstanceData] = None) -> BatchAssignment:
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
        if priors.dim() != 2 or priors.size(1) < 4:
            raise ValueError(f'priors must be (N, 4) boxes xyxy, not of shape {tuple(priors.shape)}')
        if priors.size(1) > 4 or not priors.is_contiguous() or priors.element_size() < 4:
            priors = at_least_float32(priors[:, :4]).contiguous()
        gts = collect(batch_gt_instances, priors)
        if batch_gt_instances_ignore is not None and len(batch_gt_instances_ignore) != gts.num_images:
            raise ValueError(f'{len(batch_gt_instances_ignore)} entries of ignored regions for {gts.num_images} images: '
                             'give one InstanceData (or None) for each image')
        gts = gts._replace(ignored=self._in_ignored_regions(priors, batch_gt_instances_ignore))
        if len(priors) and len(gts.boxes):
            match = self.match(priors, num_level_priors, gts, predictions)
        else:
            nothing = gts.image[:0]
            match = Match(Claims(nothing.bool(), nothing, nothing, priors.new_zeros(0)))
        return self._result(len(priors), gts, match)

    @staticmethod
    def _result(num_priors: int, gts: GroundTruths, match: Match) -> BatchAssignment:
        """Write the positives into tables (B, N)."""
        mask, slot, gt, overlap = match.positives
        num_slots, none = gts.num_images * num_priors, len(gts.boxes)
        slot = torch.where(mask, slot, num_slots)  # claims that do not count go to one more slot, which is cut off

        def table(fill: float, values: Tensor) -> Tensor:
            full = values.new_full((num_slots + 1, ), fill)
            full[slot] = values
            return full[:-1]

        gt_inds, labels = table(0, gts.number[gt]), table(-1, gts.labels[gt])
        rows, overlaps = table(none, gt), table(0, overlap)
        if match.overlaps is not None:
            overlaps = match.overlaps
        for ignored in (gts.ignored, match.ignored):
            if ignored is not None:
                gt_inds.masked_fill_(ignored, -1)
        boxes = torch.cat([gts.boxes, gts.boxes.new_zeros((1, 4))])
        size = (gts.num_images, num_priors)
        return BatchAssignment(*(t.view(size) for t in (gt_inds, labels, overlaps, rows)), boxes)

    def _in_ignored_regions(self, priors: Tensor, batch: Optional[List[InstanceData]]) -> Optional[Tensor]:
        """Which priors (B * N,) lie in an ignored region of their image, None if there can be none."""
        if self.ignore_iof_thr < 0 or batch is None or not any(i is not None and len(i.bboxes) for i in batch):
            return None
        regions = [InstanceData(bboxes=priors[:0]) if region is None else region for region in batch]
        ignored = torch.zeros((len(batch), len(priors)), dtype=torch.bool, device=priors.device)
        for row, boxes in zip(ignored, checked_boxes('ignored region', regions)):
            for part in chunks(len(boxes), len(priors)):
                iof = self.iou_calculator(priors, boxes[part], mode='iof')
                row |= (iof > self.ignore_iof_thr).any(1)
        return ignored.flatten()

    @staticmethod
    def settle(claims: Claims, priority: Tensor, num_slots: int) -> Match:
        """Give every claimed prior to the claim of highest priority (P,), ties to the lower ground truth."""
        return Match(claims._replace(mask=resolve_claims(*claims[:3], priority, num_slots)))

    def pair_overlaps(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """IoU of priors (P, 4) and boxes (P, 4), one by one: (P,)."""
        return self.iou_calculator(priors, boxes, is_aligned=True)


# What pred_instances hold in heads whose targets are tied to one assigner.
FOREIGN_FIELDS = {
    'decoder_priors': "YOLOF's head reads its positive pairs from mmdet's UniformAssigner: keep that one",
    'responsible_flags': "YOLOv3's box coder can only encode a box whose centre lies in the cell of its anchor: keep "
                         "mmdet's GridAssigner",
}


def check_fields(pred_instances: InstanceData) -> None:
    """Raise a ValueError for a head that cannot be served."""
    if 'priors' not in pred_instances:
        raise ValueError('pred_instances have no priors, so there are no anchor boxes to assign: heads that match '
                         "queries (the DETR family) need mmdet's HungarianAssigner")
    for field in FOREIGN_FIELDS:
        if field in pred_instances:
            raise ValueError(FOREIGN_FIELDS[field])


def at_least_float32(boxes: Tensor) -> Tensor:
    """Boxes in float32 or better: half precision cannot tell pixels apart beyond 2048, bfloat16 beyond 256."""
    return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()


def collect(batch: List[InstanceData], priors: Tensor) -> GroundTruths:
    """The ground truths of all images, checked."""
    boxes = checked_boxes('ground truth', batch)
    for i, (gt, box) in enumerate(zip(batch, boxes)):
        if 'labels' in gt and len(gt.labels) != len(box):
            raise ValueError(f'image {i} in the batch has {len(box)} boxes but {len(gt.labels)} labels')
    counts = [len(box) for box in boxes]
    labels = [gt.labels if 'labels' in gt else torch.zeros(n, dtype=torch.long, device=priors.device)
              for gt, n in zip(batch, counts)]
    boxes = torch.cat(boxes) if boxes else priors.new_zeros((0, 4))
    labels = torch.cat(labels) if labels else boxes.new_zeros(0, dtype=torch.long)
    number = torch.tensor([i + 1 for n in counts for i in range(n)], dtype=torch.long)
    image = torch.tensor([i for i, n in enumerate(counts) for _ in range(n)], dtype=torch.long)
    image, number = (t.to(boxes.device, non_blocking=True) for t in (image, number))
    return GroundTruths(boxes, labels, image, number, counts)


def checked_boxes(what: str, batch: List[InstanceData]) -> List[Tensor]:
    """The boxes (G, 4) of every image, at least float32.

    Raises:
        ValueError: another shape, or a box that is not finite; the latter is not asked on an accelerator, where
            asking makes the host wait (our data set has asked before: ``CocoDataset``).
    """
    boxes = [at_least_float32(get_box_tensor(instances.bboxes)) for instances in batch]
    for i, box in enumerate(boxes):
        if box.dim() != 2 or box.size(1) != 4:
            raise ValueError(f'{what}s of image {i} in the batch must be (G, 4) boxes xyxy, not of shape '
                             f'{tuple(box.shape)}')
    if boxes and boxes[0].device.type == 'cpu' and not isfinite(float(torch.cat(boxes).double().sum())):
        image, bad = next((i, int(bad[0])) for i, bad in enumerate((~b.isfinite()).any(1).nonzero() for b in boxes)
                          if len(bad))
        raise ValueError(f'{what} {bad} of image {image} in the batch is not finite: {boxes[image][bad].tolist()}; '
                         'repair or filter the annotation')
    return boxes
