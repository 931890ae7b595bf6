"""Deformable convolutions of the backbone start as the recipe says, and are otherwise mmcv's."""

import math

import torch
from mmcv.cnn import build_conv_layer
from mmengine.registry import init_default_scope

CFG = dict(in_channels=32, out_channels=48, kernel_size=3, padding=1, bias=False)


def layer(kind):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return build_conv_layer(dict(type=kind), **CFG)


def test_offsets_start_uniform_within_the_root_of_3_over_fan_in():
    conv = layer('atss_plugin.DCNv2')
    for _ in range(2):  # as made, and as initialized again
        weight = conv.conv_offset.weight
        bound = math.sqrt(3 / (32 * 9))
        assert 0.99 * bound < weight.max() <= bound and -bound <= weight.min() < -0.99 * bound
        assert abs(weight.std().item() - bound / math.sqrt(3)) < 0.02 * bound  # that of a uniform distribution
        assert not conv.conv_offset.bias.any()
        conv.init_weights()


def test_everything_else_is_mmcvs():
    ours, theirs = layer('atss_plugin.DCNv2'), layer('DCNv2')
    bound = 1 / math.sqrt(32 * 9)
    for conv in (ours, theirs):
        assert 0.99 * bound < conv.weight.abs().max() <= bound
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 32, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
