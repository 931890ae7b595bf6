"""What the page for exploring assignments shows: every pair of an object and an anchor that some k considers.

Legend: N priors, G ground truths, L levels, K values of k.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps

from .assignment import Assignment, assign_image
from .ground_truth import GroundTruth
from .sample_definition import SampleDefinition

# Table 4 of the paper
PAPER_K = (3, 5, 7, 9, 11, 13, 15, 17, 19)
# What became of a pair under one k. The page explains these letters.
POSITIVE, BELOW, OUTSIDE, TAKEN, IGNORED, OTHER, NOT_LOOKED_AT = 'p', 'b', 'o', 't', 'i', 'n', '.'
Pair = Tuple[int, int]  # ground truth, prior


def verdicts(assignment: Assignment) -> Dict[Pair, str]:
    """Return what became of every candidate and every positive.

    Returns:
        By (ground truth, prior): ``p`` for a positive, else the first reason against it: ``b`` its IoU is below
        the threshold, ``o`` its centre is outside the box, ``t`` another object has it, ``i`` it is ignored, ``n`` none
        of these.
    """
    gt_inds, candidates = assignment.gt_inds, assignment.candidates
    priors = (gt_inds > 0).nonzero().flatten()
    result = {(gt - 1, prior): POSITIVE for gt, prior in zip(gt_inds[priors].tolist(), priors.tolist())}
    if candidates is None:
        return result
    gt = torch.arange(len(candidates.prior)).repeat_interleave(candidates.prior.size(1))
    prior = candidates.prior.flatten()
    reasons = (
        (IGNORED, gt_inds[prior] < 0),
        (TAKEN, gt_inds[prior] > 0),
        (OUTSIDE, ~candidates.inside.flatten()),
        (BELOW, ~candidates.reaches.flatten()),
    )
    letters = np.full(len(gt), OTHER)
    for letter, holds in reasons:  # the last one that holds stays
        letters[holds.numpy()] = letter
    for pair, letter in zip(zip(gt.tolist(), prior.tolist()), letters.tolist()):
        result.setdefault(pair, letter)
    return result


def overlaps_of(assignments: Sequence[Assignment], pairs: Sequence[Pair]) -> List[float]:
    """Return the IoU of pairs, or what the definition compares instead where it says so."""
    if not pairs:
        return []
    truth, grid = assignments[0].truth, assignments[0].grid
    gt, prior = torch.tensor(pairs).T
    values = bbox_overlaps(torch.from_numpy(truth.bboxes)[gt], grid.priors[prior], is_aligned=True).tolist()
    known = {}
    for candidates in (a.candidates for a in assignments if a.candidates is not None):
        for number, row in enumerate(zip(candidates.prior.tolist(), candidates.iou.tolist())):
            known.update({(number, prior): iou for prior, iou in zip(*row)})
    return [known.get(pair, value) for pair, value in zip(pairs, values)]


def explore_image(definition: SampleDefinition, truth: GroundTruth, ks: Sequence[int] = PAPER_K) -> dict:
    """Return what one definition does on one image, for every k.

    Args:
        definition: the sample definition.
        truth: the image's ground truth.
        ks: values of k in addition to the definition's own; without effect on a definition that has no k.

    Returns:
        ``k`` the K values in ascending order, [None] where there is no k; ``priors`` the anchors that are looked at, as
        columns ``x``, ``y`` (centre), ``w``, ``h`` and ``level``; ``objects``, for each ground truth its ``pairs`` [row
        of ``priors``, IoU, a letter of :func:`verdicts` for each k] and ``statistics`` [mean, std, threshold] for each
        k, or None; ``ignored`` the number of ignored anchors for each k.
    """
    tried: Sequence[Optional[int]] = sorted({*ks, definition.topk}) if definition.topk else [None]
    variants = [definition if k is None or k == definition.topk else definition.with_topk(k) for k in tried]
    assignments = [assign_image(variant, truth) for variant in variants]
    letters = [verdicts(assignment) for assignment in assignments]
    pairs = sorted(set().union(*letters))
    rows = {prior: row for row, prior in enumerate(sorted({prior for _, prior in pairs}))}
    objects: List[Dict[str, Any]] = [
        dict(pairs=[], statistics=_statistics(assignments, number)) for number in range(len(truth.bboxes))
    ]
    for (number, prior), overlap in zip(pairs, overlaps_of(assignments, pairs)):
        word = ''.join(by_pair.get((number, prior), NOT_LOOKED_AT) for by_pair in letters)
        objects[number]['pairs'].append([rows[prior], round(overlap, 3), word])
    return dict(
        k=tried,
        priors=_columns(assignments[0], list(rows)),
        objects=objects,
        ignored=[int((assignment.gt_inds < 0).sum()) for assignment in assignments],
    )


def _statistics(assignments: Sequence[Assignment], number: int) -> Optional[list]:
    """Return mean, standard deviation and threshold of an object for each k, or None."""
    candidates = [assignment.candidates for assignment in assignments if assignment.candidates is not None]
    return [[round(float(column[number]), 4) for column in (c.mean, c.std, c.threshold)] for c in candidates] or None


def _columns(assignment: Assignment, priors: List[int]) -> dict:
    boxes = assignment.grid.priors[priors]
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T.tolist()
    w, h = (boxes[:, 2:] - boxes[:, :2]).T.tolist()
    columns = {name: [round(value, 1) for value in values] for name, values in dict(x=x, y=y, w=w, h=h).items()}
    return dict(columns, level=assignment.grid.level[priors].tolist())
