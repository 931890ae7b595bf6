"""PAA: positives are the better of two groups into which an object's losses fall (https://arxiv.org/abs/2007.08103).

Legend: G ground truths of the batch, L levels, B images, N priors, C classes, k candidates of a level, M = L * k
candidates of a ground truth, P priors looked at.
"""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from .assignment import Assignment, finish, new_owners, to_lowest
from .boxes import Measure, areas, intersections, iou, on_host, to_float64
from .ground_truths import GroundTruths
from .max_iou import max_iou
from .predictions import Predictions, sum_of_negatives
from .pyramid import Pyramid

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss
# scikit-learn's defaults for GaussianMixture: the iterations, the change of the mean log likelihood at which it stops,
# and what is added to variances
MAX_ITERATIONS, TOLERANCE, LEAST_VARIANCE = 100, 1e-3, 1e-6


class Mixture(NamedTuple):
    """Mixtures of two normal distributions: weights, means and variances, (G, 2, 1) each."""

    weight: Tensor
    mean: Tensor
    variance: Tensor


def paa(
    pyramid: Pyramid,
    gts: GroundTruths,
    predictions: Predictions,
    topk: int = 9,
    pos_iou_thr: float = 0.1,
    box_weight: float = 1.3,
    measure: Measure = iou,
) -> Assignment:
    """Fit two normal distributions to the losses of every object's candidates; the positives belong to the lower one.

    A prior can be a candidate of the object with which it has the highest IoU, if that reaches ``pos_iou_thr`` or no
    prior has a higher one with the object; candidates are the k of lowest loss on each level.  The loss is focal loss
    plus ``box_weight`` times GIoU loss.  Positive are the candidates that belong to the distribution of low losses, up
    to the loss at which the mixture is densest.  An object of a single candidate has none.

    Args:
        pyramid (Pyramid): the priors.
        gts (GroundTruths): the ground truths.
        predictions (Predictions): what the model predicts.
        topk (int): k.
        pos_iou_thr (float): the least IoU of a candidate.
        box_weight (float): the weight of the box loss.
        measure (callable): takes the place of the IoU between priors and ground truths.
    """
    bag = max_iou(pyramid.priors, gts, pos_iou_thr, (0.0, pos_iou_thr), measure=measure)
    owner = bag.owner.flatten()
    slot = torch.arange(len(owner), device=owner.device)
    if on_host(owner):  # elsewhere counting them would make the host wait
        slot = slot[owner < len(gts.boxes)]
    loss = training_losses(gts, predictions, slot, owner[slot], box_weight)
    slot, loss = _candidates(pyramid, gts, slot, owner[slot], loss, topk)
    positive = lower_group(loss)
    owner = new_owners(gts)
    to_lowest(owner, torch.where(positive, slot, gts.first_slot[-1]), gts.row[:-1, None].expand(slot.shape))
    return finish(owner[:-1], gts)


def training_losses(
    gts: GroundTruths, predictions: Predictions, slot: Tensor, owner: Tensor, box_weight: float
) -> Tensor:
    """Return the losses (P,) of predictions at some slots (P,), if these ground truths (P,) own them; float64."""
    scores = predictions.scores.flatten(0, 1)[slot]
    score = scores.gather(1, gts.numbers_labels[1][owner, None].clamp(min=0))
    background = sum_of_negatives(_focal_background(scores)) - to_float64(_focal_background(score)[:, 0])
    foreground = -ALPHA * (1 - score[:, 0]) ** GAMMA * score[:, 0].log().clamp(min=-100)
    boxes = torch.cat([gts.boxes, gts.boxes.new_zeros((1, 4))])[owner]
    box_loss = 1 - giou(predictions.boxes.flatten(0, 1)[slot], boxes)
    return background + to_float64(foreground) + box_weight * to_float64(box_loss)


def _focal_background(score: Tensor) -> Tensor:
    return -(1 - ALPHA) * score**GAMMA * torch.log1p(-score).clamp(min=-100)


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalised IoU (...) of boxes (..., 4), the arithmetic of mmdet's."""
    overlap = intersections(boxes, others)
    union = (areas(boxes) + areas(others) - overlap).clamp(min=1e-6)
    low, high = torch.minimum(boxes[..., :2], others[..., :2]), torch.maximum(boxes[..., 2:], others[..., 2:])
    hull = areas(torch.cat([low, high], -1)).clamp(min=1e-6)
    return overlap / union - (hull - union) / hull


