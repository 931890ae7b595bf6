"""What runs on NumPy's arrays on the host runs on tensors elsewhere, with the same result."""
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from definitions import MAKERS, define
from hypothesis import given
from hypothesis import strategies as st
from scenes import instances, make_layout
from test_lattice import QUICK, boxes_near, layouts
from torch.testing import assert_close

from atss_plugin.assigners import arrays, base, iou, topk_iou
from atss_plugin.assigners.arrays import Device, Host
from atss_plugin.assigners.atss import mean_and_std

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
    found = Host.smallest(values, order, k), Device.smallest(torch.from_numpy(values), torch.from_numpy(order), k).numpy()
    # where fewer than k are finite, which of the others come along does not matter
    finite = np.isfinite(np.sort(values, axis=0)[:k][-1])
    for index in found:
        assert (np.sort(index, axis=0) == expected)[:, finite].all()
        assert (np.sort(np.take_along_axis(values, index, 0), axis=0) == np.sort(values, axis=0)[:k]).all()


def test_take():
    values = np.arange(24.).reshape(4, 2, 3)
    index = np.array([[[3, 2, 1], [0, 0, 1]], [[0, 1, 2], [3, 2, 2]]])
    expected = np.take_along_axis(values, index, 0)
    turned = np.ascontiguousarray(values.transpose(2, 1, 0)).transpose(2, 1, 0)  # another order in memory
    for found in (Host.take(values, index), Host.take(turned, index),
                  Device.take(torch.from_numpy(values), torch.from_numpy(index)).numpy()):
        assert (found == expected).all()


@QUICK
@given(st.data())
def test_highest_and_lowest_at(data):
    num = data.draw(st.integers(1, 12))
    slot = np.array(data.draw(st.lists(st.integers(0, 4), min_size=num, max_size=num)))
    values = np.array(data.draw(st.lists(FEW, min_size=num, max_size=num)))
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
def test_mean_and_std(data):
    values = columns(data, 'float64')[:, 0]
    mask = np.ones_like(values, dtype=bool)
    for array, all_of_it in ((values, mask), (torch.from_numpy(values), torch.from_numpy(mask))):
        for given_mask in (None, all_of_it):
            mean, std = (np.asarray(a) for a in mean_and_std(array, given_mask))
            assert np.allclose(mean, values.mean(0), rtol=0, atol=1e-15)
            assert np.allclose(std, values.std(0, ddof=1) if len(values) > 1 else 0, rtol=0, atol=1e-15)
            equal = (values == values[0]).all(0)
            assert (mean[equal] == values[0][equal]).all() and (std[equal] == 0).all()


@QUICK
@given(st.data())
@pytest.mark.parametrize('name', list(MAKERS))
def test_assigners_on_tensors_equal_those_on_arrays(name, data):
    layout = data.draw(layouts())
    num = data.draw(st.integers(1, 3))
    images, ignored = ([instances(data.draw(boxes_near(layout, most)), dtype=layout.priors.dtype) for _ in range(num)]
                       for most in (6, 1))
    results = []
    for on_host in (True, False):
        with everything(on_host):
            assigner = define(name, layout, iof_thr=0.5).assigner
            results.append(assigner.assign_batch(layout.priors, layout.num_level_priors, images, ignored))
    for field in ('gt_inds', 'labels', 'max_overlaps', 'gt_bboxes'):
        assert_close(getattr(results[1], field), getattr(results[0], field), rtol=0, atol=0)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('box', [[0, 0, 1e30, 1e30], [-3e38, -3e38, 3e38, 3e38], [3e38, 3e38, 3e38, 3e38]], ids=str)
@pytest.mark.parametrize('name', ['atss', 'ssc', 'center_sampling', 'radius_sampling'])
def test_enormous_boxes_are_assigned_in_silence(name, box):
    """NumPy warns where numbers overflow, PyTorch does not."""
    layout = make_layout()
    gts = instances([box, [10., 10., 60., 60.]])
    alone = define(name, layout).assigner.assign_batch(layout.priors, None, [instances([[10., 10., 60., 60.]])])
    both = define(name, layout).assigner.assign_batch(layout.priors, None, [gts])
    assert ((alone.gt_inds == 1) <= (both.gt_inds == 2)).all() and (both.gt_inds == 2).any()
