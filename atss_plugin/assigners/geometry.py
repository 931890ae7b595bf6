"""Pure functions on boxes, points and claims that the assigners share.

Legend: N priors, G ground truths, B images, P claims (a ground truth that wants a prior).
"""
from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

# An anchor point counts as inside a box if it is more than this many pixels from every side
# (RECIPE: min(l, t, r, b) > 0.01, in all four definitions).
INSIDE_MARGIN = 0.01

# Elements of one dense (ground truths x priors) temporary.  A dense path holds about six such temporaries of at
# most eight bytes: some 25 MiB however many ground truths there are (one row of N priors is its only lower bound).
DENSE_BUDGET = 1 << 19


def precise(x: Tensor) -> Tensor:
    """``x`` in float64 (float32 on devices that have no float64), where differences of float32 pixels are exact."""
    return x.float() if x.device.type == 'mps' else x.double()


def box_centers(boxes: Tensor) -> Tensor:
    """Centres (x, y) of boxes (n, 4) in pixels, computed in the boxes' own precision, returned precise: (n, 2)."""
    return precise((boxes[..., :2] + boxes[..., 2:4]) / 2)


def point_noise(priors: Tensor) -> Tensor:
    """Pixels below which differences between the centres of priors (N, 4) mean nothing, a power of two: ().

    Corners such as ``32 - 16 * sqrt(2)`` are rounded, so the centres of the A anchors of a location differ in the
    last bits.  This is 2^-18 of the largest coordinate (1/128 pixel in an image of 1333): well above float32's noise
    (2^-23), below any distance between anchors.
    """
    largest = precise(priors.abs().amax()).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.exp2(torch.ceil(torch.log2(largest)) - 18)


def anchor_points(priors: Tensor) -> Tensor:
    """The points at which priors (N, 4) of one level sit: their centres without float noise, (N, 2).

    The A anchors of a location share its point, and equal distances are equal: noise would decide ties at random.  So
    the centres' differences from the first one are rounded to :func:`point_noise`.
    """
    centers = box_centers(priors)
    if len(centers) == 0:
        return centers
    unit = point_noise(priors)
    return centers[0] + torch.round((centers - centers[0]) / unit) * unit


def side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances (l, t, r, b) in pixels from points (..., 2) to the sides of boxes (..., 4), negative outside."""
    boxes = precise(boxes)
    return torch.cat([points - boxes[..., :2], boxes[..., 2:4] - points], dim=-1)


def inside(points: Tensor, boxes: Tensor, margin: float = INSIDE_MARGIN) -> Tensor:
    """Whether points (..., 2) lie more than ``margin`` pixels inside boxes (..., 4); shapes broadcast."""
    return side_distances(points, boxes).amin(-1) > margin


def box_areas(boxes: Tensor) -> Tensor:
    """Areas of boxes (G, 4) in square pixels, precise (G,)."""
    width, height = (precise(boxes[:, 2:4]) - precise(boxes[:, :2])).unbind(-1)
    return width * height


def chunks(num_gts: int, num_priors: int) -> Iterator[slice]:
    """Slices of the ground truths whose (ground truths x priors) temporaries fit ``DENSE_BUDGET``."""
    step = max(1, DENSE_BUDGET // max(num_priors, 1))
    for start in range(0, num_gts, step):
        yield slice(start, min(start + step, num_gts))


def smallest(values: Tensor, order: Tensor, k: int, dim: int) -> Tensor:
    """Where the k smallest values along a dimension are, ties to the smaller ``order`` >= 0: min(k, n) of n indices.

    ``Tensor.topk`` promises nothing about ties, and devices differ.  Only the tie at the k-th value has to be
    decided: everything below it is in, of the equal ones those of smallest order.
    """
    k = min(k, values.size(dim))
    # kthvalue is the faster, but CUDA refuses it in deterministic mode, and not every device has it
    last = values.kthvalue(k, dim=dim, keepdim=True).values if values.device.type == 'cpu' else \
        values.topk(k, dim=dim, largest=False).values.amax(dim, keepdim=True)
    # far below 0, far above any order, or 0 (nan, which counts as largest, where infinity is the k-th itself)
    rank = (values - last).mul_(1e300 if values.dtype == torch.float64 else 1e30)
    return rank.add_(order).topk(k, dim=dim, largest=False, sorted=False).indices


def positions(mask: Tensor) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """The rows and columns where a mask (n, m) is true, (P,) each.

    On an accelerator their number is not known on the host, and asking for it would make the host wait: there all
    positions are returned, and the mask of those that count (P,) as the third; it is None if all do.
    """
    if mask.device.type == 'cpu':
        row, column = mask.nonzero(as_tuple=True)
        return row, column, None
    index = torch.ones_like(mask, dtype=torch.long).flatten().cumsum(0) - 1
    return index // mask.size(1), index % mask.size(1), mask.flatten()


def resolve_claims(mask: Tensor, slot: Tensor, gt: Tensor, priority: Tensor, num_slots: int) -> Tensor:
    """Which claims win their slot: those of highest priority, of equal ones that of the lowest ground truth.

    Args:
        mask (Tensor): (P,) which claims count.
        slot (Tensor): (P,) what is claimed, in [0, num_slots).
        gt (Tensor): (P,) who claims it, in [0, num_gts).
        priority (Tensor): (P,) what decides.
        num_slots (int): how many there are.

    Returns:
        Tensor: (P,) bool, at most one claim for each slot.
    """
    # Only the slots that somebody claims are written and read, so the tables need no initial values elsewhere.
    slot = torch.where(mask, slot, num_slots)  # claims that do not count go to one more slot
    highest = priority.new_empty(num_slots + 1).scatter_reduce_(0, slot, priority, 'amax', include_self=False)
    best = mask & (priority == highest[slot])
    claimed = torch.where(best, slot, num_slots)
    owner = gt.new_empty(num_slots + 1).scatter_reduce_(0, claimed, gt, 'amin', include_self=False)
    return best & (owner[claimed] == gt)
