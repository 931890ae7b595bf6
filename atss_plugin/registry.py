"""Child registries of mmdet's, scope ``atss_plugin``.

Write ``type='atss_plugin.ATSSAssigner'`` in a config, always with the scope: the unscoped name means mmdet's class of
the same name.  mmengine imports this module when it first meets the scope, and the subpackages named as ``locations``
when it first looks something up here, so no ``custom_imports`` is needed for that.

Importing it also lets mmengine load its own checkpoints under a torch that is strict about what a checkpoint may hold.
"""

from mmdet import registry as mmdet_registry
from mmengine.registry import Registry

from . import checkpoint_loading

SCOPE = 'atss_plugin'


def _child(parent, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{where}' for where in locations])


DATASETS = _child(mmdet_registry.DATASETS, 'datasets')
HOOKS = _child(mmdet_registry.HOOKS, 'engine')
MODELS = _child(mmdet_registry.MODELS, 'heads', 'layers', 'losses', 'tta')
TASK_UTILS = _child(mmdet_registry.TASK_UTILS, 'assigners', 'coders', 'prior_generators')
checkpoint_loading.install()
