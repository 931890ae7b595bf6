"""Laws that any sample definition obeys, whatever its numbers: nothing is compared with stored results."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.reference.definitions import MAKERS, define
from tests.reference.scenes import assert_same_assignment, instances, make_layout, random_boxes

LAYOUT = dict(size=(96, 128), strides=(8, 16, 32, 64))
A1 = dict(ratios=[1.0], octave_base_scale=8, scales_per_octave=1)
A3 = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=8, scales_per_octave=1)
QUICK = settings(max_examples=8, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)


def gt_inds_of(name, layout, boxes, priors=None):
    priors = layout.priors if priors is None else priors
    assigner = define(name, layout).assigner
    return assigner.assign_batch(priors, layout.num_level_priors, [instances(boxes, dtype=boxes.dtype)]).gt_inds[0]


@QUICK
@given(seed=seeds)
@pytest.mark.parametrize('name', MAKERS)
def test_permuted_ground_truths_permute_the_result(name, seed):
    layout, boxes = make_layout(**LAYOUT), random_boxes(11, (96, 128), seed)
    order = torch.randperm(11, generator=torch.manual_seed(seed))
    before, after = gt_inds_of(name, layout, boxes), gt_inds_of(name, layout, boxes[order])
    numbers = torch.cat([order + 1, torch.tensor([-1])])  # the last is for -1
    assert_close(torch.where(after > 0, numbers[after - 1], after), before, rtol=0, atol=0)


@QUICK
@given(seed=seeds, shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
@pytest.mark.parametrize('name', MAKERS)
def test_translation(name, seed, shift):
    """Moving priors and ground truths together changes nothing."""
    layout = make_layout(**LAYOUT, dtype=torch.float64)
    boxes = random_boxes(11, (96, 128), seed, grid=0.25, dtype=torch.float64)
    moved = torch.tensor([*shift, *shift], dtype=torch.float64) * 16
    assert_close(
        gt_inds_of(name, layout, boxes + moved, layout.priors + moved), gt_inds_of(name, layout, boxes), rtol=0, atol=0
    )


@QUICK
@given(seed=seeds)
@pytest.mark.parametrize('anchors', [A1, A3], ids=['a1', 'a3'])
@pytest.mark.parametrize('name', ['atss', 'ssc', 'center_sampling', 'radius_sampling'])
def test_moving_by_one_stride_moves_the_result_by_one_cell(name, anchors, seed):
    """On one level, far from the border."""
    layout = make_layout(size=(240, 240), strides=(8,), dtype=torch.float64, **anchors)
    boxes = random_boxes(5, (64, 64), seed, grid=0.25, dtype=torch.float64)
    boxes[:, :2].clamp_(min=0)
    boxes[:, 2:].clamp_(min=1, max=80)
    boxes = boxes + 72
    rows = 30 * layout.anchors[0]
    before = gt_inds_of(name, layout, boxes).view(30, rows)
    right = gt_inds_of(name, layout, boxes + torch.tensor([8.0, 0.0, 8.0, 0.0])).view(30, rows)
    down = gt_inds_of(name, layout, boxes + torch.tensor([0.0, 8.0, 0.0, 8.0])).view(30, rows)
    assert_close(right, before.roll(layout.anchors[0], 1), rtol=0, atol=0)
    assert_close(down, before.roll(1, 0), rtol=0, atol=0)


@QUICK
@given(seed=seeds, power=st.sampled_from([-1, 1, 2]))
@pytest.mark.parametrize('name', ['atss', 'atss_k3', 'iou', 'topk_iou'])
def test_scale(name, seed, power):
    """Doubling all coordinates changes nothing: no whole coordinate comes near the margin of 0.01 pixels."""
    layout, boxes = make_layout(**LAYOUT), random_boxes(9, (96, 128), seed, grid=1)
    scaled = gt_inds_of(name, layout, boxes * 2.0**power, layout.priors * 2.0**power)
    assert_close(scaled, gt_inds_of(name, layout, boxes), rtol=0, atol=0)


@QUICK
@given(seed=seeds)
@pytest.mark.parametrize('name', MAKERS)
def test_duplicates_change_nothing(name, seed):
    layout, boxes = make_layout(**LAYOUT), random_boxes(6, (96, 128), seed)
    once, twice = gt_inds_of(name, layout, boxes), gt_inds_of(name, layout, torch.cat([boxes, boxes.flip(0)]))
    assert_close(twice, once, rtol=0, atol=0)


@QUICK
@given(seed=seeds)
@pytest.mark.parametrize('name', MAKERS)
def test_same_again(name, seed):
    """One assigner asked twice, with another scene in between, and its inputs are left alone."""
    layout, boxes = make_layout(**LAYOUT), random_boxes(9, (96, 128), seed)
    assigner, priors, copy = define(name, layout).assigner, layout.priors.clone(), boxes.clone()

    def ask():
        return assigner.assign_batch(layout.priors, None, [instances(boxes)])

    first = ask()
    other = make_layout(size=(64, 64), strides=(8, 16, 32, 64))
    assigner.assign_batch(other.priors, None, [instances(random_boxes(3, (64, 64), seed))])
    assert_same_assignment(ask(), first)
    assert torch.equal(layout.priors, priors) and torch.equal(boxes, copy)


@QUICK
@given(seed=seeds)
@pytest.mark.parametrize('name', [name for name in MAKERS if name != 'topk_iou'])
def test_what_is_far_away_changes_nothing(name, seed):
    """A box beyond all anchors takes part in nothing (in TOPK the largest distance of the image counts)."""
    layout, boxes = make_layout(**LAYOUT), random_boxes(6, (96, 128), seed)
    more = torch.cat([boxes, torch.tensor([[5000.0, 5000.0, 5050.0, 5090.0]])])
    assert_close(gt_inds_of(name, layout, more), gt_inds_of(name, layout, boxes), rtol=0, atol=0)


@QUICK
@given(seed=seeds)
@pytest.mark.parametrize('name', ['atss', 'ssc', 'center_sampling', 'radius_sampling', 'topk_iou'])
def test_positives_lie_in_their_box(name, seed):
    layout, boxes = make_layout(**LAYOUT), random_boxes(12, (96, 128), seed)
    gt_inds = gt_inds_of(name, layout, boxes)
    points = torch.from_numpy(layout.points)[gt_inds > 0]
    own = boxes[gt_inds[gt_inds > 0] - 1].double()
    assert bool(((points > own[:, :2]) & (points < own[:, 2:])).all())


@QUICK
@given(seed=seeds)
@pytest.mark.parametrize('small, large', [('center_sampling', 'ssc'), ('radius_sampling', 'ssc')])
def test_center_sampling_takes_from_ssc(small, large, seed):
    """For a single ground truth the sampled positives are some of SSC's."""
    layout, boxes = make_layout(**LAYOUT), random_boxes(1, (96, 128), seed)
    assert bool(((gt_inds_of(small, layout, boxes) == 0) | (gt_inds_of(large, layout, boxes) == 1)).all())
