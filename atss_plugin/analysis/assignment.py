"""What one sample definition does on one image.

Legend: N priors, G ground truths, L levels.
"""

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from atss_plugin.matching import Candidates

from .ground_truth import GroundTruth
from .sample_definition import PriorGrid, SampleDefinition
from .statistics import count_positives


@dataclass
class Assignment:
    """The positives of one image.

    Attributes:
        definition: the sample definition.
        truth: the image's ground truth, G boxes.
        grid: the N priors.
        gt_inds: (N,) 0 background, -1 ignored, i + 1 for ground truth i.
        counts: (G, L) positives of each ground truth on each level.
        candidates: of each ground truth, for ATSS; else None.
    """

    definition: SampleDefinition
    truth: GroundTruth
    grid: PriorGrid
    gt_inds: Tensor
    counts: Tensor
    candidates: Optional[Candidates]

    def unmatched(self) -> Tensor:
        """Return which ground truths have no positive, (G,) bool."""
        return self.counts.sum(1) == 0

    def candidate_owner(self) -> Tensor:
        """Return (N,) a ground truth that each prior is a candidate of, -1 where there is none."""
        owner = torch.full((len(self.grid.priors),), -1)
        if self.candidates is not None:
            number = torch.arange(len(self.counts))[:, None].expand_as(self.candidates.prior)
            owner[self.candidates.prior] = number
        return owner

    def to_dict(self) -> dict:
        """Return what a program may read, one record per ground truth."""
        levels = self.definition.levels
        records = []
        for number, counts in enumerate(self.counts.tolist()):
            record = dict(
                bbox=self.truth.bboxes[number].tolist(), positives=sum(counts), levels=dict(zip(levels, counts))
            )
            if self.candidates is not None:
                record.update(
                    mean=float(self.candidates.mean[number]),
                    std=float(self.candidates.std[number]),
                    threshold=float(self.candidates.threshold[number]),
                )
            records.append(record)
        return dict(
            assigner=self.definition.label, ignored_anchors=int((self.gt_inds < 0).sum()), ground_truths=records
        )


def assign_image(definition: SampleDefinition, truth: GroundTruth) -> Assignment:
    """Run a sample definition on one image."""
    grid = definition.grid(truth.pad_shape)
    gt_inds = definition.assign([truth])
    boxes = torch.from_numpy(truth.bboxes)
    candidates = definition.candidates(truth.pad_shape, boxes) if len(boxes) else None
    return Assignment(definition, truth, grid, gt_inds[0], count_positives(gt_inds, [len(boxes)], grid), candidates)
