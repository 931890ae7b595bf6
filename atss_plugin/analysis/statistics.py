"""What an assigner does over a whole data set: one line per ground truth, and summaries of those lines.

Legend: B images of a batch, G ground truths of all of them, N priors, L levels.
"""

from dataclasses import dataclass, replace
from itertools import groupby
from typing import Callable, Dict, Iterator, List, Sequence

import numpy as np
import pandas as pd
import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from .ground_truth import GroundTruth
from .sample_definition import PriorGrid, SampleDefinition

# Elements of a batch's (B, N) result: small enough for the cache of a core, large enough for few calls.
BATCH_ELEMENTS = 500_000
# Words, column and edges of the bins; sizes in the network's input have the bounds of FCOS's scale ranges.
BINS = {
    'size': ('√area, px of the input', 'size', [0, 32, 64, 128, 256, 512, np.inf]),
    'coco size': ("COCO's size, original px", 'original size', [0, 32, 96, np.inf]),
    'aspect': ('longer / shorter side', 'elongation', [1, 1.5, 2, 3, 5, np.inf]),
    'crowdedness': ('highest IoU with another box', 'crowdedness', [0, 1e-9, 0.1, 0.3, 0.5, np.inf]),
}
BIN_NAMES = {
    'size': ['< 32', '32–64', '64–128', '128–256', '256–512', '≥ 512'],
    'coco size': ['small', 'medium', 'large'],
    'aspect': ['< 1.5', '1.5–2', '2–3', '3–5', '≥ 5'],
    'crowdedness': ['0', '< 0.1', '0.1–0.3', '0.3–0.5', '≥ 0.5'],
}
Progress = Callable[[int], None]


@dataclass
class AssignmentStatistics:
    """What one sample definition does over a data set.

    Attributes:
        label: name of the sample definition.
        levels: names of the levels.
        frame: one line per ground truth; the columns of :func:`describe_boxes`, ``positives``, one column per
            level, and for ATSS ``threshold``.
        num_images: how many images were looked at.
        claimed: anchors that at least one ground truth would take if it were alone, in the images that were
            looked at for this.
        ambiguous: those of them that several ground truths would take.
    """

    label: str
    levels: List[str]
    frame: pd.DataFrame
    num_images: int
    claimed: int = 0
    ambiguous: int = 0

    def by(self, grouping: str) -> pd.DataFrame:
        """Return a line per bin of ``size``, ``coco size``, ``aspect`` or ``crowdedness``.

        Returns:
            Columns ``ground truths``, ``mean``, ``std``, ``p10``, ``median``, ``p90`` (of the positives per
            ground truth) and ``unmatched`` (share without any).
        """
        _, column, edges = BINS[grouping]
        # as intervals that hold their lower edge
        bins = pd.cut(self.frame[column], edges, right=False, labels=BIN_NAMES[grouping])
        groups = self.frame.assign(unmatched=self.frame['positives'] == 0).groupby(bins, observed=False)
        positives = groups['positives']
        return pd.DataFrame(
            {
                'ground truths': positives.size(),
                'mean': positives.mean(),
                'std': positives.std(),
                'p10': positives.quantile(0.1),
                'median': positives.median(),
                'p90': positives.quantile(0.9),
                'unmatched': groups['unmatched'].mean(),
            }
        )

    def level_share(self) -> pd.Series:
        """Return the share of all positives on each level."""
        counts = self.frame[self.levels].sum()
        return counts / max(counts.sum(), 1)

    def overall(self) -> Dict[str, float]:
        """Return totals, means and shares over all ground truths."""
        positives = self.frame['positives']
        result = {
            'images': self.num_images,
            'ground truths': len(positives),
            'positives': int(positives.sum()),
            'positives per ground truth': positives.mean(),
            'standard deviation': positives.std(),
            'without a positive': (positives == 0).mean(),
            'ambiguous anchors': self.ambiguous / self.claimed if self.claimed else np.nan,
        }
        if 'threshold' in self.frame:
            for name, quantile in (('p10', 0.1), ('median', 0.5), ('p90', 0.9)):
                result[f'threshold {name}'] = self.frame['threshold'].quantile(quantile)
        return {key: value if isinstance(value, int) else float(value) for key, value in result.items()}

    def to_dict(self) -> dict:
        """Return everything that a program may read, with None for missing values."""
        groupings = {name: self.by(name).reset_index(names='bin').to_dict('records') for name in BINS}
        result = dict(assigner=self.label, overall=self.overall(), levels=self.level_share().to_dict(), **groupings)
        return _without_nan(result)


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def describe_boxes(truth: GroundTruth) -> np.ndarray:
    """Return ``size``, ``original size`` (√area in px), ``elongation`` and ``crowdedness`` of G boxes, (G, 4)."""
    width, height = (truth.bboxes[:, 2:] - truth.bboxes[:, :2]).clip(min=1e-6).T
    size = np.sqrt(width * height)
    shrink = np.sqrt(np.prod(truth.ori_shape) / np.prod(truth.img_shape))
    boxes = torch.from_numpy(truth.bboxes)
    overlaps = bbox_overlaps(boxes, boxes).fill_diagonal_(0)
    crowdedness = overlaps.max(1).values.numpy() if len(boxes) else np.zeros(0)
    return np.stack([size, size * shrink, np.maximum(width / height, height / width), crowdedness], axis=1)


