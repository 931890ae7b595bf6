"""Sample definitions: one file, one paper noun, one class."""

from .atss import ATSSAssigner, Candidates
from .base import BatchAssignment
from .center_sampling import CenterSamplingAssigner
from .iou import IoUAssigner
from .spatial_scale import SpatialScaleAssigner
from .topk_iou import TopKIoUAssigner

__all__ = [
    'ATSSAssigner',
    'BatchAssignment',
    'Candidates',
    'CenterSamplingAssigner',
    'IoUAssigner',
    'SpatialScaleAssigner',
    'TopKIoUAssigner',
]
