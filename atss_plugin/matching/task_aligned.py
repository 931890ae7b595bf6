"""TAL: positives are where score and box of a prediction agree (TOOD, https://arxiv.org/abs/2108.07755, section 3.2).

Legend: G ground truths of the batch, g of them in a chunk, N priors, k candidates of a ground truth.
"""

import torch

from .assignment import Assignment, to_highest
from .boxes import Measure, chunks, inside, iou, topk_smallest
from .ground_truths import GroundTruths
from .predictions import Predictions, pairs
from .pyramid import Pyramid


def task_aligned(
    pyramid: Pyramid,
    gts: GroundTruths,
    predictions: Predictions,
    topk: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
    measure: Measure = iou,
) -> Assignment:
    """Take the k priors of highest alignment t = s^alpha * u^beta whose centre is inside the object.

    s is the predicted probability of the object's class, u the IoU of the predicted box with the object.  A prior that
    several objects claim goes to the highest u.  Of equal t the lower prior is taken.

    Args:
        pyramid (Pyramid): the priors.
        gts (GroundTruths): the ground truths.
        predictions (Predictions): what the model predicts.
        topk (int): k = m of the paper, over all levels.
        alpha, beta (float): the exponents.
        measure (callable): takes the place of IoU.
    """
    gts.check_priors(pyramid.priors)
    num = len(pyramid.priors)
    number = torch.arange(num, device=pyramid.priors.device)
    found = []
    for part in chunks(len(gts.boxes), 4 * num):
        overlap, score = pairs(predictions, gts, part, measure)
        alignment = score**alpha * overlap**beta
        prior = topk_smallest(-alignment, number, min(topk, num))  # (g, k)
        found.append((prior, overlap.gather(1, prior), alignment.gather(1, prior)))
    prior, overlap, alignment = (torch.cat(column) for column in zip(*found))
    positive = (alignment > 0) & inside(gts.boxes[:, None], pyramid.centers[prior])
    return to_highest(prior, overlap, positive, gts)