def collect_statistics(
    definition: SampleDefinition,
    truths: Sequence[GroundTruth],
    ambiguity_images: int = 200,
    progress: Progress = lambda images: None,
) -> AssignmentStatistics:
    """Assign every image of a data set and count.

    Args:
        definition: the sample definition.
        truths: the images.
        ambiguity_images: on how many of them, evenly spread, to look for ambiguous anchors, which takes one
            assignment per ground truth.
        progress: called with the number of images after every batch.
    """
    parts = [_count_batch(definition, batch, progress) for batch in batches(definition, truths)]
    columns = ['size', 'original size', 'elongation', 'crowdedness', 'threshold', *definition.levels]
    table = np.concatenate(parts) if parts else np.zeros((0, len(columns)))
    frame = pd.DataFrame(table, columns=columns)
    frame['positives'] = frame[definition.levels].sum(axis=1).astype(int)
    if frame['threshold'].isna().all():
        frame = frame.drop(columns='threshold')
    counts = [claim_counts(definition, truths[i]) for i in evenly_spread(len(truths), ambiguity_images)]
    return AssignmentStatistics(
        definition.label,
        definition.levels,
        frame,
        len(truths),
        claimed=sum(int((count > 0).sum()) for count in counts),
        ambiguous=sum(int((count > 1).sum()) for count in counts),
    )


def evenly_spread(count: int, number: int) -> List[int]:
    """Return ``number`` indices of ``count`` things, or all of them if there are fewer."""
    return np.linspace(0, count - 1, min(number, count)).round().astype(int).tolist()


def batches(definition: SampleDefinition, truths: Sequence[GroundTruth]) -> Iterator[List[GroundTruth]]:
    """Yield batches of images of one padded shape, small enough for their result to stay small."""

    def shape(truth: GroundTruth):
        return truth.pad_shape

    for pad_shape, group in groupby(sorted(truths, key=shape), key=shape):
        images = list(group)
        size = max(1, BATCH_ELEMENTS // len(definition.grid(pad_shape).priors))
        for start in range(0, len(images), size):
            yield images[start : start + size]


def _count_batch(definition: SampleDefinition, batch: List[GroundTruth], progress: Progress) -> np.ndarray:
    """Return the rows (G, 5 + L) of the ground truths of a batch."""
    counts = count_positives(
        definition.assign(batch), [len(t.bboxes) for t in batch], definition.grid(batch[0].pad_shape)
    )
    boxes = np.concatenate([truth.bboxes for truth in batch])
    candidates = definition.candidates(batch[0].pad_shape, torch.from_numpy(boxes)) if len(boxes) else None
    threshold = candidates.threshold.numpy() if candidates else np.full(len(boxes), np.nan)
    described = np.concatenate([describe_boxes(truth) for truth in batch])
    progress(len(batch))
    return np.concatenate([described, threshold[:, None], counts.numpy()], axis=1)


def count_positives(gt_inds: Tensor, num_gts: Sequence[int], grid: PriorGrid) -> Tensor:
    """Count the positives of every ground truth on every level.

    Args:
        gt_inds: (B, N) as assigners give it.
        num_gts: ground truths of each image.
        grid: the priors.

    Returns:
        (G, L) int64, the ground truths of all images one after the other.
    """
    first = torch.tensor([0, *num_gts]).cumsum(0)
    image, prior = (gt_inds > 0).nonzero(as_tuple=True)
    number = first[image] + gt_inds[image, prior] - 1
    num_levels = len(grid.num_level_priors)
    cells = number * num_levels + grid.level[prior]
    return cells.bincount(minlength=int(first[-1]) * num_levels).view(-1, num_levels)


def claim_counts(definition: SampleDefinition, truth: GroundTruth) -> Tensor:
    """Return how many ground truths would take each prior if each were alone in the image, (N,) int64.

    This finds the rivals for an anchor with any assigner, from its results alone.
    """
    grid = definition.grid(truth.pad_shape)
    counts = torch.zeros(len(grid.priors), dtype=torch.long)
    size = max(1, BATCH_ELEMENTS // len(grid.priors))
    alone = [_only(truth, number) for number in range(len(truth.bboxes))]
    for start in range(0, len(alone), size):
        counts += (definition.assign(alone[start : start + size]) > 0).sum(0)
    return counts


def _only(truth: GroundTruth, number: int) -> GroundTruth:
    kept = slice(number, number + 1)
    return replace(truth, bboxes=truth.bboxes[kept], labels=truth.labels[kept])
