"""What a head's arguments must agree on, and what mmdet's heads call by other names: errors that say what to write.

Legend: P boxes.
"""

from importlib import import_module
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from mmdet.utils import ConfigType, OptConfigType
from torch import nn
from torch.nn.modules.utils import _pair

from ..errors import UsageError


def _losses_of(module: str) -> Tuple[type, ...]:
    """Return the loss classes of a module of mmdet's losses, some of which are named as a function of theirs."""
    names = vars(import_module(f'mmdet.models.losses.{module}'))
    return tuple(kind for kind in names.values() if isinstance(kind, type) and issubclass(kind, nn.Module))


# Every loss of boxes that this version of mmdet has, and every loss of their encoded numbers
LOSSES_OF_BOXES = _losses_of('iou_loss')
LOSSES_OF_NUMBERS = _losses_of('smooth_l1_loss')
# What mmdet's heads can vary and this head does not: the value that it has, and what to write for another
FIXED = {
    'pred_kernel_size': (3, 'the predictors are 3 x 3 convolutions; leave it out'),
    'conv_cfg': (None, 'the towers are plain convolutions, dcn_on_last_conv=True makes their last one deformable'),
    'cls_predictor_cfg': (None, 'the classification is a plain convolution; leave it out'),
}
POINT_FIXED = {
    **FIXED,
    'centerness_on_reg': (True, 'centerness stands on the regression tower, as in the paper; write True'),
    'norm_on_bbox': (
        True,
        'atss_plugin.AnchorPointCoder regresses distances divided by the stride, with ReLU; write True',
    ),
}


def drop_fixed(head: str, arguments: dict, fixed: Dict[str, Tuple[Any, str]]) -> dict:
    """Return the arguments without those of mmdet's heads that say what this head does anyway.

    Raises:
        UsageError: one of them asks for something else.
    """
    for key, (value, hint) in fixed.items():
        if arguments.get(key, value) != value:
            raise UsageError(f'{head} cannot follow {key}={arguments[key]!r}: {hint}')
    return {key: value for key, value in arguments.items() if key not in fixed}


def check_levels(feats: Sequence, strides: Sequence) -> None:
    """Raise a UsageError unless there is a feature map for each stride."""
    if len(feats) != len(strides):
        raise UsageError(
            f'the neck gives {len(feats)} feature maps, but anchor_generator.strides has {len(strides)} entries: '
            f'write num_outs={len(strides)} in the neck, or as many strides as it has outputs'
        )


def with_strides(anchor_generator: ConfigType, strides: Optional[Sequence]) -> dict:
    """Return the anchor generator with the strides that mmdet's FCOSHead is given separately, if it is.

    Raises:
        UsageError: the anchor generator has others.
    """
    if strides is None:
        return anchor_generator
    own = anchor_generator.get('strides', strides)
    if list(map(_pair, own)) != list(map(_pair, strides)):
        raise UsageError(f'anchor_generator has the strides {list(own)}, the head {list(strides)}: write them once')
    return {**anchor_generator, 'strides': list(strides)}


def with_fcos_assigner(
    train_cfg: OptConfigType,
    anchor_generator: ConfigType,
    regress_ranges: Optional[Sequence[Tuple[float, float]]],
    radius: Optional[float],
) -> dict:
    """Return ``train_cfg`` with FCOS's assigner if it has none.

    Args:
        train_cfg: the head's.
        anchor_generator: its strides are those of the levels.
        regress_ranges: mmdet's argument of that name.
        radius: that of center sampling in strides, None without it.

    Raises:
        UsageError: there is an assigner, which would not follow ``regress_ranges`` or center sampling.
    """
    train_cfg = dict(train_cfg or {})
    if train_cfg.get('assigner') is None:
        assigner: Dict[str, Any] = dict(type='atss_plugin.SpatialScaleAssigner')
        if radius is not None:
            strides = [max(_pair(stride)) for stride in anchor_generator['strides']]
            assigner = dict(type='atss_plugin.CenterSamplingAssigner', radius=radius, strides=strides)
        if regress_ranges is not None:
            assigner['scale_ranges'] = regress_ranges
        return dict(train_cfg, assigner=assigner)
    name = train_cfg['assigner']['type']
    if regress_ranges is not None:
        raise UsageError(
            f'train_cfg.assigner is {name}, which does not read regress_ranges: write regress_ranges=None in the head, '
            "and scale_ranges=... in the assigner if it is one of FCOS's (atss_plugin.SpatialScaleAssigner, "
            'atss_plugin.CenterSamplingAssigner)'
        )
    if radius is not None:
        raise UsageError(
            f'train_cfg.assigner is {name}, which does not read center_sampling: write center_sampling=False in the '
            f"head, and for center sampling assigner=dict(_delete_=True, type='atss_plugin.CenterSamplingAssigner', "
            f'radius={radius})'
        )
    return train_cfg


