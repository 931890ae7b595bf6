"""What is reported about missed objects, against COCO's evaluation and loops."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atss_plugin.analysis.assignment import assign_image
from atss_plugin.analysis.misses import Misses, describe_learning, match_detections
from atss_plugin.analysis.misses_figure import save_misses_figure, wilson_interval
from atss_plugin.analysis.sample_definition import definition_of_name
from atss_plugin.cli import main
from atss_plugin.experiments import load_config
from tests.analysis.test_analysis import generator, scene  # noqa: F401


def detections_near(boxes, labels, random, count=60):
    """Detections of true and of other classes around some boxes."""
    chosen = random.integers(0, len(boxes), count)
    noisy = boxes[chosen] + random.normal(0, 3, (count, 4)).astype(np.float32)
    return InstanceData(
        bboxes=torch.from_numpy(noisy.astype(np.float32)),
        scores=torch.from_numpy(random.permutation(np.linspace(0.01, 0.99, count)).astype(np.float32)),
        labels=torch.from_numpy(np.where(random.random(count) < 0.8, labels[chosen], 1 - labels[chosen])),
    )


def found_by_coco(boxes, labels, detections, iou_thr):
    """{number of a ground truth: score of its detection}, as COCOeval has them."""
    coco = COCO()

    def xywh(box):
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    coco.dataset = dict(
        images=[dict(id=1, height=999, width=999)],
        categories=[dict(id=1), dict(id=2)],
        annotations=[
            dict(id=i + 1, image_id=1, category_id=int(label) + 1, bbox=xywh(box), area=1, iscrowd=0)
            for i, (box, label) in enumerate(zip(boxes, labels))
        ],
        info={},
    )
    coco.createIndex()
    results = coco.loadRes(
        [
            dict(image_id=1, category_id=int(label) + 1, bbox=xywh(box), score=float(score))
            for box, label, score in zip(detections.bboxes, detections.labels, detections.scores)
        ]
    )
    evaluation = COCOeval(coco, results, 'bbox')
    evaluation.params.iouThrs, evaluation.params.areaRng = np.array([iou_thr]), [[0, 1e10]]
    evaluation.evaluate()
    return {
        int(gt) - 1: results.anns[int(match)]['score']
        for image in evaluation.evalImgs
        if image
        for gt, match in zip(image['gtIds'], image['gtMatches'][0])
        if match
    }


@pytest.mark.parametrize('iou_thr', [0.5, 0.75])
@pytest.mark.parametrize('seed', range(4))
def test_what_is_found_is_what_coco_matches(seed, iou_thr):
    random = np.random.default_rng(seed)
    truth = scene(seed, count=14)
    labels = np.arange(len(truth.bboxes)) % 2
    detections = detections_near(truth.bboxes, labels, random)
    table = match_detections(truth.bboxes, labels, detections, iou_thr)
    expected = found_by_coco(truth.bboxes, labels, detections, iou_thr)
    assert set(np.flatnonzero(table['found'])) == set(expected) and 0 < len(expected) < len(table)
    for number, score in expected.items():
        assert table['score'][number] == pytest.approx(score)
    assert table['score'].isna().equals(~table['found'])


def test_the_best_overlap_is_that_of_a_detection_of_the_class():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], dtype=np.float32)
    detections = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 10]]),
        scores=torch.tensor([0.4, 0.9]),
        labels=torch.tensor([0, 1]),
    )
    table = match_detections(boxes, np.array([0, 0]), detections, 0.5)
    assert table['iou'].tolist() == [0.5, 0] and table['found'].tolist() == [True, False]
    assert table['score'][0] == pytest.approx(0.4)
    nothing = match_detections(boxes, np.array([0, 0]), detections[:0], 0.5)
    assert not nothing['found'].any() and nothing['iou'].tolist() == [0, 0]


@pytest.mark.parametrize('name', ['ATSS', 'IoU'])
def test_what_objects_are_learnt_from_equals_a_loop(generator, name):  # noqa: F811
    truth = scene(3, count=30)
    assignment = assign_image(definition_of_name(name, generator), truth)
    table = describe_learning(assignment)
    for number, (x1, y1, x2, y2) in enumerate(truth.bboxes.tolist()):
        mine = (assignment.gt_inds == number + 1).nonzero().flatten().tolist()
        assert table['positives'][number] == len(mine)
        ious = []
        for a1, b1, a2, b2 in assignment.grid.priors[mine].tolist():
            overlap = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            ious.append(overlap / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - overlap))
        if mine:
            assert table['best iou'][number] == pytest.approx(max(ious), abs=1e-5)
            levels = assignment.grid.level[mine].tolist()
            assert table['level'][number] == f'P{3 + max(sorted(set(levels)), key=levels.count)}'
        else:
            assert np.isnan(table['best iou'][number]) and pd.isna(table['level'][number])
    assert (table['positives'] == 0).any() and table['threshold'].isna().all() == (name == 'IoU')


@pytest.fixture
def misses():
    """Five small and five large objects with 0 and 9 positives."""
    objects = pd.DataFrame(
        {
            'image': 0,
            'object': range(10),
            'original size': [20.0] * 5 + [200.0] * 5,
            'crowdedness': 0.0,
            'found': [True, False, False, False, False] + [True] * 4 + [False],
            'score': [0.5, np.nan, np.nan, np.nan, np.nan, 0.9, 0.7, 0.5, 0.5, np.nan],
        }
    )
    learning = pd.DataFrame({'positives': [0] * 5 + [9] * 5, 'threshold': np.nan})
    return Misses(objects, {'ATSS': learning}, 0.5)


def test_recall_over_positives(misses, tmp_path):
    overall = misses.recall('ATSS')
    assert overall['ground truths'].tolist() == [5, 0, 0, 5, 0, 0]
    assert overall['recall'].dropna().tolist() == [0.2, 0.8]
    assert overall['score'].dropna().tolist() == pytest.approx([0.5, 0.65])
    by_size = misses.recall('ATSS', 'coco size')
    assert by_size.loc[('small', '0'), 'recall'] == 0.2 and by_size.loc[('large', '7–9'), 'recall'] == 0.8
    assert by_size['ground truths'].sum() == 10 and len(by_size) == 18
    records = misses.records()
    assert records[1]['score'] is None and records[5]['ATSS: positives'] == 9
    json.dumps(records, allow_nan=False)
    save_misses_figure(misses, 'title', tmp_path / 'a.png')
    assert (tmp_path / 'a.png').stat().st_size > 10_000


def test_wilsons_interval_at_known_points():
    # Newcombe 1998, Table I: 81 of 263, and 15 of 148, and 0 of 20
    low, high = wilson_interval(np.array([81 / 263, 15 / 148, 0]), np.array([263, 148, 20]))
    assert low.round(4).tolist() == [0.2553, 0.0624, 0] and high.round(4).tolist() == [0.3662, 0.1605, 0.1611]


def small_options():
    """The miniature on three validation images."""
    return ['val_dataloader.dataset.num_images=3']


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint of the miniature with many detections: untrained, with a bias that makes scores high."""
    torch.manual_seed(0)
    cfg = load_config('miniature.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.nn.init.constant_(model.bbox_head.atss_cls.bias, 0.0)
    path = tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.mark.slow
def test_the_command(checkpoint, tmp_path, capsys):
    words = ['misses', 'miniature.py', str(checkpoint), '--cfg-options', *small_options()]
    words += ['--iou-thr', '0.3', '--assigner', 'ATSS', 'SSC', '--out', str(tmp_path / 'out')]
    assert main([*words, '--json']) == 0
    objects = json.loads(capsys.readouterr().out)['objects']
    assert main(words) == 0
    output = capsys.readouterr().out
    assert 'SSC: recall over the number of positives, by crowdedness' in output
    assert (tmp_path / 'out/misses.png').is_file() and '| 7–9' in (tmp_path / 'out/misses.md').read_text()
    # what is saved is COCO's form, and its evaluation finds what the records say
    coco = COCO(str(tmp_path / 'out/objects.json'))
    results = coco.loadRes(str(tmp_path / 'out/detections.json'))
    assert len(coco.getImgIds()) == 3 and results.anns
    for record, annotation in zip(objects, coco.dataset['annotations']):
        assert {key: annotation[key] for key in record} == record
        assert coco.cats[annotation['category_id']]['name'] == record['class']
        assert annotation['area'] ** 0.5 == pytest.approx(record['original size'], rel=0.02)
    evaluation = COCOeval(coco, results, 'bbox')
    evaluation.params.iouThrs, evaluation.params.areaRng = np.array([0.3]), [[0, 1e10]]
    evaluation.evaluate()
    matched = sum((image['gtMatches'][0] > 0).sum() for image in evaluation.evalImgs if image)
    assert matched == sum(record['found'] for record in objects) > 0


@pytest.mark.parametrize(
    'words, message',
    [
        pytest.param(['nowhere.pth'], 'nowhere.pth', id='no checkpoint'),
        pytest.param(['CHECKPOINT', '--cfg-options', 'model.neck.out_channels=32'], 'does not fit', id='other model'),
        pytest.param([__file__], 'cannot be read as a checkpoint', id='something else'),
        pytest.param(['CHECKPOINT', '--limit', '0'], '--limit 0: give at least one image', id='limit'),
    ],
)
def test_bad_input(checkpoint, words, message, capsys):
    words = [str(checkpoint) if word == 'CHECKPOINT' else word for word in words]
    assert main(['misses', 'miniature.py', *words]) == 2
    assert message in capsys.readouterr().err
