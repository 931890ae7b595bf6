"""ATSS (Zhang et al., CVPR 2020, arXiv:1912.02424) for mmdetection 3.x, exactly as in the paper.

A plain import changes nothing in the process and needs torch alone: :mod:`atss_plugin.matching` is there at once, the
classes below when they are first asked for.  A config's ``type='atss_plugin.ATSSAssigner'`` imports
:mod:`atss_plugin.registry`, which registers them in child registries of mmdet's.
"""

from importlib import import_module
from typing import Any, List

from .version import __version__

# where the public classes are
_SUBPACKAGES = {
    'assigners': (
        'ATSSAssigner',
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
    ),
    'coders': ('AnchorPointCoder',),
    'datasets': ('CocoDataset', 'ShapesDataset'),
    'engine': ('AssignmentStatsHook',),
    'heads': ('FCOSHead', 'OneStageHead', 'RetinaNetHead'),
    'layers': ('DCNv2',),
    'losses': ('FocalLoss',),
    'prior_generators': ('RoundedAnchorGenerator',),
    'tta': ('SoftVotingTTA',),
}
_SUBPACKAGE_OF = {name: subpackage for subpackage, names in _SUBPACKAGES.items() for name in names}

__all__ = ['__version__', *sorted(_SUBPACKAGE_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _SUBPACKAGE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_SUBPACKAGE_OF[name]}', __name__), name)


def __dir__() -> List[str]:
    return sorted([*globals(), *_SUBPACKAGE_OF])
