"""Pure functions on boxes and points.

A box is xyxy in continuous pixels, (..., 4); a point is xy, (..., 2).  Shapes broadcast.

Legend: N priors, G ground truths.
"""

from typing import Callable, Iterator, Sequence

import torch
from torch import Tensor

# A centre counts as inside a box if it is more than this many pixels from every side (min(l, t, r, b) > 0.01 in the
# authors' setting of all four definitions).
INSIDE_MARGIN = 0.01

# Elements of one dense (ground truths x priors) temporary.  A dense definition holds about six of them, of at most
# eight bytes an element: some 25 MiB however many ground truths there are (one row of N priors is its only lower
# bound).
DENSE_BUDGET = 1 << 19

# How alike boxes (..., 4) and priors (..., 4) are: (...), high where they are alike.
Measure = Callable[[Tensor, Tensor], Tensor]


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return float64, where differences of float32 pixels are exact; float32 on devices that have no float64."""
    return torch.float32 if device.type == 'mps' else torch.float64


def at_least_float32(x: Tensor) -> Tensor:
    """Return float32 and float64 as they are, anything else as float32.

    Half precision cannot tell pixels apart beyond 2048, bfloat16 beyond 256.
    """
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def to_float64(x: Tensor) -> Tensor:
    """Return ``x`` in :func:`exact_dtype`."""
    return x.to(exact_dtype(x.device))


def from_host(values: Sequence, device: torch.device, dtype: torch.dtype = torch.long) -> Tensor:
    """Copy numbers known on the host to a device, without waiting for it."""
    return torch.asarray(values, dtype=dtype).to(device, non_blocking=True)


def on_host(tensor: Tensor) -> bool:
    """Return whether asking a tensor for its values costs nothing; on an accelerator it makes the host wait."""
    return tensor.device.type == 'cpu'


def centers(boxes: Tensor) -> Tensor:
    """Return the centres (..., 2) of boxes, in their own precision."""
    return boxes.reshape(*boxes.shape[:-1], 2, 2).mean(-2)


def areas(boxes: Tensor) -> Tensor:
    """Return the areas (...) of boxes in square pixels."""
    size = boxes[..., 2:] - boxes[..., :2]
    return size[..., 0] * size[..., 1]


def has_area(boxes: Tensor) -> Tensor:
    """Return whether boxes have a positive width and height (...)."""
    return (boxes[..., :2] < boxes[..., 2:]).all(-1)


def iou(boxes: Tensor, priors: Tensor) -> Tensor:
    """Return the intersection over union (...), the arithmetic of mmdet's ``bbox_overlaps``: the same bits."""
    overlap = intersections(boxes, priors)
    return overlap / (areas(boxes) + areas(priors) - overlap).clamp(min=1e-6)


def iof(boxes: Tensor, priors: Tensor) -> Tensor:
    """Return the share (...) of the priors' area that lies in boxes: intersection over foreground."""
    return intersections(boxes, priors) / areas(priors).clamp(min=1e-6)


def intersections(boxes: Tensor, priors: Tensor) -> Tensor:
    """Return the areas (...) that boxes have in common with priors."""
    low = torch.maximum(boxes[..., :2], priors[..., :2])
    size = (torch.minimum(boxes[..., 2:], priors[..., 2:]) - low).clamp(min=0)
    return size[..., 0] * size[..., 1]


def sides(boxes: Tensor, points: Tensor) -> Tensor:
    """Return the distances (l, t, r, b) in pixels from points in float64 to the sides of boxes, (..., 4).

    A distance is negative where the point is beyond that side.
    """
    return torch.cat(torch.broadcast_tensors(points - boxes[..., :2], boxes[..., 2:] - points), -1)


def inside(boxes: Tensor, points: Tensor) -> Tensor:
    """Return whether points lie more than :data:`INSIDE_MARGIN` inside boxes, (...).

    float32 decides as float64 does: the difference of two close numbers is exact, and none lies between 0.01 and its
    float32.
    """
    nearest = torch.minimum(points - boxes[..., :2], boxes[..., 2:] - points)
    return nearest.amin(-1) > INSIDE_MARGIN


def rows(table: Tensor, index: Tensor) -> Tensor:
    """Return the rows of a table (n, c) at some indices (...): (..., c)."""
    return table.index_select(0, index.flatten()).view(*index.shape, table.size(1))


def chunks(num_rows: int, row_size: int) -> Iterator[slice]:
    """Yield slices of so many rows that a temporary of ``row_size`` elements per row fits :data:`DENSE_BUDGET`.

    There is at least one, an empty one if there are no rows.
    """
    step = max(1, DENSE_BUDGET // max(row_size, 1))
    for start in range(0, max(num_rows, 1), step):
        yield slice(start, min(start + step, num_rows))


def topk_smallest(values: Tensor, tie_break: Tensor, k: int) -> Tensor:
    """Return where the k smallest of the last dimension are, (..., k), infinite ones last.

    Args:
        values (Tensor): (..., n) float, of magnitudes from 1e-290 to 1e290; without float64 (mps) 1e-25 to 1e30.
        tie_break (Tensor): (..., n) numbers >= 0: of equal values those of smaller numbers are taken, which ``topk``
            does not promise.
        k (int): how many, at most n.
    """
    values = to_float64(values)  # in which no difference of two float32 is lost below
    last = values.topk(k, largest=False).values[..., -1:]
    # Only the tie at the k-th value has to be decided.  Smaller values rank far below 0, those equal to it by their
    # number, greater ones far above; where the k-th is infinite, inf - inf is nan, which counts as largest.
    huge = 1e300 if values.dtype == torch.float64 else 1e30
    return torch.add(tie_break, values - last, alpha=huge).topk(k, largest=False).indices
