"""Modulated deformable convolutions (DCNv2) as one operator of torch, which becomes one operator of ONNX.

Legend: B images, I input and O output channels, k x k kernel, D groups of offsets.
"""

from typing import List

import torch
from mmcv.ops import ModulatedDeformConv2dPack, modulated_deform_conv2d
from torch import Tensor, nn

from .operators import define


def _on_cpu(x, offset, mask, weight, bias, *settings) -> Tensor:
    return modulated_deform_conv2d(x, offset, mask, weight, bias, *settings)


def _shape(x, offset, mask, weight, bias, *settings) -> Tensor:
    return x.new_empty((x.size(0), weight.size(0), *offset.shape[2:]))


CONVOLVE = define(
    'deformable_convolution(Tensor x, Tensor offset, Tensor mask, Tensor weight, Tensor? bias, int[] stride, '
    'int[] padding, int[] dilation, int groups, int offset_groups) -> Tensor',
    _on_cpu,
    _shape,
)


class ExportableDeformableConvolution(nn.Module):
    """mmcv's ``ModulatedDeformConv2dPack`` (config type ``DCNv2``), with an operator that can be exported."""

    def __init__(self, conv: ModulatedDeformConv2dPack) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, O, H', W') of maps (B, I, H, W)."""
        conv = self.conv
        y_offset, x_offset, mask = conv.conv_offset(x).chunk(3, dim=1)  # mmcv's names; y and x alternate in each
        offset = torch.cat([y_offset, x_offset], dim=1)
        settings = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups, conv.deform_groups)
        return CONVOLVE(x, offset, mask.sigmoid(), conv.weight, conv.bias, *settings)


def make_exportable(module: nn.Module) -> None:
    """Replace the deformable convolutions of a model."""
    for name, child in module.named_children():
        if isinstance(child, ModulatedDeformConv2dPack):
            setattr(module, name, ExportableDeformableConvolution(child))
        else:
            make_exportable(child)


def _as_onnx(
    x,
    offset,
    mask,
    weight,
    bias,
    stride: List[int],
    padding: List[int],
    dilation: List[int],
    groups: int,
    offset_groups: int,
):
    from onnxscript import opset19 as op

    return op.DeformConv(
        x,
        weight,
        offset,
        bias,
        mask,
        strides=stride,
        pads=[*padding, *padding],
        dilations=dilation,
        group=groups,
        offset_group=offset_groups,
    )


TRANSLATION = {CONVOLVE.default: _as_onnx}
