"""What all definitions beyond the paper share: accelerators, batches, ignored regions, boxes of no area, memory."""

from contextlib import contextmanager
from importlib import import_module

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.task_modules import ATSSAssigner as MMDetATSSAssigner
from mmengine.structures import InstanceData
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from atss_plugin.assigners import (
    ATSSAssigner,
    DDODAssigner,
    IoUAssigner,
    PAAAssigner,
    RFLAAssigner,
    SimOTAAssigner,
    TaskAlignedAssigner,
)
from atss_plugin.matching import boxes
from tests.assigners.test_accelerator import everything
from tests.matching.test_pyramid import QUICK
from tests.reference.predictions import predict, predicted_scenes
from tests.reference.scenes import assert_same_assignment, instances, make_layout, random_boxes

MAKERS = {
    'simota': lambda strides, **kw: SimOTAAssigner(strides=[x for x, _ in strides], **kw),
    'task_aligned': lambda strides, **kw: TaskAlignedAssigner(**kw),
    'paa': lambda strides, **kw: PAAAssigner(**kw),
    'rfla': lambda strides, **kw: RFLAAssigner(receptive_fields=[10 * x for x, _ in strides], **kw),
    'iou_nwd': lambda strides, **kw: IoUAssigner(
        0.7, 0.3, iou_calculator=dict(type='atss_plugin.GaussianWasserstein'), **kw
    ),
    'atss_nwd': lambda strides, **kw: ATSSAssigner(iou_calculator=dict(type='atss_plugin.GaussianWasserstein'), **kw),
}


@contextmanager
def on_host(answer: bool):
    with everything(answer), pytest.MonkeyPatch.context() as patch:
        # matching.paa is the function of the module
        patch.setattr(import_module('atss_plugin.matching.paa'), 'on_host', lambda tensor: answer)
        yield


@pytest.mark.parametrize('name', MAKERS)
@QUICK
@given(st.data())
def test_the_same_on_an_accelerator(name, data):
    layout, images, predictions = data.draw(predicted_scenes())
    nothing = InstanceData(bboxes=torch.zeros((0, 4), dtype=torch.float64))
    ignored = [instances([[0.0, 0.0, 50.0, 40.0]], dtype=torch.float64)] + [nothing] * (len(images) - 1)
    results = []
    for answer in (True, False):
        with on_host(answer):
            assigner = MAKERS[name](layout.strides, ignore_iof_thr=-1 if 'nwd' in name else 0.5)
            results.append(assigner.assign_batch(layout.priors, layout.num_level_priors, images, ignored, predictions))
    assert_same_assignment(*results)


@pytest.mark.parametrize('name', MAKERS)
@QUICK
@given(st.data())
def test_a_batch_is_its_images(name, data):
    layout, images, predictions = data.draw(predicted_scenes())
    assigner = MAKERS[name](layout.strides)
    batch = assigner.assign_batch(layout.priors, layout.num_level_priors, images, None, predictions)
    for i, (gts, predicted) in enumerate(zip(images, predictions)):
        given = InstanceData(priors=layout.priors, bboxes=predicted.bboxes, scores=predicted.scores)
        alone = assigner.assign(given, layout.num_level_priors, gts)
        assert_close(batch.gt_inds[i], alone.gt_inds, rtol=0, atol=0)
        assert_close(batch.labels[i], alone.labels, rtol=0, atol=0)


@pytest.mark.parametrize('seed', range(6))
def test_ddod_is_mmdets(seed):
    """mmdet's ATSSAssigner with ``alpha``, on boxes without equally distant anchors."""
    layout, gts = make_layout(size=(192, 256)), instances(random_boxes(8, (192, 256), seed))
    predicted = predict(layout, gts, seed)
    given = InstanceData(priors=layout.priors, bboxes=predicted.bboxes, scores=predicted.logits)
    found, expected = (
        assigner.assign(given, layout.num_level_priors, gts)
        for assigner in (DDODAssigner(alpha=0.8), MMDetATSSAssigner(topk=9, alpha=0.8))
    )
    assert (found.gt_inds > 0).any()
    assert_close(found.gt_inds, expected.gt_inds, rtol=0, atol=0)