def _candidates(
    pyramid: Pyramid, gts: GroundTruths, slot: Tensor, owner: Tensor, loss: Tensor, topk: int
) -> Tuple[Tensor, Tensor]:
    """Return the k slots of lowest loss of each ground truth on each level and their losses, (G, M), by rising loss.

    Where there are fewer than k, the loss is infinite.
    """
    levels = len(pyramid.num_level_priors)
    level = pyramid.levels[slot % gts.num_priors]
    order = loss.argsort(stable=True)
    order = order[(owner * levels + level)[order].argsort(stable=True)]
    slot, owner, level, loss = slot[order], owner[order], level[order], loss[order]
    group = owner * levels + level
    rank = torch.arange(len(group), device=group.device) - torch.searchsorted(group, group)
    row = torch.where(rank < topk, owner, len(gts.boxes))  # the last row is for what does not count
    cell = row * (levels * topk) + level * topk + rank.clamp(max=topk - 1)
    size = (len(gts.boxes) + 1, levels * topk)
    slots = slot.new_full(size, gts.num_slots)
    losses = loss.new_full(size, float('inf'))
    slots.view(-1)[cell], losses.view(-1)[cell] = slot, loss
    losses, order = losses[:-1].sort(dim=1, stable=True)
    return slots[:-1].gather(1, order), losses


def lower_group(loss: Tensor) -> Tensor:
    """Return which losses belong to the lower of two groups, up to where losses are densest: (G, M) bool.

    Args:
        loss (Tensor): (G, M) float64, rising in each row, infinite where there is none.
    """
    exists = loss < float('inf')
    values = torch.where(exists, loss, 0.0)
    joint = log_joint(values, fit_mixture(values, exists))
    density = torch.logsumexp(joint, 1)
    low = exists & (joint[:, 0] >= joint[:, 1])
    density = torch.where(low, density, -float('inf'))
    position = torch.arange(loss.size(1), device=loss.device)
    densest = torch.where(density == density.amax(1, keepdim=True), position, loss.size(1)).amin(1, keepdim=True)
    return low & (position <= densest) & (exists.sum(1, keepdim=True) > 1)


def fit_mixture(values: Tensor, exists: Tensor) -> Mixture:
    """Fit a mixture of two normal distributions to every row of values (G, M), some of which exist: EM.

    It starts from equal weights, the least and the greatest value as means, and variances of 1.  The rows stop one by
    one, as soon as their mean log likelihood changes by less than :data:`TOLERANCE`.
    """
    size = exists.sum(1).clamp(min=1)
    least = torch.where(exists, values, float('inf')).amin(1)
    greatest = torch.where(exists, values, -float('inf')).amax(1)
    mean = torch.stack([least, greatest], 1)[..., None].nan_to_num(posinf=0.0, neginf=0.0)
    mixture = Mixture(torch.full_like(mean, 0.5), mean, torch.ones_like(mean))
    before, done = torch.full_like(least, -float('inf')), torch.zeros_like(exists[:, 0])
    for _ in range(MAX_ITERATIONS):
        joint = log_joint(values, mixture)
        likelihood = torch.logsumexp(joint, 1)
        share = torch.exp(joint - likelihood[:, None]) * exists[:, None]
        better = _maximised(values, share, size)
        mixture = Mixture(*(torch.where(done[:, None, None], old, new) for old, new in zip(mixture, better)))
        mean_likelihood = (likelihood * exists).sum(1) / size
        done = done | ((mean_likelihood - before).abs() < TOLERANCE)
        before = mean_likelihood
        if on_host(done) and bool(done.all()):
            break
    return mixture


def log_joint(values: Tensor, mixture: Mixture) -> Tensor:
    """Return the logarithms of weight times density of both distributions at values (G, M): (G, 2, M)."""
    weight, mean, variance = mixture
    constant = weight.log() - (2 * torch.pi * variance).log() / 2
    return constant - (values[:, None] - mean).square() / (2 * variance)


def _maximised(values: Tensor, share: Tensor, size: Tensor) -> Mixture:
    """Return the mixtures of the highest likelihood, given to which share (G, 2, M) values belong to either."""
    mass = share.sum(2, keepdim=True) + 10 * torch.finfo(share.dtype).eps
    mean = (share * values[:, None]).sum(2, keepdim=True) / mass
    variance = (share * (values[:, None] - mean).square()).sum(2, keepdim=True) / mass + LEAST_VARIANCE
    return Mixture(mass / size[:, None, None], mean, variance)
