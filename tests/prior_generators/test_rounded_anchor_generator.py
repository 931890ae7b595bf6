"""Anchors of other ratios are rounded at the size of the stride; assigners work on them as on mmdet's.

Legend: N priors, G ground truths, A anchors per location.
"""

from math import ceil

import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator
from mmengine.structures import InstanceData

import atss_plugin
from tests.reference.definitions import MAKERS, define
from tests.reference.scenes import assert_equals_oracle, instances, make_layout, random_boxes, to_scene

STRIDES = [8, 16, 32, 64, 128]
# Width x height at the size of a stride, by hand: w = round(S / sqrt(ratio)), h = round(w * ratio); halves to even:
# 45 * 0.5 = 22.5 becomes 22, 91 * 0.5 = 45.5 becomes 46.
BY_HAND = {
    0.5: [(11, 6), (23, 12), (45, 22), (91, 46), (181, 90)],
    2.0: [(6, 12), (11, 22), (23, 46), (45, 90), (91, 182)],
}


def generator(ratios, kind=None, scales=(8,), **kwargs):
    cls = kind or atss_plugin.RoundedAnchorGenerator
    return cls(strides=STRIDES, ratios=list(ratios), scales=list(scales), center_offset=0.5, **kwargs)


def sizes(anchors):
    """Width and height of anchors (N, 4): (N, 2)."""
    return anchors[:, 2:] - anchors[:, :2]


@pytest.mark.parametrize('ratio', BY_HAND)
@pytest.mark.parametrize('scale', [8, 4 * 2 ** (1 / 3)])
def test_sizes_of_every_level_by_hand(ratio, scale):
    anchors = torch.cat(generator([ratio], scales=[scale]).base_anchors)
    torch.testing.assert_close(sizes(anchors), torch.tensor(BY_HAND[ratio], dtype=torch.float32) * scale)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    torch.testing.assert_close(centers, torch.tensor([[s / 2, s / 2] for s in STRIDES]))


def test_the_recipes_example():
    """8S on P3: 88 x 48 and 48 x 96, around (4, 4)."""
    first = generator([0.5, 2.0]).base_anchors[0]
    assert first.tolist() == [[-40.0, -20.0, 48.0, 28.0], [-20.0, -44.0, 28.0, 52.0]]


@pytest.mark.parametrize('ratio', [0.25, 1.0, 4.0])
def test_ratios_of_whole_roots_are_mmdets(ratio):
    for ours, theirs in zip(generator([ratio]).base_anchors, generator([ratio], AnchorGenerator).base_anchors):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('scale_major', [True, False])
def test_order_is_mmdets(scale_major):
    """Ratio by ratio or scale by scale: every side is within 7 % of mmdet's, whose anchors differ by 41 % or more."""
    kwargs = dict(ratios=[0.5, 1.0, 2.0], scales=[4, 8, 16], scale_major=scale_major)
    for ours, theirs in zip(generator(**kwargs).base_anchors, generator(kind=AnchorGenerator, **kwargs).base_anchors):
        torch.testing.assert_close(sizes(ours), sizes(theirs), rtol=0.07, atol=0)


def test_centers_are_the_callers():
    kwargs = dict(strides=STRIDES, ratios=[0.5], scales=[8], centers=[(1.0, 2.0)] * 5)
    for anchors in atss_plugin.RoundedAnchorGenerator(**kwargs).base_anchors:
        assert ((anchors[:, :2] + anchors[:, 2:]) / 2).tolist() == [[1.0, 2.0]]


def test_a_ratio_without_an_anchor_says_so():
    with pytest.raises(ValueError, match='ratios .*leaves no anchor'):
        generator([1.0, 1e6])


LAYOUTS = {
    'ratio_1_2': dict(size=(128, 160), ratios=[0.5], octave_base_scale=8, scales_per_octave=1),
    'ratio_2_1': dict(size=(96, 128), strides=(8, 16, 32), ratios=[2.0], octave_base_scale=8, scales_per_octave=1),
    'sc1_ar3': dict(
        size=(96, 128), strides=(8, 16, 32), ratios=[0.5, 1.0, 2.0], octave_base_scale=8, scales_per_octave=1
    ),
    'sc3_ar3': dict(
        size=(64, 96), strides=(8, 16, 32), ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3
    ),
}


def rounded_layout(size, strides=(8, 16, 32, 64, 128), **anchors):
    """Levels and anchor points from mmdet's generator, the priors from ours."""
    layout = make_layout(size=size, strides=strides, **anchors)
    maker = atss_plugin.RoundedAnchorGenerator(strides=list(strides), center_offset=0.5, **anchors)
    maps = [(ceil(size[0] / s), ceil(size[1] / s)) for s in strides]
    priors = torch.cat(maker.grid_priors(maps, device='cpu'))
    assert priors.shape == layout.priors.shape and not torch.equal(priors, layout.priors)
    return layout._replace(priors=priors)


@pytest.mark.parametrize('levels', [pytest.param(True, id='levels-given'), pytest.param(False, id='levels-found')])
@pytest.mark.parametrize('layout_name', LAYOUTS)
@pytest.mark.parametrize('name', MAKERS)
def test_assigners_give_what_the_definitions_say(name, layout_name, levels):
    """Through ``assign``, as mmdet's heads call it: with the priors of each level, or without."""
    layout = rounded_layout(**LAYOUTS[layout_name])
    definition = define(name, layout)
    levels = [layout.num_level_priors] if levels else []
    positives = 0
    for seed, num in enumerate((1, 7, 12)):
        boxes = random_boxes(num, LAYOUTS[layout_name]['size'], seed)
        result = definition.assigner.assign(InstanceData(priors=layout.priors), *levels, instances(boxes))
        assert_equals_oracle(result.gt_inds, definition.loops(to_scene(layout, boxes)))
        positives += int((result.gt_inds > 0).sum())
    assert positives > 0
