"""Soft voting equals the recipe written as plain loops, and the TTA model feeds it the right detections."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from atss_plugin.tta import SoftVotingTTA, soft_voting, within_size_range
from tests.configs.helpers import build, load, shrink
from tests.conftest import ROOT

CONFIG = ROOT / 'configs/table8/atss_x101_32x8d_fpn_dcn_2x_ms.py'
# The recipe: the shorter side of a scale and the sqrt(area), in pixels of the image resized to it, that are kept of its
# detections, bounds excluded; 800 is the plain test scale.
SIZE_RANGES = {
    400: (96, 10000),
    500: (96, 10000),
    600: (64, 10000),
    640: (64, 10000),
    700: (0, 10000),
    900: (0, 10000),
    1000: (0, 10000),
    1100: (0, 256),
    1200: (0, 256),
    1300: (0, 192),
    1400: (0, 192),
    1800: (0, 96),
    800: (0, math.inf),
}


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union > 0 else 0.0


def vote_by_loops(boxes, scores, labels, iou_thr=0.66, score_thr=0.05):
    """The recipe in plain loops, one detection at a time; (score, label, x1, y1, x2, y2), not sorted."""
    results = []
    for label in set(labels):
        remaining = [i for i in range(len(scores)) if labels[i] == label]
        while remaining:
            best = max(remaining, key=lambda i: (scores[i], -i))
            group = [i for i in remaining if i == best or iou(boxes[i], boxes[best]) >= iou_thr]
            remaining = [i for i in remaining if i not in group]
            if len(group) == 1:
                results.append((scores[best], label, *boxes[best]))
                continue
            total = sum(scores[i] for i in group)
            mean = [sum(scores[i] * boxes[i][side] for i in group) / total for side in range(4)]
            results.append((scores[best], label, *mean))
            for i in group:
                softened = scores[i] * (1 - iou(boxes[i], boxes[best]))
                if i != best and softened >= score_thr:
                    results.append((softened, label, *boxes[i]))
    return results


def assert_equals_loops(boxes, scores, labels):
    """Detections as lists; compared as sets in double precision."""
    expected = sorted(vote_by_loops(boxes, scores, labels))
    tensors = (
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float64),
        torch.tensor(labels, dtype=torch.long),
    )
    voted, voted_scores, voted_labels = soft_voting(*tensors, max_per_img=len(scores))
    assert torch.equal(voted_scores, voted_scores.sort(descending=True)[0])
    actual = sorted(
        (score, label, *box) for score, label, box in zip(voted_scores.tolist(), voted_labels.tolist(), voted.tolist())
    )
    assert len(actual) == len(expected)
    torch.testing.assert_close(
        torch.tensor(actual).reshape(-1, 6), torch.tensor(expected).reshape(-1, 6), rtol=1e-5, atol=1e-5
    )


# Few positions, sizes and scores: equal scores, equal boxes, boxes without area, IoUs of exactly 0.66.
_COORDINATE = st.integers(0, 3).map(lambda value: 17.0 * value)
_SIDE = st.sampled_from([0.0, 33.0, 50.0, 66.0, 100.0])
_DETECTION = st.tuples(
    _COORDINATE, _COORDINATE, _SIDE, _SIDE, st.sampled_from([0.05, 0.25, 0.25, 0.5, 0.75, 1.0]), st.integers(0, 1)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_DETECTION, max_size=14))
def test_equals_loops_with_ties(detections):
    boxes = [[x, y, x + width, y + height] for x, y, width, height, _, _ in detections]
    assert_equals_loops(boxes, [d[4] for d in detections], [d[5] for d in detections])


@pytest.mark.parametrize('seed', range(12))
def test_equals_loops_on_clusters(seed):
    rng = np.random.RandomState(seed)
    number, objects, classes = rng.randint(1, 260), rng.randint(1, 12), rng.randint(1, 5)
    corners = rng.uniform(0, 300, (objects, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 200, (objects, 2))], axis=1)
    boxes = boxes[rng.randint(objects, size=number)] + rng.normal(0, 6, (number, 4))
    boxes = np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:], boxes[:, :2])], axis=1)
    scores, labels = rng.uniform(0.05, 1, number), rng.randint(classes, size=number)
    assert_equals_loops(boxes.tolist(), scores.tolist(), labels.tolist())


def test_a_class_larger_than_a_chunk_equals_loops():
    rng = np.random.RandomState(0)
    corners = rng.uniform(0, 100, (700, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 40, (700, 2))], axis=1)
    assert_equals_loops(boxes.tolist(), rng.uniform(0.05, 1, 700).tolist(), [3] * 700)


def test_a_chain_is_cut_where_the_best_ends():
    # Each overlaps the next by 80/120 >= 0.66 and no other enough: 0 takes 1, 2 takes 3, and 4 is alone.
    boxes = [[20.0 * i, 0.0, 20.0 * i + 100, 10.0] for i in range(5)]
    boxes, scores, labels = soft_voting(
        torch.tensor(boxes), torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), torch.zeros(5).long()
    )
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.7, 0.5, 0.8 / 3, 0.6 / 3]))
    starts = [20 * 0.8 / 1.7, (40 * 0.7 + 60 * 0.6) / 1.3, 80.0, 20.0, 60.0]
    torch.testing.assert_close(boxes[:, 0], torch.tensor(starts))


@pytest.mark.parametrize(
    'width, joins',
    [
        pytest.param(66.0, True, id='exactly 0.66 joins'),
        pytest.param(65.9, False, id='less does not'),
    ],
)
def test_iou_threshold(width, joins):
    boxes = torch.tensor([[0.0, 0.0, 100.0, 10.0], [0.0, 0.0, width, 10.0]])
    _, scores, _ = soft_voting(boxes, torch.tensor([1.0, 0.5]), torch.tensor([0, 0]))
    torch.testing.assert_close(scores, torch.tensor([1.0, 0.5 * 0.34 if joins else 0.5]))


def test_groups_of_one_keep_every_bit():
    boxes = torch.tensor([[0.1, 0.2, 10.3, 9.7], [0.1, 0.2, 10.3, 9.7]])
    scores = torch.tensor([0.3, 0.7])
    voted, voted_scores, labels = soft_voting(boxes, scores, torch.tensor([4, 2]))
    assert torch.equal(voted, boxes) and torch.equal(voted_scores, scores.flip(0))
    assert labels.tolist() == [2, 4]


def test_zero_scores_and_empty_input():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]])
    voted, scores, _ = soft_voting(boxes, torch.zeros(2), torch.zeros(2).long())
    assert torch.equal(voted, boxes[:1]) and scores.tolist() == [0.0]
    shapes = [tuple(part.shape) for part in soft_voting(boxes[:0], boxes[:0, 0], torch.zeros(0).long())]
    assert shapes == [(0, 4), (0,), (0,)]


def test_keeps_the_best_results():
    boxes = torch.arange(1500.0)[:, None] * 20 + torch.tensor([0.0, 0.0, 10.0, 10.0])
    scores = torch.linspace(0.06, 1, 1500)
    assert torch.equal(soft_voting(boxes, scores, torch.zeros(1500).long())[1], scores.flip(0)[:1000])


class Echo(nn.Module):
    """A stand-in for a detector, which finds what ``detect`` returns in each view."""

    def __init__(self, detect):
        super().__init__()
        self.detect = detect

    def test_step(self, data):
        samples = []
        for image, sample in zip(data['inputs'], data['data_samples']):
            boxes, scores, labels = self.detect(image, sample)
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels)
            samples.append(sample)
        return samples


def views_of(image):
    """What the config's pipeline makes of an image (H, W, 3): the batch that reaches the TTA model."""
    init_default_scope('mmdet')
    transform = TRANSFORMS.build(Config.fromfile(CONFIG).tta_pipeline[1])
    shape = image.shape[:2]
    views = transform(dict(img=image, img_id=1, img_path='', ori_shape=shape, img_shape=shape))
    return {key: [[view] for view in views[key]] for key in ('inputs', 'data_samples')}


