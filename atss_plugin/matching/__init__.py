"""What makes an anchor positive: the sample definitions as functions on tensors, with torch alone.

    pyramid = find_pyramid(anchors)                      # (N, 4), once for every size of image
    gts = collect(boxes, labels, anchors)                # lists of (G, 4) and (G,), one per image
    assignment = atss(pyramid, gts, topk=9)              # gt_inds, labels: (B, N)

Anchors are called priors here; B images, N priors, G ground truths of all images together.  ``max_iou`` and
``topk_iou`` take the priors (N, 4) in place of a pyramid.

``nearest`` and ``pyramid`` hold what makes it fast, ``assignment`` how several claims to one anchor are settled, and
each definition has a file of its own.
"""

from .assignment import Assignment, unassigned
from .atss import Candidates, atss, find_candidates
from .boxes import iof, iou
from .center_sampling import center_region, center_sampling
from .gaussian_wasserstein import gaussian_wasserstein
from .ground_truths import GroundTruths, collect
from .max_iou import max_iou
from .nearest import nearest
from .paa import paa
from .predictions import Predictions
from .pyramid import Pyramid, find_pyramid
from .pyramid_cache import PyramidCache
from .rfla import rfla
from .simota import simota
from .spatial_scale import SCALE_RANGES, spatial_scale
from .task_aligned import task_aligned
from .topk_iou import topk_iou

__all__ = [
    'Assignment',
    'Candidates',
    'GroundTruths',
    'Predictions',
    'Pyramid',
    'PyramidCache',
    'SCALE_RANGES',
    'atss',
    'center_region',
    'center_sampling',
    'collect',
    'find_candidates',
    'find_pyramid',
    'gaussian_wasserstein',
    'iof',
    'iou',
    'max_iou',
    'nearest',
    'paa',
    'rfla',
    'simota',
    'spatial_scale',
    'task_aligned',
    'topk_iou',
    'unassigned',
]
