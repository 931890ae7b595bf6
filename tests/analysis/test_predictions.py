"""Definitions that decide by predictions, against what mmdet's own heads give their assigners, and training inputs."""

import functools
import json

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from atss_plugin.analysis.detector import Predictor, decode_outputs, predict_batch
from atss_plugin.analysis.images import ResizedImages, TrainingImages
from atss_plugin.analysis.sample_definition import (
    SampleDefinition,
    definition_of_config,
    definition_of_name,
    instances_for,
)
from atss_plugin.analysis.statistics import claim_counts
from atss_plugin.cli import main
from atss_plugin.experiments import load_config
from tests.analysis.test_analysis import coco_json, generator, scene  # noqa: F401
from tests.analysis.test_misses import checkpoint  # noqa: F401

SHAPE = (288, 384)  # at least 3 x 3 on the last level, for deformable convolutions
MMDET = ['mmdet.SimOTAAssigner', 'mmdet.TaskAlignedAssigner:topk=13', 'mmdet.DynamicSoftLabelAssigner']


def head_of(config, **changes):
    cfg = load_config(config)
    head = MODELS.build(
        {**cfg.model.bbox_head, 'train_cfg': cfg.model.train_cfg, 'test_cfg': cfg.model.test_cfg, **changes}
    )
    head.init_weights()
    return head


