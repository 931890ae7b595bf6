"""FCOS's variant of the head."""

from ..registry import MODELS
from .one_stage import OneStageHead

POINT_CODER = dict(type='atss_plugin.AnchorPointCoder', anchor_scale=8)


@MODELS.register_module()
class FCOSHead(OneStageHead):
    """:class:`OneStageHead` that regresses from a point: the distances from the anchor's centre to the box's
    sides."""

    def __init__(self, *args, bbox_coder: dict = POINT_CODER, **kwargs) -> None:
        super().__init__(*args, bbox_coder=bbox_coder, **kwargs)