def check_box_loss(loss: nn.Module, decoded: bool) -> None:
    """See that ``loss_bbox`` compares what ``reg_decoded_bbox`` gives it.

    mmdet's losses are known by their classes. Any other is tried on two pairs of boxes: a loss of boxes gives (P,), one
    of encoded numbers (P, 4); one that cannot be tried here (on the CPU) is taken as it is.

    Raises:
        UsageError: it is a loss of boxes, but is given encoded numbers, or the other way round.
    """
    name = type(loss).__name__
    to_numbers = f"{name} compares the coder's numbers: write reg_decoded_bbox=False with it, or loss_bbox=dict("
    to_numbers += "_delete_=True, type='mmdet.GIoULoss', loss_weight=2.0)"
    to_boxes = f'{name} compares boxes: write reg_decoded_bbox=True with it, or loss_bbox=dict(_delete_=True, '
    to_boxes += "type='mmdet.SmoothL1Loss', beta=0.11, loss_weight=0.25)"
    if isinstance(loss, LOSSES_OF_NUMBERS) and decoded:
        raise UsageError(f'reg_decoded_bbox=True gives loss_bbox decoded boxes, but {to_numbers}')
    if isinstance(loss, LOSSES_OF_BOXES) and not decoded:
        raise UsageError(f'reg_decoded_bbox=False gives loss_bbox encoded numbers, but {to_boxes}')
    shape = _shape_of_loss(loss)
    if shape is None or shape == ((2,) if decoded else (2, 4)):
        return
    if shape not in ((2,), (2, 4)) or isinstance(loss, LOSSES_OF_BOXES):
        raise UsageError(
            f'loss_bbox must give one number for each of P boxes, (P,), or for each encoded number, (P, 4), with '
            f"reduction_override='none'; {name} gives {shape} for P = 2. Use another, such as mmdet.GIoULoss"
        )
    raise UsageError(f'reg_decoded_bbox={decoded} does not fit loss_bbox: {to_numbers if decoded else to_boxes}')


def _shape_of_loss(loss: nn.Module) -> Optional[tuple]:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [4.0, 2.0, 9.0, 10.0]])
    try:
        with torch.no_grad():
            return tuple(loss(boxes, boxes + 1, reduction_override='none').shape)
    except Exception:  # it wants another device or more than boxes; training will tell
        return None


def check_point_start(coder: Any) -> None:
    """See that FCOS's head got a coder that starts from a point; mmdet's, inherited from another head, do not.

    Raises:
        UsageError: the coder is one of mmdet's.
    """
    if type(coder).__module__.split('.')[0] == 'mmdet':
        raise UsageError(
            f'FCOSHead regresses from the point of an anchor, but its bbox_coder is {type(coder).__name__}, perhaps '
            "inherited. Write bbox_coder=dict(_delete_=True, type='atss_plugin.AnchorPointCoder'), or "
            "type='atss_plugin.RetinaNetHead' to regress from a box"
        )


def check_train_cfg(train_cfg: OptConfigType) -> None:
    """See that ``train_cfg`` asks for nothing that this head does not do.

    Raises:
        UsageError: a border that anchors must keep, a weight of the positives, or a sampler that drops anchors.
    """
    train_cfg = train_cfg or {}
    sampler = (train_cfg.get('sampler') or {}).get('type', 'PseudoSampler')
    if train_cfg.get('allowed_border', -1) >= 0:
        raise UsageError('train_cfg.allowed_border: this head trains on all anchors, as the paper does; write -1')
    if train_cfg.get('pos_weight', -1) > 0:
        raise UsageError('train_cfg.pos_weight: this head has none; write -1, and alpha=... in loss_cls')
    if str(getattr(sampler, '__name__', sampler)).split('.')[-1] != 'PseudoSampler':
        raise UsageError(f'train_cfg.sampler: this head trains on all anchors; write sampler=None instead of {sampler}')


def check_assigner(head: nn.Module) -> None:
    """See that a head that is to be trained has an assigner.

    Raises:
        UsageError: it has none.
    """
    if head.assigner is None:
        raise UsageError(
            f'{type(head).__name__} cannot be trained without an assigner, which says what anchors are positive: write '
            "train_cfg=dict(assigner=dict(type='atss_plugin.ATSSAssigner', topk=9)) in the model of your config"
        )
