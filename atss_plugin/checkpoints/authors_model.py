"""The eight networks whose weights the authors of ATSS published: what tensors each of them holds.

Names are those of the authors' checkpoints, which hold nothing but a dictionary of tensors; so the
network a file belongs to has to be told from the names and shapes alone.
"""

from dataclasses import dataclass
from typing import Any, Dict, Tuple

Shapes = Dict[str, Tuple[int, ...]]

NUM_CLASSES = 80  # COCO
CHANNELS = 256  # of the pyramid and the towers
TOWER_CONVS = 4
# Three coordinates of every cell of the 3x3 kernel: two offsets and the modulation.
DCN_CHANNELS = 3 * 9


def _conv(name: str, out_channels: int, in_channels: int, kernel: int, bias: bool) -> Shapes:
    shapes: Shapes = {f'{name}.weight': (out_channels, in_channels, kernel, kernel)}
    if bias:
        shapes[f'{name}.bias'] = (out_channels,)
    return shapes


def _deformable_conv(name: str, out_channels: int, in_channels: int, groups: int, bias: bool) -> Shapes:
    """Return a deformable conv: the conv of its offsets and modulation sees all channels, whatever the groups."""
    return {
        **_conv(f'{name}.offset', DCN_CHANNELS, in_channels, 3, bias=True),
        **_conv(f'{name}.conv', out_channels, in_channels // groups, 3, bias=bias),
    }


def _norm(name: str, channels: int, *parameters: str) -> Shapes:
    return {f'{name}.{parameter}': (channels,) for parameter in ('weight', 'bias', *parameters)}


def _frozen_batch_norm(name: str, channels: int) -> Shapes:
    return _norm(name, channels, 'running_mean', 'running_var')


@dataclass(frozen=True)
class AuthorsModel:
    """One published network.

    Args:
        name: The authors' name of it, which is also the name of our config in ``configs/official``.
        blocks: Number of bottlenecks of the four stages (the authors' ``layer1`` to ``layer4``).
        groups: Groups of the 3x3 convs; 1 is a ResNet.
        width_per_group: Channels of one group in the first stage.
        dcn_stages: Numbers of the stages whose 3x3 convs are deformable (DCNv2); where there are any,
            the last conv of both towers is deformable as well (Table 8).
    """

    name: str
    blocks: Tuple[int, ...]
    groups: int = 1
    width_per_group: int = 64
    dcn_stages: Tuple[int, ...] = ()

    def shapes(self) -> Shapes:
        """Return the shape of every tensor with weights, by the authors' name."""
        return {**self._backbone(), **self._pyramid(), **self._head()}

    def _backbone(self) -> Shapes:
        shapes = _conv('backbone.body.stem.conv1', 64, 3, 7, bias=False)
        shapes.update(_frozen_batch_norm('backbone.body.stem.bn1', 64))
        in_channels = 64
        for stage, blocks in enumerate(self.blocks, start=1):
            for block in range(blocks):
                shapes.update(self._bottleneck(stage, block, in_channels))
                in_channels = 256 * 2 ** (stage - 1)
        return shapes

    def _bottleneck(self, stage: int, block: int, in_channels: int) -> Shapes:
        name = f'backbone.body.layer{stage}.{block}'
        width = self.groups * self.width_per_group * 2 ** (stage - 1)
        out_channels = 256 * 2 ** (stage - 1)
        shapes = {}
        if block == 0:
            shapes.update(_conv(f'{name}.downsample.0', out_channels, in_channels, 1, bias=False))
            shapes.update(_frozen_batch_norm(f'{name}.downsample.1', out_channels))
        shapes.update(_conv(f'{name}.conv1', width, in_channels, 1, bias=False))
        if stage in self.dcn_stages:
            shapes.update(_deformable_conv(f'{name}.conv2', width, width, self.groups, bias=False))
        else:
            shapes.update(_conv(f'{name}.conv2', width, width // self.groups, 3, bias=False))
        shapes.update(_conv(f'{name}.conv3', out_channels, width, 1, bias=False))
        for norm, channels in (('bn1', width), ('bn2', width), ('bn3', out_channels)):
            shapes.update(_frozen_batch_norm(f'{name}.{norm}', channels))
        return shapes

    def _pyramid(self) -> Shapes:
        shapes = {}
        for stage in (2, 3, 4):
            in_channels = 256 * 2 ** (stage - 1)
            shapes.update(_conv(f'backbone.fpn.fpn_inner{stage}', CHANNELS, in_channels, 1, bias=True))
            shapes.update(_conv(f'backbone.fpn.fpn_layer{stage}', CHANNELS, CHANNELS, 3, bias=True))
        for level in ('p6', 'p7'):
            shapes.update(_conv(f'backbone.fpn.top_blocks.{level}', CHANNELS, CHANNELS, 3, bias=True))
        return shapes

    def _head(self) -> Shapes:
        shapes = {}
        for tower in ('cls_tower', 'bbox_tower'):
            for i in range(TOWER_CONVS):
                # A tower is a flat sequence of conv, group norm and ReLU.
                conv, norm = f'rpn.head.{tower}.{3 * i}', f'rpn.head.{tower}.{3 * i + 1}'
                if self.dcn_stages and i == TOWER_CONVS - 1:
                    shapes.update(_deformable_conv(conv, CHANNELS, CHANNELS, groups=1, bias=True))
                else:
                    shapes.update(_conv(conv, CHANNELS, CHANNELS, 3, bias=True))
                shapes.update(_norm(norm, CHANNELS))
        for output, channels in (('cls_logits', NUM_CLASSES), ('bbox_pred', 4), ('centerness', 1)):
            shapes.update(_conv(f'rpn.head.{output}', channels, CHANNELS, 3, bias=True))
        shapes.update({f'rpn.head.scales.{level}.scale': (1,) for level in range(5)})
        return shapes


_R50, _R101 = (3, 4, 6, 3), (3, 4, 23, 3)
_X32X8D: Any = dict(groups=32, width_per_group=8)
_X64X4D: Any = dict(groups=64, width_per_group=4)

AUTHORS_MODELS = (
    AuthorsModel('atss_R_50_FPN_1x', _R50),
    AuthorsModel('atss_dcnv2_R_50_FPN_1x', _R50, dcn_stages=(2, 3, 4)),
    AuthorsModel('atss_R_101_FPN_2x', _R101),
    AuthorsModel('atss_dcnv2_R_101_FPN_2x', _R101, dcn_stages=(2, 3, 4)),
    AuthorsModel('atss_X_101_32x8d_FPN_2x', _R101, **_X32X8D),
    AuthorsModel('atss_dcnv2_X_101_32x8d_FPN_2x', _R101, **_X32X8D, dcn_stages=(3, 4)),
    AuthorsModel('atss_X_101_64x4d_FPN_2x', _R101, **_X64X4D),
    AuthorsModel('atss_dcnv2_X_101_64x4d_FPN_2x', _R101, **_X64X4D, dcn_stages=(3, 4)),
)