def build_tta(detect):
    tta_model = Config.fromfile(CONFIG).tta_model
    return MODELS.build(dict(tta_model, module=Echo(detect)))


def test_pipeline_gives_every_scale_plain_and_flipped():
    samples = [sample for (sample,) in views_of(np.zeros((120, 400, 3), np.uint8))['data_samples']]
    seen = [(sample.img_shape, sample.flip) for sample in samples]
    # The image is 3 1/3 times as long as high: the longer side limits it.
    expected = []
    for shorter in SIZE_RANGES:
        factor = min(shorter / 120, (1333 if shorter <= 800 else 3000) / 400)
        shape = (int(120 * factor + 0.5), int(400 * factor + 0.5))
        expected += [(shape, False), (shape, True)]
    assert seen == expected


def test_flips_and_scales_are_undone():
    """A bright rectangle is found by its pixels in every view; all of them must agree on where it is."""
    image = np.zeros((90, 150, 3), np.uint8)
    image[20:60, 30:100] = 255

    def detect(view, sample):
        rows, columns = (view[0] > 127).nonzero(as_tuple=True)
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        box /= torch.tensor(sample.scale_factor).repeat(2)
        return box[None], torch.tensor([0.5]), torch.tensor([7])

    (result,) = build_tta(detect).test_step(views_of(image))
    assert result.img_id == 1 and result.pred_instances.labels.tolist() == [7]  # one group
    torch.testing.assert_close(
        result.pred_instances.bboxes, torch.tensor([[30.0, 20.0, 100.0, 60.0]]), rtol=0, atol=0.2
    )


