"""The one-stage head, and its two variants: RetinaNet's (box start) and FCOS's (point start)."""

from .fcos import FCOSHead
from .one_stage import OneStageHead
from .retinanet import RetinaNetHead

__all__ = ['FCOSHead', 'OneStageHead', 'RetinaNetHead']
