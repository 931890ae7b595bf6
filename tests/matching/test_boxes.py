"""The small functions that every definition rests on."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atss_plugin.matching import atss, collect, find_candidates, find_pyramid
from atss_plugin.matching.boxes import topk_smallest
from tests.matching.test_pyramid import QUICK
from tests.reference.scenes import make_layout

FEW = st.integers(-4, 4).map(lambda n: n / 3)  # few distinct values, for ties


@QUICK
@given(st.data())
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_topk_smallest(dtype, data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9)))
    size = int(np.prod(shape))
    values = data.draw(st.lists(st.one_of(FEW, st.just(np.inf)), min_size=size, max_size=size))
    values = np.array(values, dtype=dtype).reshape(shape)
    order = np.array(data.draw(st.permutations(range(size))), dtype=float).reshape(shape)
    k = data.draw(st.integers(1, shape[-1]))
    expected = np.lexsort((order, values), axis=-1)[..., :k]
    found = topk_smallest(torch.from_numpy(values), torch.from_numpy(order), k).numpy()
    # where fewer than k are finite, which of the others come along does not matter; the finite ones come first
    finite = np.isfinite(np.take_along_axis(values, expected, -1))
    for row in np.ndindex(shape[:2]):
        assert sorted(found[row][: finite[row].sum()]) == sorted(expected[row][: finite[row].sum()])


@QUICK
@given(st.data())
def test_mean_and_deviation_of_candidates(data):
    """Those of a sample; the mean of equal values is exactly that value, so all of them reach it."""
    layout = make_layout(strides=(8, 16, 32))
    pyramid = find_pyramid(layout.priors, layout.num_level_priors)
    num, k = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    gts = collect([torch.tensor([[10.0, 10.0, 50.0, 60.0]] * num)], [torch.arange(num)], layout.priors)
    values = data.draw(st.lists(FEW.map(abs), min_size=3 * k, max_size=3 * k))
    found = find_candidates(pyramid, gts, k, quality=lambda index: torch.tensor([values] * num, dtype=torch.float64))
    for mean, std in zip(found.mean.tolist(), found.std.tolist()):
        assert abs(mean - np.mean(values)) < 1e-15 and abs(std - np.std(values, ddof=1)) < 1e-15
        if len(set(values)) == 1:
            assert mean == values[0] and std == 0


def test_a_single_candidate_is_its_own_threshold():
    layout = make_layout(strides=(8,))
    pyramid = find_pyramid(layout.priors, layout.num_level_priors)
    gts = collect([torch.tensor([[20.0, 20.0, 84.0, 84.0]])], [torch.tensor([3])], layout.priors)
    found = find_candidates(pyramid, gts, 1)
    assert found.std.tolist() == [0] and found.threshold.tolist() == found.iou[0].tolist()
    assert atss(pyramid, gts, 1).labels.max() == 3
