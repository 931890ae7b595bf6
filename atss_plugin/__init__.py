"""ATSS (Zhang et al., CVPR 2020, arXiv:1912.02424) for mmdetection 3.x, exactly as in the paper.

Importing the package registers every class below in child registries of mmdet's, scope ``atss_plugin``, and lets
mmengine load its own checkpoints under a torch that is strict about what a checkpoint may hold.
"""

from .assigners import ATSSAssigner, CenterSamplingAssigner, IoUAssigner, SpatialScaleAssigner, TopKIoUAssigner
from .coders import AnchorPointCoder
from .datasets import CocoDataset, ShapesDataset
from .engine import checkpoint_loading
from .heads import FCOSHead, OneStageHead, RetinaNetHead
from .layers import DCNv2
from .losses import FocalLoss
from .prior_generators import RoundedAnchorGenerator
from .tta import SoftVotingTTA
from .version import __version__

checkpoint_loading.install()

__all__ = [
    'ATSSAssigner',
    'AnchorPointCoder',
    'CenterSamplingAssigner',
    'CocoDataset',
    'DCNv2',
    'FCOSHead',
    'FocalLoss',
    'IoUAssigner',
    'OneStageHead',
    'RetinaNetHead',
    'RoundedAnchorGenerator',
    'ShapesDataset',
    'SoftVotingTTA',
    'SpatialScaleAssigner',
    'TopKIoUAssigner',
    '__version__',
]
