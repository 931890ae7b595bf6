"""FCOS's variant of the head."""

from typing import Optional, Sequence, Tuple

from mmdet.utils import ConfigType, OptConfigType

from ..registry import MODELS
from .checks import POINT_FIXED, check_point_start, drop_fixed, with_fcos_assigner, with_strides
from .one_stage import ONE_SQUARE_ANCHOR, OneStageHead

POINT_CODER = dict(type='atss_plugin.AnchorPointCoder', anchor_scale=8)


@MODELS.register_module()
class FCOSHead(OneStageHead):
    """:class:`OneStageHead` that regresses from a point: the distances from the anchor's centre to the box's
    sides.

    Arguments of mmdet's ``FCOSHead`` are followed, or refused with what to write instead.

    Args:
        strides (sequence[int], optional): of the anchor generator.
        regress_ranges (sequence, optional): the scale ranges of the levels, where ``train_cfg`` has no assigner.
        center_sampling (bool): where ``train_cfg`` has no assigner, take ``CenterSamplingAssigner`` with a radius
            instead of ``SpatialScaleAssigner``.
        center_sample_radius (float): that radius, in strides.
        args, kwargs: as for ``OneStageHead``. Unlike mmdet's, distances are always divided by the stride
            (``norm_on_bbox=True``) and centerness always stands on the regression tower (``centerness_on_reg=True``).

    Raises:
        UsageError: one of mmdet's arguments cannot be followed, or the coder does not start from a point.
    """

    def __init__(
        self,
        *args,
        bbox_coder: ConfigType = POINT_CODER,
        anchor_generator: OptConfigType = None,
        strides: Optional[Sequence[int]] = None,
        regress_ranges: Optional[Sequence[Tuple[float, float]]] = None,
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
        train_cfg: OptConfigType = None,
        **kwargs,
    ) -> None:
        if anchor_generator is None:
            anchor_generator = {**ONE_SQUARE_ANCHOR, 'strides': strides or ONE_SQUARE_ANCHOR['strides']}
        anchor_generator = with_strides(anchor_generator, strides)
        radius = center_sample_radius if center_sampling else None
        super().__init__(
            *args,
            bbox_coder=bbox_coder,
            anchor_generator=anchor_generator,
            train_cfg=with_fcos_assigner(train_cfg, anchor_generator, regress_ranges, radius),
            **drop_fixed('FCOSHead', kwargs, POINT_FIXED),
        )
        check_point_start(self.bbox_coder)