@pytest.mark.parametrize('name', MAKERS)
def test_a_few_ground_truths_at_a_time_are_all_of_them(name, monkeypatch):
    layout = make_layout()
    images = [instances(random_boxes(n, seed=n), torch.arange(n) % 8) for n in (20, 0, 3)]
    predictions = [predict(layout, gts, i) for i, gts in enumerate(images)]
    found = []
    for budget in (1 << 19, 1):
        monkeypatch.setattr(boxes, 'DENSE_BUDGET', budget)
        found.append(MAKERS[name](layout.strides).assign_batch(layout.priors, None, images, None, predictions))
    assert (found[0].gt_inds > 0).any()
    assert_same_assignment(*found)


@pytest.mark.parametrize('name', MAKERS)
def test_ignored_regions_have_no_positive(name):
    layout, gts = make_layout(), instances(random_boxes(8, seed=1), torch.arange(8))
    predicted, region = (
        predict(layout, gts, 0, spread=2.0),
        InstanceData(bboxes=torch.tensor([[0.0, 0.0, 60.0, 128.0]])),
    )
    lies = (layout.priors[:, 2].clamp(max=60) - layout.priors[:, 0].clamp(min=0)).clamp(min=0) * (
        layout.priors[:, 3].clamp(max=128) - layout.priors[:, 1].clamp(min=0)
    )
    size = (layout.priors[:, 2:] - layout.priors[:, :2]).prod(1)
    found = MAKERS[name](layout.strides, ignore_iof_thr=0.5).assign_batch(
        layout.priors, None, [gts], [region], [predicted]
    )
    assert_close(found.gt_inds[0] < 0, lies / size > 0.5, rtol=0, atol=0)
    assert (found.gt_inds > 0).any()


@pytest.mark.parametrize('name', MAKERS)
@pytest.mark.parametrize(
    'box',
    [[0.0] * 4, [70.0] * 4, [70.0, 70.0, 70.0, 90.0], [110.0, 125.0, 30.0, 40.0], [110.0, 40.0, 30.0, 125.0]],
    ids=['what is not finite becomes', 'point', 'line', 'turned twice', 'turned'],
)
def test_boxes_of_no_area_have_no_positive_and_take_none(name, box):
    layout = make_layout()
    good = random_boxes(3, seed=5)
    gts, empty = instances(good, torch.arange(3)), instances(torch.cat([good, torch.tensor([box])]), torch.arange(4))
    predicted = predict(layout, gts, 0)
    found, expected = (
        MAKERS[name](layout.strides).assign_batch(layout.priors, None, [g], None, [predicted]) for g in (empty, gts)
    )
    assert_close(found.gt_inds, expected.gt_inds, rtol=0, atol=0)


@pytest.mark.parametrize('name', ['simota', 'task_aligned', 'paa', 'ddod'])
def test_labels_that_the_predictions_do_not_have(name):
    layout, gts = make_layout(), instances(random_boxes(2), torch.tensor([0, 8]))
    assigner = DDODAssigner() if name == 'ddod' else MAKERS[name](layout.strides)
    with pytest.raises(ValueError, match='labels of the ground truths are 0 to 8, but there are 8 classes'):
        assigner.assign_batch(layout.priors, None, [gts], None, [predict(layout, instances(gts.bboxes), 0)])


@pytest.mark.parametrize('name', ['simota', 'task_aligned', 'paa', 'rfla'])
def test_memory_does_not_grow_with_priors_times_ground_truths(name, monkeypatch):
    """A table of all pairs would not fit this budget."""
    monkeypatch.setattr(boxes, 'DENSE_BUDGET', 1 << 15)
    layout = make_layout(size=(320, 320))
    gts = instances(random_boxes(600, (320, 320)), torch.arange(600) % 8)
    predicted = predict(layout, gts, 0)
    assigner = MAKERS[name](layout.strides)
    most = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            most.extend(x.numel() for x in (out if isinstance(out, (tuple, list)) else [out]) if torch.is_tensor(x))
            return out

    with Watch():
        assigner.assign_batch(layout.priors, layout.num_level_priors, [gts], None, [predicted])
    assert max(most) < 0.2 * len(layout.priors) * len(gts)
