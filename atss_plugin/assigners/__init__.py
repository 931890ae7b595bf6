"""Sample definitions as assigners of mmdet: thin classes over :mod:`atss_plugin.matching`."""

from .atss import ATSSAssigner, DDODAssigner
from .base import Assigner, BatchAssignment
from .center_sampling import CenterSamplingAssigner
from .gaussian_wasserstein import GaussianWasserstein
from .iou import IoUAssigner
from .paa import PAAAssigner
from .rfla import RFLAAssigner
from .simota import SimOTAAssigner
from .spatial_scale import SpatialScaleAssigner
from .task_aligned import TaskAlignedAssigner
from .topk_iou import TopKIoUAssigner

__all__ = [
    'ATSSAssigner',
    'Assigner',
    'BatchAssignment',
    'CenterSamplingAssigner',
    'DDODAssigner',
    'GaussianWasserstein',
    'IoUAssigner',
    'PAAAssigner',
    'RFLAAssigner',
    'SimOTAAssigner',
    'SpatialScaleAssigner',
    'TaskAlignedAssigner',
    'TopKIoUAssigner',
]
