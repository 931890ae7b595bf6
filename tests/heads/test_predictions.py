"""What the head passes to assigners that look at predictions: everything, without a gradient, and nothing changes."""

import pytest
import torch
from mmdet.models.task_modules import DynamicSoftLabelAssigner
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin.assigners import ATSSAssigner, DDODAssigner, TaskAlignedAssigner
from atss_plugin.heads.targets import MMDET_PREDICTIONS, assign_images, needs_predictions
from tests.heads.helpers import ATSS, BATCHES, BOX, POINT, STRIDES, Trained, batch, train_step

OURS = ['SimOTAAssigner', 'TaskAlignedAssigner', 'PAAAssigner', 'DDODAssigner']
MMDETS = [dict(type='mmdet.SimOTAAssigner'), dict(type='mmdet.TaskAlignedAssigner', topk=13)]
MMDETS.append(dict(type='mmdet.DynamicSoftLabelAssigner'))
STARTS = {'box': BOX, 'point': POINT}


def config(name: str) -> dict:
    strides = dict(strides=STRIDES) if name == 'SimOTAAssigner' else {}
    return dict(type=f'atss_plugin.{name}', **strides)


class Looking(ATSSAssigner):
    """An ATSS that keeps the predictions that it is given."""

    needs_predictions = True

    def match(self, priors, num_level_priors, gts, predictions=None):
        self.shown, self.priors = predictions, priors
        return super().match(priors, num_level_priors, gts)


@pytest.mark.parametrize('start', STARTS)
def test_what_is_passed(start):
    """The head's own outputs: decoded boxes, probabilities of the classification alone, and logits."""
    model = Trained(dict(**STARTS[start], train_cfg=ATSS))
    head, (feats, samples) = model.head, batch(BATCHES['both'][0], 0)
    head.assigner = Looking()
    model(feats, samples)
    outputs = head(feats)
    for i, shown in enumerate(head.assigner.shown):
        levels = [maps[i].permute(1, 2, 0) for maps in outputs[0]]
        logits = torch.cat([level.reshape(-1, head.num_classes) for level in levels])
        deltas = torch.cat([maps[i].permute(1, 2, 0).reshape(-1, 4) for maps in outputs[1]])
        assert_close(shown.logits, logits.detach())
        assert_close(shown.scores, logits.detach().sigmoid())
        assert_close(shown.bboxes, head.bbox_coder.decode(head.assigner.priors, deltas).detach())
        assert not any(field.requires_grad for field in (shown.logits, shown.scores, shown.bboxes))


@pytest.mark.parametrize('start', STARTS)
def test_passing_changes_neither_losses_nor_gradients(start):
    model, given = Trained(dict(**STARTS[start], train_cfg=ATSS)), batch(BATCHES['both'][0], 0)
    without = train_step(model, *given)
    model.head.assigner = Looking()
    with_predictions = train_step(model, *given)
    assert len(model.head.assigner.shown) == 2
    assert_close(with_predictions, without, rtol=0, atol=0)


def test_nothing_is_passed_to_those_that_do_not_look(monkeypatch):
    model = Trained(dict(**BOX, train_cfg=ATSS))
    monkeypatch.setattr('atss_plugin.heads.one_stage.predict_all', None)
    model(*batch(BATCHES['both'][0], 0))


@pytest.mark.parametrize('start', STARTS)
@pytest.mark.parametrize('images', ['both', 'one image without', 'no objects'])
@pytest.mark.parametrize('assigner', [*map(config, OURS), *MMDETS], ids=lambda cfg: cfg['type'])
def test_trains(assigner, images, start):
    """A step, whose losses are those of the assignment made outside of the head."""
    model = Trained(dict(**STARTS[start], train_cfg=dict(assigner=assigner)))
    losses, gradients = train_step(model, *batch(BATCHES[images][0], 0))
    assert all(torch.isfinite(loss) for loss in losses.values())
    for name, gradient in gradients.items():
        assert gradient is not None and torch.isfinite(gradient).all(), name
    assert (losses['loss_bbox'] > 0) == (images != 'no objects')


@pytest.mark.parametrize('name, theirs', [('SimOTAAssigner', MMDETS[0]), ('TaskAlignedAssigner', MMDETS[1])])
def test_ours_and_mmdets_give_the_same_losses(name, theirs):
    results = []
    for assigner in (config(name), theirs):
        model = Trained(dict(**POINT, train_cfg=dict(assigner=assigner)))
        results.append(train_step(model, *batch(BATCHES['both'][0], 0)))
    assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_ddod_reads_logits_of_our_heads_and_scores_of_mmdets():
    model = Trained(dict(**BOX, train_cfg=ATSS))
    model.head.assigner = Looking()
    feats, samples = batch(BATCHES['both'][0], 0)
    model(feats, samples)
    shown, priors = model.head.assigner.shown, model.head.assigner.priors
    gts = [sample.gt_instances for sample in samples]
    mmdets = [InstanceData(bboxes=p.bboxes, scores=p.logits) for p in shown]
    found = [DDODAssigner().assign_batch(priors, None, gts, None, p).gt_inds for p in (shown, mmdets)]
    assert (found[0] > 0).any()
    assert_close(*found, rtol=0, atol=0)


def test_dynamic_soft_labels_get_points_with_strides_and_logits():
    """As RTMDet's head gives them: the same assignment as by hand."""
    model = Trained(dict(**POINT, train_cfg=ATSS))
    model.head.assigner = Looking()
    feats, samples = batch(BATCHES['both'][0], 0)
    model(feats, samples)
    shown, priors = model.head.assigner.shown, model.head.assigner.priors
    gts = [sample.gt_instances for sample in samples]
    strides = [STRIDES[0]] * 64 + [STRIDES[1]] * 16
    by_hand = []
    for predicted, gt in zip(shown, gts):
        rows = [[(x1 + x2) / 2, (y1 + y2) / 2, s, s] for (x1, y1, x2, y2), s in zip(priors.tolist(), strides)]
        given = InstanceData(priors=torch.tensor(rows), bboxes=predicted.bboxes, scores=predicted.logits)
        by_hand.append(DynamicSoftLabelAssigner().assign(given, gt).gt_inds)
    pairs = [(s, s) for s in STRIDES]
    found = assign_images(DynamicSoftLabelAssigner(), priors, [64, 16], gts, None, shown, pairs)
    assert (found.gt_inds > 0).any()
    assert_close(found.gt_inds, torch.stack(by_hand), rtol=0, atol=0)


def test_who_looks():
    assert needs_predictions(TaskAlignedAssigner()) and needs_predictions(DDODAssigner())
    assert not needs_predictions(ATSSAssigner())
    for kind in MMDET_PREDICTIONS:
        assert needs_predictions(kind(topk=13) if 'TaskAligned' in kind.__name__ else kind())


def test_where_no_predictions_can_be_had():
    priors = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    gts = [InstanceData(bboxes=priors, labels=torch.tensor([0]))]
    with pytest.raises(ValueError, match='DynamicSoftLabelAssigner looks at predictions: give bboxes and scores'):
        assign_images(DynamicSoftLabelAssigner(), priors, [1], gts, None)
    with pytest.raises(ValueError, match='TaskAlignedAssigner needs scores and bboxes .* this head does not pass'):
        assign_images(TaskAlignedAssigner(), priors, [1], gts, None)
