"""PAA: scikit-learn's mixtures, and mmdet's PAAHead given the same candidates."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.dense_heads import PAAHead
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin import matching
from atss_plugin.assigners import IoUAssigner, PAAAssigner
from atss_plugin.matching.paa import fit_mixture, lower_group, training_losses
from tests.matching.test_pyramid import QUICK
from tests.reference.predictions import NUM_CLASSES, predicted_scenes
from tests.reference.scenes import instances, make_layout, random_boxes

mixtures = pytest.importorskip('sklearn.mixture')


def rows(seed: int, sizes) -> torch.Tensor:
    """Losses, one or two groups in each row, rising; the rest of a row is infinite."""
    generator = np.random.default_rng(seed)
    found = torch.full((len(sizes), max(sizes)), float('inf'), dtype=torch.float64)
    for row, size in zip(found, sizes):
        groups = generator.normal(
            [generator.uniform(0, 4), generator.uniform(0, 4)], generator.uniform(0.05, 1, 2), (size, 2)
        )
        values = np.where(generator.random(size) < generator.random(), groups[:, 0], groups[:, 1])
        row[:size] = torch.from_numpy(np.sort(np.abs(values)))
    return found


def sklearns(losses: np.ndarray):
    mixture = mixtures.GaussianMixture(
        2,
        weights_init=[0.5, 0.5],
        means_init=np.array([[losses.min()], [losses.max()]]),
        precisions_init=np.ones((2, 1)),
        covariance_type='diag',
    )
    return mixture.fit(losses[:, None])


@QUICK
@given(st.integers(0, 10**6), st.lists(st.integers(2, 45), min_size=1, max_size=6))
@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
def test_mixtures_are_scikit_learns(seed, sizes):
    losses = rows(seed, sizes)
    exists = losses < float('inf')
    found, low = fit_mixture(torch.where(exists, losses, 0.0), exists), lower_group(losses)
    for i, size in enumerate(sizes):
        values = losses[i, :size].numpy()
        expected = sklearns(values)
        for ours, theirs in zip(found, (expected.weights_, expected.means_, expected.covariances_)):
            assert_close(ours[i].flatten(), torch.from_numpy(theirs.flatten()), rtol=1e-6, atol=1e-8)
        assert not low[i, size:].any()
        belongs = expected.predict(values[:, None]) == 0
        if belongs.any():
            density = np.where(belongs, expected.score_samples(values[:, None]), -np.inf)
            belongs &= np.arange(size) <= density.argmax()
        assert low[i, :size].tolist() == belongs.tolist()


@pytest.fixture(scope='module')
def head():
    return PAAHead(
        num_classes=NUM_CLASSES,
        in_channels=8,
        feat_channels=8,
        norm_cfg=None,
        topk=9,
        loss_bbox=dict(type='GIoULoss', loss_weight=1.3),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.5),
    )


class Decoded:
    """A coder of boxes that are decoded already."""

    def decode(self, anchors, boxes):
        return boxes


def their_losses(head, layout, gts, predicted, slot, owner):
    """mmdet's losses of candidates (P,)."""
    label = torch.full((len(layout.priors),), NUM_CLASSES)
    label[slot] = gts.labels[owner]
    boxes = torch.zeros_like(layout.priors)
    boxes[slot] = gts.bboxes[owner]
    ones = torch.ones(len(label), dtype=boxes.dtype)
    head.bbox_coder = Decoded()
    levels = layout.priors.split(layout.num_level_priors)
    ones4 = ones[:, None].expand(-1, 4)
    args = (predicted.logits, predicted.bboxes, label, ones, boxes, ones4, slot)
    return head.get_pos_loss(levels, *args)[0], label, ones, ones4, levels


@pytest.mark.filterwarnings('ignore::sklearn.exceptions.ConvergenceWarning')
@QUICK
@given(predicted_scenes())
def test_equals_mmdets_reassignment(head, scene):
    layout, images, predictions = scene
    batch = PAAAssigner().assign_batch(layout.priors, layout.num_level_priors, images, None, predictions)
    bags = IoUAssigner(0.1, 0.1).assign_batch(layout.priors, None, images)
    for i, (gts, predicted) in enumerate(zip(images, predictions)):
        slot = (bags.gt_inds[i] > 0).nonzero().flatten()
        owner = bags.gt_inds[i][slot] - 1
        if not len(slot):
            assert not batch.gt_inds[i].any()
            continue
        losses, label, ones, ones4, levels = their_losses(head, layout, gts, predicted, slot, owner)
        given = matching.collect([gts.bboxes], [gts.labels], layout.priors)
        stacked = matching.Predictions(predicted.bboxes[None], predicted.scores[None])
        assert_close(training_losses(given, stacked, slot, owner, 1.3), losses, rtol=1e-6, atol=1e-8)
        reassigned = head.paa_reassign(losses, label, ones, ones4, slot, owner, levels)[0]
        assert_close(batch.gt_inds[i] > 0, reassigned < NUM_CLASSES, rtol=0, atol=0)
        kept = reassigned < NUM_CLASSES
        assert_close(batch.gt_inds[i][kept], bags.gt_inds[i][kept], rtol=0, atol=0)


def test_candidates_of_a_level_are_at_most_k():
    """Every prediction is the object, with falling scores: the k best of the level, and no other, can be positive."""
    layout = make_layout(size=(64, 64), strides=(8,))
    gts = instances([[0.0, 0.0, 64.0, 64.0]])
    scores = torch.linspace(0.9, 0.1, 64)[:, None].expand(64, 2)
    predicted = InstanceData(bboxes=gts.bboxes.repeat(64, 1), scores=torch.stack([scores[:, 0], scores[:, 0] * 0], 1))
    found = PAAAssigner(topk=4).assign_batch(layout.priors, None, [gts], None, [predicted])
    candidates = IoUAssigner(0.1, 0.1).assign_batch(layout.priors, None, [gts]).gt_inds[0].nonzero().flatten()
    positive = found.gt_inds[0].nonzero().flatten()
    assert len(candidates) > 4 and 1 <= len(positive)
    assert set(positive.tolist()) <= set(candidates[:4].tolist())


def test_bad_input():
    layout, gts = make_layout(), [instances(random_boxes(2))]
    with pytest.raises(ValueError, match='PAAAssigner needs scores and bboxes .* this head does not pass'):
        PAAAssigner().assign_batch(layout.priors, None, gts)
    with pytest.raises(ValueError, match='pos_iou_thr'):
        PAAAssigner(pos_iou_thr=2)
