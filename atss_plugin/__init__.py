"""ATSS (Zhang et al., CVPR 2020, arXiv:1912.02424) for mmdetection 3.x, exactly as in the paper.

Importing the package registers every class below in child registries of mmdet's, scope ``atss_plugin``, and lets
mmengine load its own checkpoints under a torch that is strict about what a checkpoint may hold.
"""

from .assigners import (
    ATSSAssigner,
    CenterSamplingAssigner,
    DDODAssigner,
    IoUAssigner,
    SpatialScaleAssigner,
    TopKIoUAssigner,
)
from .coders import AnchorPointCoder
from .datasets import CocoDataset, ShapesDataset
from .engine import checkpoint_loading
from .heads import FCOSHead, OneStageHead, RetinaNetHead
from .losses import FocalLoss
from .tta import SoftVotingTTA
from .version import __version__

checkpoint_loading.install()

__all__ = [
    'ATSSAssigner',
    'AnchorPointCoder',
    'CenterSamplingAssigner',
    'CocoDataset',
    'DDODAssigner',
    'FCOSHead',
    'FocalLoss',
    'IoUAssigner',
    'OneStageHead',
    'RetinaNetHead',
    'ShapesDataset',
    'SoftVotingTTA',
    'SpatialScaleAssigner',
    'TopKIoUAssigner',
    '__version__',
]
