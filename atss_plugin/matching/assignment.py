"""From claims to an assignment: which ground truth gets a prior that several of them claim.

Legend: G ground truths of a batch, N priors of an image, B images; a slot is one of the B * N priors of all images,
image * N + prior.  Row G is no ground truth, and slot B * N collects claims that do not count.
"""

from typing import Iterable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .boxes import areas, on_host, to_float64
from .ground_truths import GroundTruths


class Assignment(NamedTuple):
    """The assignment of a batch.

    Attributes:
        gt_inds (Tensor): (B, N) int64: 0 background, -1 ignored, i + 1 for ground truth i of the image.
        labels (Tensor): (B, N) int64, -1 where not positive.
        owner (Tensor): (B, N) int64, the row of the positive's ground truth among those of the batch; G where not
            positive.
        max_overlaps (Tensor, optional): (B, N) float, by what the claims competed, 0 where not positive: the IoU with
            the assigned ground truth or what takes its place, of the predicted box in TAL and SimOTA (``max_iou``: the
            highest with any, also where not positive); None where the definition looks at none.
    """

    gt_inds: Tensor
    labels: Tensor
    owner: Tensor
    max_overlaps: Optional[Tensor] = None


def finish(owner: Tensor, gts: GroundTruths, max_overlaps: Optional[Tensor] = None) -> Assignment:
    """Return the assignment in which slots (B * N,) have these owners: rows of ground truths, G for none."""
    gt_inds, labels = gts.numbers_labels.gather(1, owner.expand(2, -1))
    if gts.ignored is not None:
        gt_inds = torch.where(gts.ignored, -1, gt_inds)
    size = (len(gts.counts), gts.num_priors)
    overlaps = None if max_overlaps is None else max_overlaps.view(size)
    return Assignment(gt_inds.view(size), labels.view(size), owner.view(size), overlaps)


def unassigned(gts: GroundTruths) -> Assignment:
    """Return the assignment without positives."""
    return finish(new_owners(gts)[:-1], gts)


def to_highest(prior: Tensor, overlap: Tensor, positive: Tensor, gts: GroundTruths) -> Assignment:
    """Give every prior to the claim of highest overlap, of equal ones to that of the lowest ground truth.

    "If an anchor box is assigned to multiple ground-truth boxes, the one with the highest IoU will be selected."

    Args:
        prior (Tensor): (G, M) int64, the priors that each ground truth may claim.
        overlap (Tensor): (G, M) by which the claims compete, >= 0.
        positive (Tensor): (G, M) bool, which claims count.
        gts (GroundTruths): the ground truths.
    """
    slot, overlap, row = counted(prior, positive, gts, overlap, gts.row[:-1, None])
    highest = overlap.new_zeros(gts.num_slots + 1).scatter_reduce_(0, slot.flatten(), overlap.flatten(), 'amax')
    owner = new_owners(gts)
    to_lowest(owner, slot, torch.where(overlap == highest[slot], row, gts.row[-1]))
    return finish(owner[:-1], gts, highest[:-1])


def to_smallest(claims: Iterable[Tuple[slice, Tensor, Tensor]], gts: GroundTruths) -> Assignment:
    """Give every prior to the claim of the smallest ground truth (FCOS's rule), of equal ones to that of the lowest.

    Args:
        claims (iterable): chunks: which g of the ground truths, the priors (g, ...) that each may claim, and which of
            these claims count, of the same shape or one that broadcasts.
        gts (GroundTruths): the ground truths.
    """
    order = torch.argsort(areas(to_float64(gts.boxes)), stable=True)
    precedence = torch.argsort(order)
    owner = new_owners(gts)
    for part, prior, positive in claims:
        rank = precedence[part].view(-1, *[1] * (prior.dim() - 1))
        to_lowest(owner, *counted(prior, positive, gts, rank, part=part))
    return finish(torch.cat([order, gts.row[-1:]])[owner[:-1]], gts)


def new_owners(gts: GroundTruths) -> Tensor:
    """Return a table (B * N + 1,) in which no slot has an owner; the last slot is for claims that do not count."""
    return gts.image.new_full((gts.num_slots + 1,), len(gts.boxes))


def to_lowest(owner: Tensor, slot: Tensor, row: Tensor) -> None:
    """Let the lowest of the rows that claim a slot own it, unless a lower one does already."""
    owner.scatter_reduce_(0, slot.flatten(), row.flatten(), 'amin')


def counted(
    prior: Tensor, positive: Tensor, gts: GroundTruths, *values: Tensor, part: slice = slice(0, -1)
) -> Tuple[Tensor, ...]:
    """Return the claims that count: the slots that they claim, and their values.

    On an accelerator, where asking for their number makes the host wait, the others are kept, and sent to the slot
    after the last.

    Args:
        prior (Tensor): (g, ...) the priors that some ground truths claim.
        positive (Tensor): (g, ...) bool, which claims count.
        gts (GroundTruths): the ground truths.
        *values (Tensor): what else is known of the claims; all broadcast.
        part (slice): which g of the ground truths.
    """
    slot = prior + gts.first_slot[part].view(-1, *[1] * (prior.dim() - 1))
    slot, positive, *values = torch.broadcast_tensors(slot, positive, *values)
    if gts.ignored is not None:
        positive = positive & ~gts.ignored[slot.clamp(max=gts.num_slots - 1)]
    if on_host(positive):
        return tuple(value[positive] for value in (slot, *values))
    return (torch.where(positive, slot, gts.first_slot[-1]), *values)