# What is kept of a scale, as sqrt(area) in pixels of the original image, by hand: the recipe's range times the original
# side over the resized one. At 400 a 640 x 480 image is 5/6 as large: 96 pixels there are 115.2 here. The longer
# side of the panorama is 1333 at every scale up to 800, 4/3 of the original, and 3000 at the others.
LOWER_AND_UPPER = {
    '4:3': (
        {400: 115.2, 500: 92.16, 600: 51.2, 640: 48.0},
        {1100: 111.71, 1200: 102.4, 1300: 70.89, 1400: 65.83, 1800: 25.6},
    ),
    'small': (
        {400: 23.04, 500: 18.43, 600: 10.24, 640: 9.6},
        {1100: 22.34, 1200: 20.48, 1300: 14.18, 1400: 13.17, 1800: 5.12},
    ),
    'panorama': (
        {400: 72.0, 500: 72.0, 600: 48.0, 640: 48.0},
        {1100: 85.33, 1200: 85.33, 1300: 64, 1400: 64, 1800: 32},
    ),
}


@pytest.mark.parametrize(
    'width, height, kind',
    [
        pytest.param(640, 480, '4:3', id='landscape'),
        pytest.param(480, 640, '4:3', id='portrait'),
        pytest.param(128, 96, 'small', id='small'),
        pytest.param(1000, 200, 'panorama', id='the longer side limits'),
    ],
)
def test_each_scale_keeps_its_sizes_in_the_resized_image(width, height, kind):
    """Every view reports boxes just below and above every bound, in a class of its own, so nothing merges."""
    lower, upper = LOWER_AND_UPPER[kind]
    sizes = torch.tensor(
        [bound * factor for bound in {*lower.values(), *upper.values()} for factor in (0.99, 1.01)] + [0.5, 500.0]
    )

    def detect(_, sample):
        label = 2 * min(sample.scale) + int(sample.flip)
        start = torch.arange(len(sizes)) * 6000.0
        boxes = torch.stack([start, start, start + sizes / 2, start + sizes * 2], dim=1)
        return boxes, torch.full_like(sizes, 0.5), torch.full_like(sizes, label).long()

    model = build_tta(detect)
    model.max_per_img = 10000
    (result,) = model.test_step(views_of(np.zeros((height, width, 3), np.uint8)))
    boxes, labels = result.pred_instances.bboxes, result.pred_instances.labels
    found = sorted(zip(labels.tolist(), (2 * (boxes[:, 2] - boxes[:, 0])).tolist()))
    expected = sorted(
        (2 * shorter + flip, size)
        for shorter in SIZE_RANGES
        for flip in range(2)
        for size in sizes.tolist()
        if lower.get(shorter, 0) < size < upper.get(shorter, math.inf)
    )
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=0.01)


