"""What an accelerator runs, where asking for values makes the host wait, gives the same as what the CPU runs."""

import copy
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

from atss_plugin.assigners import ATSSAssigner, DDODAssigner, SpatialScaleAssigner, TopKIoUAssigner, base, iou, topk_iou
from atss_plugin.matching import assignment, boxes
from tests.matching.test_pyramid import QUICK, boxes_near, layouts
from tests.reference.definitions import MAKERS, define
from tests.reference.scenes import assert_same_assignment, instances, make_layout, random_boxes


@contextmanager
def everything(on_host: bool):
    """Make every tensor count as on the host, or not."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (assignment, base, iou, topk_iou):
            patch.setattr(module, 'on_host', lambda tensor: on_host)
        yield


def priors_of(data, layout):
    """The priors and levels of a layout: whole, what mmdet's allowed_border leaves, or shuffled, without grids."""
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
@pytest.mark.parametrize('name', [*MAKERS, 'min_positives', 'ddod'])
def test_the_same_on_an_accelerator(name, data):
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
                else DDODAssigner(alpha=0.8)
                if name == 'ddod'
                else define(name, layout, iof_thr=0.5).assigner
            )
            results.append(assigner.assign_batch(priors, levels, images, ignored, [predictions] * len(images)))
    assert_same_assignment(*results)


@pytest.mark.parametrize('name', list(MAKERS))
def test_on_an_accelerator_a_box_that_is_not_finite_is_left_out(name):
    """Checking for it would make the host wait there; on the host it is refused."""
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
    expected = copy.deepcopy(first)
    for field in first:
        if isinstance(field, torch.Tensor):
            field.zero_()
    for field, value in zip(assigner.candidates(layout.priors, None, boxes), expected):
        assert_close(field, value, rtol=0, atol=0)


def test_candidates_take_what_assign_takes():
    layout = make_layout()
    none = torch.zeros((0, 4))
    for levels in (layout.num_level_priors, [len(layout.priors)]):
        order = torch.arange(len(layout.priors)) if len(levels) > 1 else torch.randperm(len(layout.priors))
        assert ATSSAssigner().candidates(layout.priors[order], levels, none).prior.shape[0] == 0
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
    """Priors that are not a lattice: k rows are kept of a chunk, not the array that they were chosen from."""
    monkeypatch.setattr(boxes, 'DENSE_BUDGET', 1 << 15)
    priors = random_boxes(4000, seed=0)
    gts = instances(random_boxes(400, seed=1))
    for gt in gts.bboxes:
        gt[2:] = gt[:2] + 4
    tracemalloc.start()
    assigner.assign_batch(priors, [len(priors)], [gts])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * 8 * len(priors) * len(gts.bboxes)


@pytest.mark.parametrize('on_host', [True, False], ids=['host', 'accelerator'])
@pytest.mark.parametrize('name', list(MAKERS))
def test_boxes_whose_centre_overflows(name, on_host):
    layout = make_layout(size=(96, 368), strides=(8, 16, 32))
    truths = [[3.3e38, 3.3e38, 3.4e38, 3.4e38], [10.0, 10.0, 60.0, 60.0]]
    with everything(on_host):
        found = define(name, layout).assigner.assign_batch(layout.priors, None, [instances(truths)])
    assert (found.gt_inds == 2).any() and not (found.gt_inds == 1).any()


def test_a_measure_that_no_box_escapes_is_reported_of_positives_only():
    layout = make_layout()
    assigner = ATSSAssigner(iou_calculator=dict(type='atss_plugin.GaussianWasserstein'))
    for truths in ([], [[10.0, 10.0, 60.0, 60.0]]):
        found = assigner.assign(InstanceData(priors=layout.priors), instances(truths))
        assert (found.max_overlaps[found.gt_inds == 0] == 0).all()
