"""Center sampling: the anchors that SSC would take, from the middle of a box only.

Legend: G ground truths, M candidates of a ground truth, S groups of locations.
"""

from typing import Sequence, Tuple

import torch

from .assignment import Assignment, to_smallest
from .boxes import INSIDE_MARGIN, centers, exact_dtype, from_host, rows, sides, to_float64
from .ground_truths import GroundTruths
from .nearest import nearest
from .pyramid import Pyramid, check_one_per_level
from .spatial_scale import SCALE_RANGES, Region, anchors_in, scales


def center_sampling(
    pyramid: Pyramid,
    gts: GroundTruths,
    topk: int = 9,
    scale_ranges: Sequence[Tuple[float, float]] = SCALE_RANGES,
) -> Assignment:
    """Center sampling of the paper's lite version: SSC among the k locations nearest to the centre on each level.

    Args:
        pyramid (Pyramid): the priors.
        gts (GroundTruths): the ground truths.
        topk (int): k; with A anchors per location, k x A anchors of a level are candidates.
        scale_ranges (sequence): (low, high) of max(l, t, r, b) in pixels for each level, ends included.

    Raises:
        ValueError: another number of ranges than of levels.
    """
    gts.check_priors(pyramid.priors)
    check_one_per_level('scale_ranges', scale_ranges, pyramid)
    prior, level = nearest(pyramid, centers(gts.boxes), topk)
    device = prior.device
    low, high = from_host([scale_ranges[i] for i in level], device, exact_dtype(device)).unbind(-1)  # (M,) each
    distance = sides(gts.boxes[:, None], rows(pyramid.points, prior))
    farthest = distance.amax(-1)
    positive = (distance.amin(-1) > INSIDE_MARGIN) & (farthest >= low) & (farthest <= high)
    return to_smallest([(slice(len(prior)), prior, positive)], gts)


def center_region(
    pyramid: Pyramid,
    gts: GroundTruths,
    radius: float = 1.5,
    strides: Sequence[float] = (8, 16, 32, 64, 128),
    scale_ranges: Sequence[Tuple[float, float]] = SCALE_RANGES,
) -> Assignment:
    """Center sampling as it was merged into FCOS: SSC within a square around the centre, clipped to the box.

    Args:
        pyramid (Pyramid): the priors.
        gts (GroundTruths): the ground truths.
        radius (float): half the side of the square in strides; points lie strictly inside.
        strides (sequence): the stride of each level in pixels.
        scale_ranges (sequence): (low, high) of max(l, t, r, b) in pixels for each level, ends included.

    Raises:
        ValueError: another number of ranges or strides than of levels.
    """
    gts.check_priors(pyramid.priors)
    check_one_per_level('strides', strides, pyramid)
    box, middle = to_float64(gts.boxes), centers(gts.boxes)[:, None]
    device = box.device
    half = from_host(
        [[radius * strides[group.level]] for group in pyramid.groups], device, exact_dtype(device)
    )  # (S, 1)
    low, high = box[:, None, :2], box[:, None, 2:]
    area = torch.cat([torch.maximum(middle - half, low), torch.minimum(middle + half, high)], -1)  # (G, S, 4)
    return to_smallest(anchors_in(pyramid, Region(box, area, 0.0, *scales(pyramid, scale_ranges))), gts)
