"""Sample definitions as assigners of mmdet: thin classes over :mod:`atss_plugin.matching`."""

from .atss import ATSSAssigner, Candidates, DDODAssigner
from .base import Assigner, BatchAssignment
from .center_sampling import CenterSamplingAssigner
from .iou import IoUAssigner
from .spatial_scale import SpatialScaleAssigner
from .topk_iou import TopKIoUAssigner

__all__ = [
    'ATSSAssigner',
    'Assigner',
    'BatchAssignment',
    'Candidates',
    'CenterSamplingAssigner',
    'DDODAssigner',
    'IoUAssigner',
    'SpatialScaleAssigner',
    'TopKIoUAssigner',
]
