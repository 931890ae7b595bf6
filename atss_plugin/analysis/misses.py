"""Which objects a detector misses, and from how many positives such objects are learnt.

Legend: G ground truths, D detections, of one image each.
"""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

import numpy as np
import pandas as pd
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData

from atss_plugin.errors import UsageError

from .assignment import Assignment, assign_image
from .ground_truth import GroundTruth
from .sample_definition import SampleDefinition
from .statistics import BIN_NAMES, BINS, describe_boxes

# Edges and names of the bins of positives
POSITIVE_BINS = [0, 1, 4, 7, 10, 16, np.inf]
POSITIVE_NAMES = ['0', '1–3', '4–6', '7–9', '10–15', '≥ 16']
GROUPINGS = ('coco size', 'crowdedness')


def match_detections(boxes: np.ndarray, labels: np.ndarray, detections: InstanceData, iou_thr: float) -> pd.DataFrame:
    """Return what was detected for every ground truth.

    Detections are given to the ground truths of their class as COCO does it: by falling score, each to the free
    ground truth of highest IoU, of at least ``iou_thr``.

    Args:
        boxes: (G, 4) xyxy in the pixels of the detections.
        labels: (G,) classes.
        detections: ``bboxes`` (D, 4), ``scores`` and ``labels`` (D,).
        iou_thr: the least IoU of a detection.

    Returns:
        A row for each ground truth: ``found``; ``score`` of its detection, NaN if it is missed; ``iou``, the highest of
        any detection of its class, 0 without one.
    """
    overlaps = bbox_overlaps(torch.from_numpy(boxes), detections.bboxes.float())
    overlaps = (overlaps * (torch.from_numpy(labels)[:, None] == detections.labels)).numpy()
    score = np.full(len(boxes), np.nan)
    for column in detections.scores.argsort(descending=True, stable=True).tolist():
        free = np.where(np.isnan(score), overlaps[:, column], -1)
        if len(free) and free.max() >= iou_thr:
            score[free.argmax()] = float(detections.scores[column])
    iou = overlaps.max(axis=1, initial=0)
    return pd.DataFrame(dict(found=~np.isnan(score), score=score, iou=iou))


def describe_learning(assignment: Assignment) -> pd.DataFrame:
    """Return what every ground truth would be learnt from.

    Returns:
        A row for each ground truth: ``positives``; ``best iou``, the highest of its positives' anchors, and ``level``,
        that of most of them, both missing without any; ``threshold``, missing unless this is ATSS.
    """
    counts, gt_inds = assignment.counts, assignment.gt_inds
    prior = (gt_inds > 0).nonzero().flatten()
    number = gt_inds[prior] - 1
    boxes = torch.from_numpy(assignment.truth.bboxes)
    overlaps = bbox_overlaps(boxes[number], assignment.grid.priors[prior], is_aligned=True)
    best = torch.full((len(boxes),), -1.0).scatter_reduce(0, number, overlaps, 'amax').numpy()
    total = counts.sum(1).numpy()
    levels = np.array(assignment.definition.levels, dtype=object)[counts.argmax(1).numpy()]
    candidates = assignment.candidates
    return pd.DataFrame(
        {
            'positives': total,
            'best iou': np.where(total > 0, best, np.nan),
            'level': np.where(total > 0, levels, None),
            'threshold': np.full(len(boxes), np.nan) if candidates is None else candidates.threshold.numpy(),
        }
    )


@dataclass
class Misses:
    """Every ground truth of a data set, what was detected for it and what it would be learnt from.

    Attributes:
        objects: a row for each ground truth: ``image`` and ``object``, its numbers in the data set and in the image;
            ``class``, the columns of :func:`describe_boxes` and of :func:`match_detections`.
        learning: the columns of :func:`describe_learning` for the same rows, by definition.
        iou_thr: the least IoU of a detection.
    """

    objects: pd.DataFrame
    learning: Dict[str, pd.DataFrame]
    iou_thr: float

    def recall(self, label: str, grouping: Optional[str] = None) -> pd.DataFrame:
        """Return the recall over the number of positives.

        Args:
            label: the label of the definition.
            grouping: ``coco size``, ``crowdedness`` or another of ``BINS``; None for all objects.

        Returns:
            A row for each bin of positives, and in each bin of the grouping: ``ground truths``, ``recall`` and the mean
            ``score`` of what was found.
        """
        positives = pd.cut(self.learning[label]['positives'], POSITIVE_BINS, right=False, labels=POSITIVE_NAMES)
        keys = [positives.rename('positives')]
        if grouping:
            _, column, edges = BINS[grouping]
            bins = pd.cut(self.objects[column], edges, right=False, labels=BIN_NAMES[grouping])
            keys.insert(0, bins.rename(grouping))
        groups = self.objects.groupby(keys, observed=False)
        return pd.DataFrame(
            {'ground truths': groups.size(), 'recall': groups['found'].mean(), 'score': groups['score'].mean()}
        )

    def records(self) -> List[dict]:
        """Return one record per ground truth, without NaN."""
        columns = [self.objects, *(part.add_prefix(f'{label}: ') for label, part in self.learning.items())]
        frame = pd.concat(columns, axis=1).astype(object)
        return frame.where(frame.notna(), None).to_dict('records')


def original_boxes(info: dict) -> np.ndarray:
    """Return the boxes (G, 4) xyxy of an image, without crowd regions, as its data set has them."""
    boxes = [instance['bbox'] for instance in info['instances'] if not instance['ignore_flag']]
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def describe_image(
    definitions: Sequence[SampleDefinition], truth: GroundTruth, classes: Sequence[str], found: pd.DataFrame
) -> tuple:
    """Return the rows of one image: of ``Misses.objects``, and by definition of ``Misses.learning``.

    Args:
        definitions: the sample definitions.
        truth: the image as it would be trained on.
        classes: names of the classes.
        found: what :func:`match_detections` returned.
    """
    where = pd.DataFrame(
        {'image': truth.index, 'object': range(len(found)), 'class': [classes[label] for label in truth.labels]}
    )
    columns = ['size', 'original size', 'elongation', 'crowdedness']
    described = pd.DataFrame(describe_boxes(truth), columns=columns)
    learning = {definition.label: describe_learning(assign_image(definition, truth)) for definition in definitions}
    return pd.concat([where, described, found], axis=1), learning


def join_images(parts: Sequence[tuple], iou_thr: float) -> Misses:
    """Return the rows of all images as one table."""
    parts = [part for part in parts if len(part[0])]
    if not parts:
        raise UsageError('the images have no ground truth')
    objects = pd.concat([part for part, _ in parts], ignore_index=True)
    learning = {label: pd.concat([part[label] for _, part in parts], ignore_index=True) for label in parts[0][1]}
    return Misses(objects, learning, iou_thr)
