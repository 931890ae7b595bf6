"""TAL: mmdet's own assigner on fuzzed predictions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.task_modules import TaskAlignedAssigner as MMDetTaskAlignedAssigner
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin.assigners import TaskAlignedAssigner
from tests.matching.test_pyramid import QUICK
from tests.reference.predictions import predicted_scenes
from tests.reference.scenes import instances, make_layout


@QUICK
@given(predicted_scenes(), st.sampled_from([1, 4, 13]), st.sampled_from([(1, 6), (2, 1), (0.5, 2.0)]))
def test_equals_mmdets(scene, topk, exponents):
    layout, images, predictions = scene
    ours, theirs = TaskAlignedAssigner(topk, *exponents), MMDetTaskAlignedAssigner(topk)
    batch = ours.assign_batch(layout.priors, layout.num_level_priors, images, None, predictions)
    for i, (gts, predicted) in enumerate(zip(images, predictions)):
        given = InstanceData(priors=layout.priors, bboxes=predicted.bboxes, scores=predicted.scores)
        expected = theirs.assign(given, gts, None, *exponents)
        assert_close(batch.gt_inds[i], expected.gt_inds, rtol=0, atol=0)
        assert_close(batch.labels[i], expected.labels, rtol=0, atol=0)
        positive = expected.gt_inds > 0
        assert_close(batch.max_overlaps[i][positive], expected.max_overlaps[positive], rtol=0, atol=0)


def test_of_equal_alignments_the_lower_prior():
    layout = make_layout(size=(64, 64), strides=(8,))
    gts = instances([[0.0, 0.0, 64.0, 64.0]])
    predicted = InstanceData(bboxes=gts.bboxes.repeat(64, 1), scores=torch.full((64, 2), 0.5))
    found = TaskAlignedAssigner(topk=5).assign_batch(layout.priors, None, [gts], None, [predicted])
    assert found.gt_inds[0].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('side', [1.0, 4.0, 8.0])
def test_alignments_near_zero_are_told_apart(side):
    """A large object while all predicted boxes are still small: t is 1e-22 to 1e-33 (mmdet agrees in float32)."""
    layout, gts = make_layout(size=(256, 320)), instances([[10.0, 12.0, 310.0, 250.0]])
    points = torch.from_numpy(layout.points).float()
    half = side * (1 + torch.rand(len(points), 1, generator=torch.Generator().manual_seed(0))) / 2
    predicted = InstanceData(
        bboxes=torch.cat([points - half, points + half], 1), scores=torch.full((len(points), 2), 0.01)
    )
    found = TaskAlignedAssigner().assign_batch(layout.priors, None, [gts], None, [predicted]).gt_inds[0]
    given = InstanceData(priors=layout.priors, bboxes=predicted.bboxes, scores=predicted.scores)
    expected = MMDetTaskAlignedAssigner(13).assign(given, gts, None, 1, 6).gt_inds
    assert expected.sum() == 13
    assert_close(found, expected, rtol=0, atol=0)


def test_bad_input():
    layout, gts = make_layout(), [instances([[8.0, 8.0, 56.0, 56.0]])]
    with pytest.raises(ValueError, match='TaskAlignedAssigner needs scores and bboxes .* this head does not pass'):
        TaskAlignedAssigner().assign_batch(layout.priors, None, gts)
    logits = [InstanceData(bboxes=layout.priors, scores=torch.full((len(layout.priors), 2), -3.0))]
    with pytest.raises(ValueError, match='scores between 0 and 1 .* scores from -3 to -3: logits'):
        TaskAlignedAssigner().assign_batch(layout.priors, None, gts, None, logits)
    with pytest.raises(ValueError, match='topk'):
        TaskAlignedAssigner(topk=0)
