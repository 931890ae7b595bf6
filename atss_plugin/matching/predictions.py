"""What a model predicts, for the definitions that look at it.

Legend: G ground truths of the batch, g of them in a chunk, N priors, B images, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import Measure, exact_dtype
from .ground_truths import GroundTruths


class Predictions(NamedTuple):
    """The boxes and scores that a model predicts for the priors of a batch, without a gradient.

    Attributes:
        boxes (Tensor): (B, N, 4) decoded, xyxy in pixels.
        scores (Tensor): (B, N, C) probabilities of the classes.
    """

    boxes: Tensor
    scores: Tensor


def pairs(predictions: Predictions, gts: GroundTruths, part: slice, measure: Measure):
    """Return the overlaps of some ground truths with all predicted boxes of their image, and the scores of their class.

    Args:
        predictions (Predictions): what the model predicts.
        gts (GroundTruths): the ground truths.
        part (slice): which g of them.
        measure (callable): IoU, or what takes its place.

    Returns:
        tuple: overlaps (g, N) and scores (g, N).
    """
    image = gts.image[part]
    overlap = measure(gts.boxes[part, None], predictions.boxes[image])
    return overlap, predictions.scores[image, :, gts.labels[part]]


def predicted_overlaps(predictions: Predictions, gts: GroundTruths, owner: Tensor, measure: Measure) -> Tensor:
    """Return the overlaps (B * N,) of predicted boxes with the ground truth that owns the slot, 0 where none does."""
    boxes = torch.cat([gts.boxes, gts.boxes.new_zeros((1, 4))])[owner]
    overlap = measure(boxes, predictions.boxes.flatten(0, 1))
    return torch.where(owner < len(gts.boxes), overlap, torch.zeros_like(overlap))


def sum_of_negatives(loss: Tensor) -> Tensor:
    """Return the loss (B, N) of a location that is background for all classes, from that of each class (B, N, C)."""
    return loss.sum(-1, dtype=exact_dtype(loss.device))