def test_a_real_detector_is_filtered_by_its_output_before_it_is_rescaled():
    """Of a scale of 7/3, plain and flipped, those detections are kept whose sizes the head itself gave in the range."""
    config = load('atss_r50_fpn_1x.py').model
    config.test_cfg.score_thr = 0.0
    detector = build(shrink(config)).eval()
    scale, image = (400, 140), np.random.RandomState(0).randint(0, 256, (60, 90, 3), dtype=np.uint8)
    pipeline = Config.fromfile(CONFIG).tta_pipeline[1]
    pipeline['transforms'][0] = [dict(type='Resize', scale=scale, keep_ratio=True)]
    views = TRANSFORMS.build(pipeline)(
        dict(img=image, img_id=1, img_path='', ori_shape=image.shape[:2], img_shape=image.shape[:2])
    )
    own = []
    with torch.no_grad():
        for view, sample in zip(views['inputs'], views['data_samples']):
            data = detector.data_preprocessor(dict(inputs=[view], data_samples=[deepcopy(sample)]))
            own += [s.pred_instances for s in detector.predict(data['inputs'], data['data_samples'], rescale=False)]
    sides = torch.cat([found.bboxes[:, 2:] - found.bboxes[:, :2] for found in own])
    sizes, scores = sides.prod(-1).sqrt(), torch.cat([found.scores for found in own])
    # bounds that nothing is near: in the middle of the widest gaps of the lower and of the upper half
    ordered = sizes.unique()
    half, gaps = len(ordered) // 2, ordered.diff()
    low, high = (ordered[i] + gaps[i] / 2 for i in (gaps[:half].argmax(), half + gaps[half:].argmax()))
    kept = (sizes > low) & (sizes < high)
    assert 0 < kept.sum() < len(kept)
    model = SoftVotingTTA(
        [(scale, (low.item(), high.item()))], iou_thr=1.1, score_thr=0, max_per_img=1000, module=detector
    )
    batch = {key: [[view] for view in views[key]] for key in ('inputs', 'data_samples')}
    with torch.no_grad():
        (result,) = model.test_step(batch)
    torch.testing.assert_close(result.pred_instances.scores, scores[kept].sort(descending=True)[0])


def test_bounds_are_excluded():
    """Sides of 24, 48 and 64 in the original image are 96, 192 and 256 in one four times as wide and high."""
    boxes = torch.tensor([[0.0, 0.0, side, side] for side in (0, 24, 25, 47, 48, 64)])
    kept = {
        limits: within_size_range(boxes, limits, (4.0, 4.0)).int().tolist()
        for limits in ((96, 192), (0, 256), (0, 10000), None)
    }
    assert kept == {
        (96, 192): [0, 0, 1, 1, 0, 0],
        (0, 256): [0, 1, 1, 1, 1, 0],
        (0, 10000): [0, 1, 1, 1, 1, 1],
        None: [1, 1, 1, 1, 1, 1],
    }
    assert within_size_range(boxes[2:3], (50, 51), (1.0, 4.0)).tolist() == [False]  # sqrt(25 * 100) is the bound
    assert within_size_range(boxes[2:3], (49, 51), (1.0, 4.0)).tolist() == [True]


def test_no_detection_in_any_view():
    nothing = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long()
    (result,) = build_tta(lambda *_: nothing).test_step(views_of(np.zeros((50, 60, 3), np.uint8)))
    assert len(result.pred_instances) == 0


@pytest.mark.parametrize(
    'size_ranges, message',
    [
        pytest.param([], 'empty', id='no scale'),
        pytest.param(
            [
                ((1333, 400),),
            ],
            'a scale and a range',
            id='no range',
        ),
        pytest.param([((1333, 400), (96, 32))], 'smallest, largest', id='range upside down'),
        pytest.param([((1333, 400), None), ((1333, 400), None)], 'twice', id='scale twice'),
    ],
)
def test_bad_size_ranges(size_ranges, message):
    with pytest.raises(ValueError, match=message):
        SoftVotingTTA(size_ranges, module=Echo(None))


@pytest.mark.parametrize(
    'scale, message',
    [
        pytest.param({}, 'its scale: .*meta_keys', id='view without a scale'),
        pytest.param(dict(scale=(1333, 400)), 'its scale_factor: .*meta_keys', id='view without a scale factor'),
        pytest.param(dict(scale=(1333, 500), scale_factor=(1.0, 1.0)), r'\(1333, 500\)', id='scale without a range'),
    ],
)
def test_views_that_do_not_fit_the_size_ranges(scale, message):
    sample = DetDataSample(metainfo=dict(ori_shape=(9, 9), flip=False, flip_direction=None, **scale))
    sample.pred_instances = InstanceData(bboxes=torch.zeros(1, 4), scores=torch.ones(1), labels=torch.zeros(1).long())
    model = SoftVotingTTA([((1333, 400), None)], module=Echo(None))
    with pytest.raises(ValueError, match=message):
        model.merge_preds([[sample]])