def features(head, channels):
    torch.manual_seed(0)
    strides = [stride[0] for stride in head.prior_generator.strides]
    return [torch.randn(1, channels, -(-SHAPE[0] // s), -(-SHAPE[1] // s)) for s in strides]


def recorded_call(assigner, monkeypatch, run):
    """The first call of a head's assigner: (pred_instances, what the assigner answered)."""
    calls, original = [], assigner.assign

    @functools.wraps(original)
    def record(*args, **kwargs):
        result = original(*args, **kwargs)
        calls.append((kwargs.get('pred_instances', args[0] if args else None), result))
        return result

    monkeypatch.setattr(assigner, 'assign', record)
    run()
    return calls[0]


def run_loss(head, outputs, truth):
    metas = [dict(img_shape=SHAPE, pad_shape=SHAPE, batch_input_shape=SHAPE)]
    head.loss_by_feat(*outputs, [truth.instances()], metas)


@pytest.mark.parametrize(
    'config, name',
    [
        pytest.param('mmdet::tood/tood_r50_fpn_1x_coco.py', 'alignment_assigner', id='TOODHead, points'),
        pytest.param('mmdet::tood/tood_r50_fpn_anchor-based_1x_coco.py', 'alignment_assigner', id='TOODHead, anchors'),
        pytest.param('mmdet::ddod/ddod_r50_fpn_1x_coco.py', 'cls_assigner', id='DDODHead'),
    ],
)
def test_predictions_are_what_mmdets_heads_give_their_assigners(config, name, monkeypatch):
    head, truth = head_of(config), scene(1, SHAPE, count=4)
    MessageHub.get_current_instance().update_info('epoch', 99)  # TOOD begins with ATSS
    assigner, feats = getattr(head, name), features(head, 256)
    with torch.no_grad():
        outputs = head(feats)
        given, answered = recorded_call(assigner, monkeypatch, lambda: run_loss(head, outputs, truth))
        boxes, scores = decode_outputs(head, *outputs[:2])
    predictions = InstanceData(bboxes=boxes[0], scores=scores[0])
    ours = instances_for(assigner, given.priors, torch.ones(len(given.priors), 2), predictions)
    for field in ('priors', 'bboxes', 'scores'):
        torch.testing.assert_close(ours[field], given[field], rtol=1e-4, atol=1e-4)
    definition = SampleDefinition('', head.prior_generator, assigner)
    assert definition.needs_predictions
    assert definition.assign([truth], [predictions])[0].equal(answered.gt_inds) and (answered.gt_inds > 0).any()


def test_points_with_strides_are_those_of_yolox(generator, monkeypatch):  # noqa: F811
    head = head_of('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py')
    truth, feats = scene(1, SHAPE, count=4), features(head, 96)
    with torch.no_grad():
        outputs = head(feats)
        given, _ = recorded_call(head.assigner, monkeypatch, lambda: run_loss(head, outputs, truth))
    definition = definition_of_name('mmdet.SimOTAAssigner', generator, with_model=True)
    grid = definition.grid(SHAPE)
    kept = grid.level < 3  # YOLOX has three levels, from the same stride
    strides = torch.tensor(generator.strides)[grid.level]
    predictions = InstanceData(bboxes=grid.priors, scores=torch.rand(len(grid.priors), 2))
    ours = instances_for(definition.assigner, grid.priors, strides, predictions)
    assert ours.priors[kept].equal(given.priors) and ours.scores.equal(predictions.scores)
    assert 0 <= given.scores.min() and given.scores.max() <= 1  # probabilities


def test_our_heads_boxes_and_scores_are_those_of_its_detections():
    for config in ('table1/fcos.py', 'table1/retinanet.py'):
        head = head_of(config, num_classes=3, loss_centerness=None)
        outputs = head(features(head, 256))
        cfg = load_config(config).model.test_cfg
        cfg.update(score_thr=0.0, nms_pre=-1, min_bbox_size=-1)
        meta = dict(img_shape=(10_000, 10_000))  # nothing is clipped
        found = head.predict_by_feat(*outputs, batch_img_metas=[meta], cfg=cfg, with_nms=False)[0]
        boxes, scores = (item[0].detach() for item in decode_outputs(head, *outputs[:2]))
        assert len(found) == scores.numel()
        for label in range(3):
            mine = found[found.labels == label]
            torch.testing.assert_close(mine.scores.sort().values, scores[:, label].sort().values)
            order, expected = mine.scores.argsort(), scores[:, label].argsort()
            assert mine.bboxes[order[-1]].clamp(min=0).allclose(boxes[expected[-1]].clamp(min=0), atol=1e-3)


@pytest.mark.parametrize('name', MMDET)
def test_a_definition_by_predictions_asks_for_them(generator, name):  # noqa: F811
    definition, truth = definition_of_name(name, generator, with_model=True), scene(2)
    with pytest.raises(ValueError, match='give a checkpoint of the config by --checkpoint FILE'):
        definition.assign([truth])
    grid = definition.grid(truth.pad_shape)
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(len(grid.priors), 3, generator=random)
    predictions = InstanceData(
        bboxes=grid.priors + 4 * torch.randn(grid.priors.shape, generator=random), scores=logits.sigmoid()
    )
    centers, strides = grid.centers(), torch.tensor(generator.strides)[grid.level].float()
    point_like = 'TaskAligned' not in name
    given = InstanceData(
        priors=torch.cat([centers, strides], 1) if point_like else grid.priors,
        bboxes=predictions.bboxes,
        scores=logits if 'SoftLabel' in name else predictions.scores,
    )
    expected = definition.assigner.assign(given, truth.instances()).gt_inds
    definition.predict = lambda asked: predictions if asked is truth else None
    assert definition.assign([truth])[0].equal(expected) and (expected > 0).sum() > 10
    assert definition.candidates(truth.pad_shape, torch.from_numpy(truth.bboxes)) is None
    with pytest.raises(ValueError, match='the model predicts 7 boxes'):
        definition.assign([truth], [predictions[:7]])


def test_our_definitions_by_predictions_are_given_them_with_the_batch(generator):  # noqa: F811
    asked = []

    class Assigner:
        needs_predictions = True

        def assign_batch(self, priors, num_level_priors, instances, ignored, predictions):
            asked.append((priors, predictions))
            return InstanceData(gt_inds=torch.ones(len(instances), len(priors), dtype=torch.long))

    definition, truths = SampleDefinition('', generator, Assigner()), [scene(0), scene(1)]

    def predict(truth):
        boxes = definition.grid(truth.pad_shape).priors + truth.index
        return InstanceData(bboxes=boxes, scores=torch.full((len(boxes), 2), 0.25))

    definition.predict = predict
    assert definition.assign(truths).shape[0] == 2
    ((priors, predictions),) = asked
    assert [float((item.bboxes - priors).max()) for item in predictions] == [0, 1]
    # DDOD's definition wants logits
    assert all(torch.allclose(item.logits.sigmoid(), item.scores) for item in predictions)
    # alone in its image, a ground truth meets the same predictions
    assert claim_counts(definition, truths[0]).equal(torch.full((len(priors),), len(truths[0].bboxes)))


def miniature(flip=0.0, **options):
    few = {'train_dataloader.dataset.num_images': 8, 'train_dataloader.dataset.pipeline.3.prob': flip}
    return load_config('miniature.py', {**few, **options})


def test_training_inputs_are_what_the_pipeline_makes():
    """With a flip of every image: the mirror of the whole image."""
    whole, mirrored = ResizedImages(miniature()), TrainingImages(miniature(flip=1.0))
    truth, flipped = whole.truth(3), mirrored.truth(3)
    width = truth.img_shape[1]
    expected = np.stack(
        [width - truth.bboxes[:, 2], truth.bboxes[:, 1], width - truth.bboxes[:, 0], truth.bboxes[:, 3]], 1
    )
    np.testing.assert_allclose(flipped.bboxes, expected, atol=1e-4)
    assert (whole.pixels(truth)[:, ::-1] == mirrored.pixels(flipped)).all()
    assert (flipped.name, flipped.pad_shape, flipped.ori_shape) == (truth.name, truth.pad_shape, truth.ori_shape)
    same = TrainingImages(miniature())
    np.testing.assert_allclose(same.truth(3).bboxes, truth.bboxes, atol=1e-4)


def mosaic():
    """The miniature with YOLOX's mosaics."""
    cfg = miniature()
    inner = cfg.train_dataloader.dataset
    pipeline = [*inner.pipeline[:2]], [dict(type='Mosaic', img_scale=(320, 240)), inner.pipeline[-1]]
    inner.pipeline = pipeline[0]
    cfg.train_dataloader.dataset = dict(type='MultiImageMixDataset', dataset=inner, pipeline=pipeline[1])
    return cfg


@pytest.mark.slow
def test_mosaics_are_drawn_from_the_seed():
    state = np.random.get_state()[1].copy()
    first, second, other = (TrainingImages(mosaic(), seed=seed) for seed in (0, 0, 1))
    truths = [images.truth(5) for images in (first, second, other)]
    assert np.array_equal(truths[0].bboxes, truths[1].bboxes) and len(truths[0].bboxes)
    assert not (truths[0].bboxes.shape == truths[2].bboxes.shape and np.array_equal(truths[0].bboxes, truths[2].bboxes))
    assert truths[0].img_shape == (480, 640)  # four images
    assert (first.pixels(truths[0]) == second.pixels(truths[1])).all()
    assert (np.random.get_state()[1] == state).all()
    assert first.find('folder/000007.png') == 7


def test_a_coco_json_takes_the_place_of_the_training_set(tmp_path):
    file = coco_json(tmp_path / 'a.json', [('a.png', 48, 64)], [(0, (10, 12, 30, 24), 0), (0, (0, 0, 20, 20), 1)])
    import mmcv

    mmcv.imwrite(np.full((48, 64, 3), 90, np.uint8), str(tmp_path / 'a.png'))
    truth = TrainingImages(miniature(flip=1.0), file, str(tmp_path)).truth(0)
    assert truth.bboxes.tolist() == [[240, 120, 540, 360]] and truth.ignored.tolist() == [[440, 0, 640, 200]]
    assert truth.ori_shape == (48, 64)


def test_the_model_sees_the_image_as_its_pipeline_makes_it(checkpoint):  # noqa: F811
    cfg = miniature()
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    images = ResizedImages(cfg)
    truth = images.truth(2)
    packed = TrainingImages(cfg).sample(2)['inputs']
    expected = predict_batch(model, [packed])[0]
    predicted = Predictor(model.train(), images)(truth)
    assert model.training
    torch.testing.assert_close(predicted.bboxes, expected.bboxes)
    torch.testing.assert_close(predicted.scores, expected.scores)
    assert len(predicted) == sum(n * m for n, m in [(60, 80), (30, 40), (15, 20), (8, 10), (4, 5)])
    truth.labels[0] = 9
    with pytest.raises(ValueError, match='has boxes of class 9, the model has 4 classes'):
        Predictor(model, images)(truth)


def test_heads_whose_outputs_are_unknown():
    head = head_of('mmdet::gfl/gfl_r50_fpn_1x_coco.py')
    with pytest.raises(ValueError, match='the predictions of GFLHead cannot be decoded here'):
        decode_outputs(head, *head(features(head, 256)))


@pytest.mark.slow
def test_the_commands(checkpoint, tmp_path, capsys):  # noqa: F811
    config, end = 'miniature.py', ['--checkpoint', str(checkpoint)]
    words = ['assign', config, '--assigner', 'ATSS', *MMDET, '--out', str(tmp_path), '--index', '2', '--json']
    few = ['--cfg-options', 'train_dataloader.dataset.num_images=3']
    assert main([*words, *end, *few, '--pipeline', 'train', '--seed', '3']) == 0
    content = json.loads(capsys.readouterr().out)
    truth = TrainingImages(load_config(config, {'train_dataloader.dataset.num_images': 3}), seed=3).truth(2)
    assert [g['bbox'] for g in content['assigners'][0]['ground_truths']] == truth.bboxes.tolist()
    labels = ['ATSS', 'mmdet SimOTA', 'mmdet TaskAligned (topk=13)', 'mmdet DynamicSoftLabel']
    assert [entry['assigner'] for entry in content['assigners']] == labels
    assert all(sum(g['positives'] for g in entry['ground_truths']) for entry in content['assigners'])
    assert main(['stats', config, '--assigner', 'mmdet.SimOTAAssigner', '--json', *end, *few]) == 0
    overall = json.loads(capsys.readouterr().out)['assigners'][0]['overall']
    assert overall['images'] == 3 and overall['positives per ground truth'] >= 0.5
    page = tmp_path / 'page.html'
    assert main(['explore', config, '--assigner', 'config', MMDET[1], '--out', str(page), *end, *few]) == 0
    assert '"label":"mmdet TaskAligned (topk=13)"' in page.read_text()
    assert main(['stats', config, '--assigner', 'mmdet.SimOTAAssigner', *few]) == 2
    assert 'by --checkpoint FILE' in capsys.readouterr().err


def test_a_white_image_is_not_an_input_for_a_model(checkpoint, tmp_path, capsys):  # noqa: F811
    file = coco_json(tmp_path / 'a.json', [('a.png', 48, 64)], [(0, (10, 12, 30, 24), 0)])
    words = ['assign', 'miniature.py', '--ann', file, '--assigner', 'mmdet.SimOTAAssigner']
    assert main([*words, '--checkpoint', str(checkpoint), '--out', str(tmp_path)]) == 2
    assert 'a.png' in capsys.readouterr().err


def test_definitions_of_heads_by_predictions():
    cfg = load_config('mmdet::ddod/ddod_r50_fpn_1x_coco.py')
    with pytest.raises(ValueError, match='by --checkpoint FILE'):
        definition_of_config(cfg)
    assert definition_of_config(cfg, with_model=True).needs_predictions


def test_the_hook_asks_the_model_of_the_training(checkpoint):  # noqa: F811
    from types import SimpleNamespace

    from mmdet.registry import HOOKS

    cfg = miniature()
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    definition = definition_of_name('mmdet.SimOTAAssigner', model.bbox_head.prior_generator, with_model=True)
    model.bbox_head.assigner = definition.assigner
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    packed = [TrainingImages(cfg).sample(index) for index in (2, 4)]
    batch = {key: [sample[key] for sample in packed] for key in ('inputs', 'data_samples')}
    assert isinstance(batch['data_samples'][0], DetDataSample)
    hub = MessageHub.get_instance(f'hook{id(model)}')
    hook = HOOKS.build(dict(type='atss_plugin.AssignmentStatsHook', interval=1))
    runner = SimpleNamespace(model=model, message_hub=hub, iter=0)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0, batch)
    images = TrainingImages(cfg)
    definition.predict = Predictor(model, images)
    truths = [images.truth(index) for index in (2, 4)]
    expected = int((definition.assign(truths) > 0).sum()) / sum(len(truth.bboxes) for truth in truths)
    assert hub.get_scalar('train/assignment/positives_per_gt').current() == pytest.approx(expected)
    assert model.training and all(before[name].equal(value) for name, value in model.state_dict().items())
