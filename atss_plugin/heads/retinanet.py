"""RetinaNet's variant of the head."""

from ..registry import MODELS
from .checks import FIXED, drop_fixed
from .one_stage import OneStageHead

DELTA_CODER = dict(type='mmdet.DeltaXYWHBBoxCoder', target_means=(0.0, 0.0, 0.0, 0.0), target_stds=(0.1, 0.1, 0.2, 0.2))


@MODELS.register_module()
class RetinaNetHead(OneStageHead):
    """:class:`OneStageHead` that regresses from a box: the deltas (dx, dy, dw, dh) of the anchor.

    Arguments of mmdet's ``ATSSHead`` and ``RetinaHead`` that this head does not have are refused with what to write
    instead, unless they say what it does anyway.

    Raises:
        UsageError: one of mmdet's arguments cannot be followed.
    """

    def __init__(self, *args, bbox_coder: dict = DELTA_CODER, **kwargs) -> None:
        super().__init__(*args, bbox_coder=bbox_coder, **drop_fixed('RetinaNetHead', kwargs, FIXED))
