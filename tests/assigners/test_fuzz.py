"""Bad and extreme data, fuzzed: every assigner against the loops of ``oracle.py``."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from atss_plugin.assigners import ATSSAssigner
from tests.reference import oracle
from tests.reference.definitions import MAKERS, define
from tests.reference.scenes import assert_equals_oracle, instances, make_layout, random_boxes, to_scene

A1 = dict(ratios=[1.0], octave_base_scale=8, scales_per_octave=1)
A1_SMALL = dict(ratios=[1.0], octave_base_scale=1, scales_per_octave=1)
A2 = dict(ratios=[0.25, 4.0], octave_base_scale=4, scales_per_octave=1)
A3 = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=8, scales_per_octave=1)
A9 = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3)
FUZZ = settings(max_examples=25, deadline=None, derandomize=True)


@st.composite
def pyramids(draw):
    """Images of 1 to 96 pixels per side: levels of many cells, of one, one level only, one candidate only."""
    return make_layout(
        size=draw(st.tuples(st.integers(1, 96), st.integers(1, 96))),
        strides=draw(st.sampled_from([(8, 16, 32), (8, 16, 32, 64, 128), (16,), (64,), (10, 20)])),
        center_offset=draw(st.sampled_from([0.5, 0.5, 0.0])),
        dtype=draw(st.sampled_from([torch.float32, torch.float64])),
        **draw(st.sampled_from([A1, A1, A1_SMALL, A2, A3, A9])),
    )


@st.composite
def ground_truths(draw, most=8):
    """Boxes at whole pixels, for ties: tiny, flat, inside out, over the border, far away, twice the same."""
    ordinary = st.tuples(st.integers(-20, 100), st.integers(-20, 100), st.integers(1, 130), st.integers(1, 130))
    tiny = st.tuples(st.integers(0, 96), st.integers(0, 96), st.integers(1, 2), st.integers(1, 2))
    long = st.tuples(st.integers(-500, 96), st.integers(0, 96), st.integers(300, 900), st.integers(1, 4))
    empty = st.tuples(
        st.integers(0, 96), st.integers(0, 96), st.sampled_from([0, 0, -1, -30, 20]), st.sampled_from([0, -1, -30])
    )
    huge = st.tuples(st.integers(-900, 0), st.integers(-900, 0), st.integers(500, 2000), st.integers(500, 2000))
    outside = st.tuples(st.integers(300, 900), st.integers(-900, 900), st.integers(1, 60), st.integers(1, 60))
    rows = draw(st.lists(st.one_of(ordinary, ordinary, tiny, long, empty, huge, outside), max_size=most))
    if rows and draw(st.booleans()):
        rows += draw(st.lists(st.sampled_from(rows), min_size=1, max_size=3))
    rows = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    return torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:]], 1)


# any float32, but for those so near to 0 that an area or an IoU is rounded to 0
COORDINATE = st.floats(-1e3, 1e3, width=32).map(lambda x: x if abs(x) > 1e-6 else 0.0)


@FUZZ
@given(st.data())
@pytest.mark.parametrize('name', MAKERS)
def test_equals_oracle(name, data):
    layout = data.draw(pyramids())
    boxes = data.draw(ground_truths()).to(layout.priors.dtype)
    ignored = data.draw(
        st.sampled_from([None, [[0.0, 0.0, 30.0, 40.0]], [[20.0, 0.0, 20.0, 50.0], [10.0, 10.0, 200.0, 300.0]]])
    )
    definition = define(name, layout, iof_thr=0.5)
    levels = layout.num_level_priors
    batch = definition.assigner.assign_batch(
        layout.priors,
        levels,
        [instances(boxes, dtype=layout.priors.dtype)],
        None if ignored is None else [instances(ignored)],
    )
    answer = definition.loops(to_scene(layout, boxes, ignored or ()))
    assert_equals_oracle(batch.gt_inds[0], answer)
    empty = (
        torch.from_numpy(((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])).numpy()).nonzero().flatten() + 1
    )
    assert not torch.isin(batch.gt_inds, empty).any()  # no area: never positive
    assert bool(batch.max_overlaps.isfinite().all())


@FUZZ
@given(st.data())
def test_min_positives_equals_oracle(data):
    layout = data.draw(pyramids())
    boxes, num = data.draw(ground_truths()).to(layout.priors.dtype), data.draw(st.integers(1, 12))
    batch = ATSSAssigner(min_positives=num).assign_batch(
        layout.priors, layout.num_level_priors, [instances(boxes, dtype=layout.priors.dtype)]
    )
    assert_equals_oracle(batch.gt_inds[0], oracle.atss(to_scene(layout, boxes), min_positives=num))


@FUZZ
@given(st.data())
@pytest.mark.parametrize('name', ['atss', 'ssc', 'iou', 'topk_iou', 'radius_sampling'])
def test_batches(name, data):
    """Images of a batch know nothing of each other, with any number of ground truths each."""
    layout = data.draw(pyramids())
    images = data.draw(st.lists(ground_truths(most=4), min_size=1, max_size=4))
    assigner = define(name, layout).assigner
    gts = [instances(boxes, dtype=layout.priors.dtype) for boxes in images]
    batch = assigner.assign_batch(layout.priors, layout.num_level_priors, gts)
    for i, gt in enumerate(gts):
        alone = define(name, layout).assigner.assign_batch(layout.priors, layout.num_level_priors, [gt])
        assert_close(batch.gt_inds[i], alone.gt_inds[0], rtol=0, atol=0)
        assert_close(batch.max_overlaps[i], alone.max_overlaps[0], rtol=0, atol=0)


@FUZZ
@given(boxes=st.lists(st.tuples(*[COORDINATE] * 4), max_size=6))
@pytest.mark.parametrize('name', MAKERS)
def test_any_floats(name, boxes):
    """Any four finite numbers are a box: nothing crashes, and what is not a box is not positive."""
    layout = make_layout(size=(64, 64), strides=(8, 16, 32))
    definition = define(name, layout)
    gts = instances(torch.tensor(boxes))
    gt_inds = definition.assigner.assign_batch(layout.priors, None, [gts]).gt_inds[0]
    assert_equals_oracle(gt_inds, definition.loops(to_scene(layout, gts.bboxes)))


def crowd(num, size, seed):
    """Boxes of a crowd: many, mostly small, some equal."""
    boxes = random_boxes(num, size, seed)
    boxes[num // 2 : num // 2 + num // 10] = boxes[: num // 10]
    return boxes


@pytest.mark.parametrize('name', ['atss', 'center_sampling', 'ssc', 'topk_iou', 'iou'])
def test_a_thousand_ground_truths(name):
    layout = make_layout(size=(96, 128), strides=(16, 32, 64))
    boxes = crowd(1000, (96, 128), 3)
    definition = define(name, layout)
    got = definition.assigner.assign_batch(layout.priors, None, [instances(boxes)]).gt_inds[0]
    answer = definition.loops(to_scene(layout, boxes))
    assert_equals_oracle(got, answer)
    # a small box has nearly the same quality with all anchors around it, and float32 orders them
    assert answer.clear.mean() > (0.2 if name == 'topk_iou' else 0.7) and (answer.gt_inds > 0).sum() > 20


@pytest.mark.parametrize('size', [(3000, 4000), (32, 4000), (4000, 32), (800, 1333), (32, 32)], ids=str)
def test_image_sizes(size):
    """ATSS from 32 to 4000 pixels; the loops visit candidates only."""
    layout = make_layout(size=size)
    boxes = torch.cat(
        [crowd(15, size, 1), torch.tensor([[0.0, 0.0, 4000.0, 4.0], [10.0, 0.0, 12.0, 4000.0], [-5e3, -5e3, 9e3, 9e3]])]
    )
    answer = oracle.atss(to_scene(layout, boxes))
    for levels in (None, layout.num_level_priors):
        got = ATSSAssigner().assign_batch(layout.priors, levels, [instances(boxes)]).gt_inds[0]
        assert_equals_oracle(got, answer)
    assert (answer.gt_inds > 0).any() and answer.clear[answer.gt_inds > 0].mean() > 0.8


@pytest.mark.parametrize('name', MAKERS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(name, dtype):
    """Half precision is read as the numbers that it holds; everything is computed in float32 at least."""
    layout = make_layout(size=(96, 96), strides=(8, 16, 32))
    boxes = random_boxes(9, (96, 96), seed=4, grid=1).to(dtype)
    assigner = define(name, layout).assigner
    expected = assigner.assign_batch(layout.priors, layout.num_level_priors, [instances(boxes.float())])
    for priors, gts in [
        (layout.priors.to(dtype), boxes),
        (layout.priors, boxes),
        (layout.priors.to(dtype), boxes.float()),
    ]:
        found = assigner.assign_batch(priors, layout.num_level_priors, [instances(gts, dtype=gts.dtype)])
        assert_close(found.gt_inds, expected.gt_inds, rtol=0, atol=0)
        assert_close(found.max_overlaps, expected.max_overlaps)
        assert found.max_overlaps.dtype == torch.float32


@pytest.mark.parametrize('name', MAKERS)
def test_mixed_precision_of_a_batch(name):
    layout = make_layout(size=(96, 96), strides=(8, 16, 32))
    single, double = random_boxes(5, (96, 96), 1, grid=1), random_boxes(5, (96, 96), 2, grid=1, dtype=torch.float64)
    assigner = define(name, layout).assigner
    gts = [instances(single), instances(double, dtype=torch.float64), instances([])]
    batch = assigner.assign_batch(layout.priors, None, gts)
    for i, boxes in enumerate((single, double)):
        assert_equals_oracle(batch.gt_inds[i], define(name, layout).loops(to_scene(layout, boxes)))
    assert not batch.gt_inds[2].any()


@pytest.mark.parametrize('num_classes', [1, 80])
def test_labels_of_any_number_of_classes(num_classes):
    layout = make_layout()
    labels = torch.arange(12) % num_classes
    batch = ATSSAssigner().assign_batch(layout.priors, None, [instances(random_boxes(12, seed=8), labels)])
    positive = batch.gt_inds > 0
    assert_close(batch.labels[positive], labels[batch.gt_inds[positive] - 1], rtol=0, atol=0)
    assert np.unique(batch.labels[~positive]).tolist() == [-1]
