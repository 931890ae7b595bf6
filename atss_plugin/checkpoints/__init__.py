"""Using what the authors of ATSS trained: their published checkpoints as mmdet's."""

from .authors_model import AUTHORS_MODELS, AuthorsModel
from .conversion import CheckpointError, convert_tensors, identify, rename
from .files import convert_checkpoint, read_tensors

__all__ = [
    'AUTHORS_MODELS',
    'AuthorsModel',
    'CheckpointError',
    'convert_checkpoint',
    'convert_tensors',
    'identify',
    'read_tensors',
    'rename',
]
