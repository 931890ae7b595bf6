"""SimOTA: mmdet's own assigner on fuzzed predictions, and what it says in plain numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.task_modules import SimOTAAssigner as MMDetSimOTAAssigner
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin.assigners import SimOTAAssigner
from tests.matching.test_pyramid import A1, QUICK
from tests.reference.predictions import points_with_strides, predicted_scenes
from tests.reference.scenes import instances, make_layout


def ours_for(layout, **options):
    return SimOTAAssigner(strides=[x for x, _ in layout.strides], **options)


@QUICK
@given(predicted_scenes(**A1), st.sampled_from([dict(), dict(candidate_topk=3, center_radius=0.7, iou_weight=1.0)]))
def test_equals_mmdets(scene, options):
    """Scores are in float64, where mmdet's costs can tell apart what is outside an object; its IoUs are float32.

    One square anchor per location, as the centres of others are known to float32's precision only, and points lie on
    the sides of boxes here.
    """
    layout, images, predictions = scene
    for item in (*images, *predictions):
        item.bboxes = item.bboxes.float()
    batch = ours_for(layout, **options).assign_batch(layout.priors, layout.num_level_priors, images, None, predictions)
    theirs, points = MMDetSimOTAAssigner(**options), points_with_strides(layout)
    for i, (gts, predicted) in enumerate(zip(images, predictions)):
        given = InstanceData(priors=points, bboxes=predicted.bboxes, scores=predicted.scores)
        expected = theirs.assign(given, gts)
        assert_close(batch.gt_inds[i], expected.gt_inds, rtol=0, atol=0)
        assert_close(batch.labels[i], expected.labels, rtol=0, atol=0)
        positive = expected.gt_inds > 0
        assert_close(
            batch.max_overlaps[i][positive], expected.max_overlaps[positive], rtol=0, atol=0, check_dtype=False
        )


def test_number_of_positives_is_the_sum_of_ious():
    """One object of 64 x 64 in a map of 8 x 8 points; four predictions are the object itself, the others far away."""
    layout = make_layout(size=(64, 64), strides=(8,))
    gts = instances([[0.0, 0.0, 64.0, 64.0]])
    boxes = torch.tensor([1000.0, 1000.0, 1001.0, 1001.0]).repeat(64, 1)
    best = [27, 28, 35, 36]  # the four points around the centre
    boxes[best] = gts.bboxes[0]
    predicted = InstanceData(bboxes=boxes, scores=torch.full((64, 2), 0.5))
    found = ours_for(layout).assign_batch(layout.priors, None, [gts], None, [predicted])
    assert found.gt_inds[0].nonzero().flatten().tolist() == best
    assert_close(found.max_overlaps[0][best], torch.ones(4))


def test_a_prior_that_two_choose_goes_to_the_cheapest_of_all():
    """Also to one that did not choose it, as in the original: min over all objects of the image."""
    layout = make_layout(size=(64, 64), strides=(8,))
    gts = instances([[8.0, 8.0, 56.0, 56.0], [6.0, 8.0, 56.0, 56.0], [8.0, 6.0, 56.0, 58.0]])
    generator = torch.Generator().manual_seed(0)
    predicted = InstanceData(
        bboxes=gts.bboxes[0] + 3 * torch.randn(64, 4, generator=generator),
        scores=torch.rand(64, 3, generator=generator).double(),
    )
    found = ours_for(layout).assign_batch(layout.priors, None, [gts], None, [predicted]).gt_inds[0]
    assert {1, 2, 3} <= set(found.tolist())


def test_bad_input():
    layout, gts = make_layout(), [instances([[8.0, 8.0, 56.0, 56.0]])]
    with pytest.raises(ValueError, match='SimOTAAssigner needs scores and bboxes .* this head does not pass'):
        SimOTAAssigner().assign_batch(layout.priors, None, gts)
    short = [InstanceData(bboxes=layout.priors[:5], scores=torch.rand(5, 3))]
    with pytest.raises(ValueError, match=r'a predicted box for each of \d+ priors of 1 images'):
        SimOTAAssigner().assign_batch(layout.priors, None, gts, None, short)
    whole = [InstanceData(bboxes=layout.priors, scores=torch.rand(len(layout.priors), 3))]
    with pytest.raises(ValueError, match='strides has 2 entries.* give strides one entry for each level'):
        SimOTAAssigner(strides=(8, 16)).assign_batch(layout.priors, None, gts, None, whole)
    with pytest.raises(ValueError, match='candidate_topk'):
        SimOTAAssigner(candidate_topk=0)
    with pytest.raises(ValueError, match='center_radius'):
        SimOTAAssigner(center_radius=0)
