"""What runs on NumPy's arrays on the host runs on tensors elsewhere, with the same result."""

import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin.assigners import (
    ATSSAssigner,
    SpatialScaleAssigner,
    TopKIoUAssigner,
    arrays,
    base,
    geometry,
    iou,
    topk_iou,
)
from atss_plugin.assigners.arrays import Device, Host
from atss_plugin.assigners.atss import mean_and_std
from tests.assigners.test_lattice import QUICK, boxes_near, layouts
from tests.reference.definitions import MAKERS, define
from tests.reference.scenes import instances, make_layout, random_boxes

FEW = st.integers(-4, 4).map(lambda n: n / 3)  # few distinct values, so that there are ties


@contextmanager
def everything(on_host: bool):
    """Every tensor is, or is not, on the host."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (arrays, base, iou, topk_iou):
            patch.setattr(module, 'on_host', lambda tensor: on_host)
        yield


def columns(data, dtype, value=FEW):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 3)))
    values = data.draw(st.lists(value, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return np.array(values, dtype=dtype).reshape(shape)


@QUICK
@given(st.data())
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_smallest_in_the_order_given(dtype, data):
    values = columns(data, dtype, st.one_of(FEW, st.just(np.inf)))
    order = np.array(data.draw(st.permutations(range(values.size))), dtype=float).reshape(values.shape)
    k = data.draw(st.integers(1, 10))
    expected = np.sort(np.lexsort((order, values), axis=0)[:k], axis=0)
    found = [
        Host.smallest(values, order, k),
        Device.smallest(torch.from_numpy(values), torch.from_numpy(order), k).numpy(),
    ]
    # where fewer than k are finite, which of the others come along does not matter
    finite = np.isfinite(np.sort(values, axis=0)[:k][-1])
    for index in found:
        assert (np.sort(index, axis=0) == expected)[:, finite].all()
        assert (np.sort(np.take_along_axis(values, index, 0), axis=0) == np.sort(values, axis=0)[:k]).all()


def test_take():
    values = np.arange(24.0).reshape(4, 2, 3)
    index = np.array([[[3, 2, 1], [0, 0, 1]], [[0, 1, 2], [3, 2, 2]]])
    expected = np.take_along_axis(values, index, 0)
    turned = np.ascontiguousarray(values.transpose(2, 1, 0)).transpose(2, 1, 0)  # another order in memory
    for found in (
        Host.take(values, index),
        Host.take(turned, index),
        Device.take(torch.from_numpy(values), torch.from_numpy(index)).numpy(),
    ):
        assert (found == expected).all()


@QUICK
@given(st.data())
def test_highest_and_lowest_at(data):
    num = data.draw(st.integers(0, 12))
    slot = np.array(data.draw(st.lists(st.integers(0, 4), min_size=num, max_size=num)), dtype=int)
    values = np.array(data.draw(st.lists(FEW, min_size=num, max_size=num)), dtype=float)
    table = np.full(6, 9.0)
    highest, lowest = table.copy(), table.copy()
    Host.highest_at(highest, slot, values)
    Host.lowest_at(lowest, slot, values)
    for s in range(6):
        mine = values[slot == s]
        assert highest[s] == (mine.max() if len(mine) else 9) and lowest[s] == (mine.min() if len(mine) else 9)
    slot, values = torch.from_numpy(slot), torch.from_numpy(values)
    for function, expected in ((Device.highest_at, highest), (Device.lowest_at, lowest)):
        there = torch.from_numpy(table.copy())
        function(there, slot, values)
        assert (there.numpy() == expected).all()


@QUICK
@given(st.data())
@pytest.mark.parametrize('masked', [False, True])
def test_mean_and_std(masked, data):
    values = columns(data, 'float64')[:, 0]
    flags = data.draw(st.lists(st.booleans(), min_size=values.size, max_size=values.size))
    mask = np.array(flags).reshape(values.shape) if masked else np.ones_like(values, dtype=bool)
    mask[0] = True
    for array, given_mask in ((values, mask), (torch.from_numpy(values), torch.from_numpy(mask))):
        mean, std = (np.asarray(a) for a in mean_and_std(array, given_mask if masked else None))
        for column, flag, m, s in zip(values.T, mask.T, mean, std):
            mine = column[flag]
            assert abs(m - mine.mean()) < 1e-15 and abs(s - (mine.std(ddof=1) if len(mine) > 1 else 0)) < 1e-15
            if (mine == mine[0]).all():
                assert m == mine[0] and s == 0


def priors_of(data, layout):
    """The layout's priors and levels; or what mmdet's allowed_border leaves; or in another order, which no lattice is."""
    kind = data.draw(st.sampled_from(['whole', 'cropped', 'shuffled']))
    priors, levels = layout.priors, list(layout.num_level_priors)
    if kind == 'cropped':
        width, height = np.ceil(layout.points.max(0)).astype(int).tolist()
        border = data.draw(st.sampled_from([8, 32, 64]))
        kept = anchor_inside_flags(priors, torch.ones(len(priors), dtype=torch.bool), (height, width), border)
        levels = [int(part.sum()) for part in kept.split(levels)]
        if min(levels) > 0:
            return priors[kept], levels
    if kind == 'shuffled':
        generator = torch.Generator().manual_seed(0)
        return torch.cat([p[torch.randperm(len(p), generator=generator)] for p in priors.split(levels)]), levels
    return layout.priors, list(layout.num_level_priors)


@QUICK
@given(st.data())
@pytest.mark.parametrize('name', [*MAKERS, 'min_positives', 'alpha'])
def test_assigners_on_tensors_equal_those_on_arrays(name, data):
    layout = data.draw(layouts())
    priors, levels = priors_of(data, layout)
    images, ignored = (
        [instances(data.draw(boxes_near(layout, most)), dtype=priors.dtype) for _ in range(num)] + [instances([])]
        for num in [data.draw(st.integers(1, 3))]
        for most in (6, 1)
    )
    generator = torch.Generator().manual_seed(0)
    predictions = InstanceData(
        scores=torch.randn(len(priors), 80, generator=generator),
        bboxes=priors + 4 * torch.randn(len(priors), 4, generator=generator),
    )
    results = []
    for on_host in (True, False):
        with everything(on_host):
            assigner = (
                ATSSAssigner(min_positives=2)
                if name == 'min_positives'
                else ATSSAssigner(alpha=0.8)
                if name == 'alpha'
                else define(name, layout, iof_thr=0.5).assigner
            )
            results.append(assigner.assign_batch(priors, levels, images, ignored, predictions))
    assert_close(results[1].gt_inds, results[0].gt_inds, rtol=0, atol=0)
    assert_close(results[1].labels, results[0].labels, rtol=0, atol=0)
    powers = dict(rtol=1e-5, atol=1e-6) if name == 'alpha' else dict(rtol=0, atol=0)  # NumPy's pow rounds differently
    assert_close(results[1].max_overlaps, results[0].max_overlaps, **powers)


@pytest.mark.parametrize('name', list(MAKERS))
def test_on_an_accelerator_a_box_that_is_not_finite_is_left_out(name):
    """Where asking for it would make the host wait; on the host it is refused."""
    layout = make_layout()
    good = [[10.0, 10.0, 60.0, 60.0], [40.0, 30.0, 150.0, 140.0], [5.0, 60.0, 30.0, 90.0]]
    for bad in (float('nan'), float('inf')):
        with everything(on_host=False):
            found, expected = (
                define(name, layout).assigner.assign_batch(layout.priors, None, [instances(boxes)])
                for boxes in (good[:1] + [[bad, 0.0, 50.0, 50.0]] + good[1:], good)
            )
        number = torch.tensor([0, 1, 3, 4])
        assert_close(
            found.gt_inds,
            number[expected.gt_inds.clamp(min=0)].where(expected.gt_inds >= 0, expected.gt_inds),
            rtol=0,
            atol=0,
        )


def test_what_a_caller_gets_is_its_own():
    layout, assigner = make_layout(), ATSSAssigner()
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0]], requires_grad=True)
    batch = assigner.assign_batch(layout.priors, None, [InstanceData(bboxes=boxes, labels=torch.tensor([3]))])
    assert not batch.gt_bboxes.requires_grad and not batch.boxes_at(slice(None)).requires_grad
    first = assigner.candidates(layout.priors, None, boxes)
    expected = [field.clone() for field in first]
    for field in first:
        field.zero_()
    for field, value in zip(assigner.candidates(layout.priors, None, boxes), expected):
        assert_close(field, value, rtol=0, atol=0)


def test_candidates_take_what_assign_takes():
    layout = make_layout()
    none = torch.zeros((0, 4))
    for levels in (layout.num_level_priors, [len(layout.priors)]):
        order = torch.arange(len(layout.priors)) if len(levels) > 1 else torch.randperm(len(layout.priors))
        assert ATSSAssigner().candidates(layout.priors[order], levels, none).index.shape[0] == 0
    half = ATSSAssigner().candidates(
        layout.priors.bfloat16(), layout.num_level_priors, torch.tensor([[8.0, 8.0, 64.0, 64.0]])
    )
    assert half.iou.dtype == torch.float32
    batch = ATSSAssigner().assign_batch(layout.priors, None, [])
    assert batch.gt_inds.shape == (0, len(layout.priors)) and batch.boxes_at(slice(None)).shape == (0, 4)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('box', [[0, 0, 1e30, 1e30], [-3e38, -3e38, 3e38, 3e38], [3e38, 3e38, 3e38, 3e38]], ids=str)
@pytest.mark.parametrize('name', ['atss', 'ssc', 'center_sampling', 'radius_sampling', 'iou', 'topk_iou'])
def test_enormous_boxes_are_assigned_in_silence(name, box):
    """NumPy warns where numbers overflow, PyTorch does not."""
    layout = make_layout()
    gts = instances([box, [10.0, 10.0, 60.0, 60.0]])
    alone = define(name, layout).assigner.assign_batch(layout.priors, None, [instances([[10.0, 10.0, 60.0, 60.0]])])
    both = define(name, layout).assigner.assign_batch(layout.priors, None, [gts])
    assert ((alone.gt_inds == 1) <= (both.gt_inds == 2)).all() and (both.gt_inds == 2).any()


@pytest.mark.parametrize(
    'assigner',
    [ATSSAssigner(), TopKIoUAssigner(), SpatialScaleAssigner(scale_ranges=[(-1, 1e9)])],
    ids=lambda a: type(a).__name__,
)
def test_memory_does_not_grow_with_priors_times_ground_truths(assigner, monkeypatch):
    """Priors that are no lattice: what is kept of a chunk is k rows, and not the array they were chosen from."""
    monkeypatch.setattr(geometry, 'DENSE_BUDGET', 1 << 15)
    priors = random_boxes(4000, seed=0)
    gts = instances(random_boxes(400, seed=1))
    for gt in gts.bboxes:
        gt[2:] = gt[:2] + 4
    tracemalloc.start()
    assigner.assign_batch(priors, [len(priors)], [gts])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * 8 * len(priors) * len(gts.bboxes)
