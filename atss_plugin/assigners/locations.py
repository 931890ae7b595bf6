"""Locations: the anchor points of a level, and the A anchors that share each.

Legend: N priors, n locations of one group, A anchors a location.
"""

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .levels import prior_shapes


class Locations(NamedTuple):
    """A group of locations that have equally many anchors: a level, or of a level cut anchor by anchor, one shape.

    Attributes:
        level (int): its pyramid level.
        points (Tensor): (n, 2) anchor points in pixels, in the order of their priors.
        priors (Tensor): (n, A) the indices of the priors at each.
    """

    level: int
    points: Tensor
    priors: Tensor


def group_locations(
    priors: Tensor, points: Tensor, num_level_priors: List[int], anchors: Optional[int] = None
) -> Tuple[List[Locations], int]:
    """Group the priors of every level by the point that they share.

    Args:
        priors (Tensor): (N, 4).
        points (Tensor): (N, 2) their anchor points.
        num_level_priors (list[int]): the priors of each level.
        anchors (int, optional): A. If locations are not found to have that many, every prior counts as a location of
            its own, and A times as many of them are to be taken.

    Returns:
        tuple: the groups, empty levels left out, and how many locations of a group stand for one (1, or else A).
    """
    groups: List[Locations] = []
    start = 0
    for level, num in enumerate(num_level_priors):
        if num:
            groups += _group_level(level, priors, points, slice(start, start + num))
        start += num
    if anchors is None or all(group.priors.size(1) == anchors for group in groups):
        return groups, 1
    split = torch.arange(len(priors), device=priors.device).split(num_level_priors)
    return [Locations(i, points[s], s[:, None]) for i, s in enumerate(split) if len(s)], anchors


def _group_level(level: int, priors: Tensor, points: Tensor, span: slice) -> List[Locations]:
    """Return the groups of the priors in ``span``.

    Where all points have equally many priors, A, that is one group.  Where mmdet's ``allowed_border`` has cut anchors
    off one by one, points near the border have fewer; then every shape of anchor is a group of its own, so that the k
    nearest of each are still k x A.  Priors that are neither (proposals) each count as a location.
    """
    points = points[span]
    index = torch.arange(span.start, span.stop, device=points.device)
    _, point, count = torch.unique(points, dim=0, return_inverse=True, return_counts=True)
    anchors = int(count.max())
    if bool((count == anchors).all()):
        members = torch.argsort(point, stable=True).view(-1, anchors)
        members = members[torch.argsort(members[:, 0])]
        return [Locations(level, points[members[:, 0]], index[members])]
    shapes = prior_shapes(priors[span])
    kinds = shapes.unique()
    if len(kinds) != anchors:
        return [Locations(level, points, index[:, None])]
    kinds = [(shapes == kind).nonzero().squeeze(1) for kind in kinds]
    return [Locations(level, points[kind], index[kind][:, None]) for kind in kinds]
