"""The embedded data set: the same bytes everywhere, honest boxes, and at home in mmdet's pipelines and metrics."""

import hashlib
from dataclasses import replace

import mmcv
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine import fileio
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from atss_plugin import ShapesDataset
from atss_plugin.datasets.scene import CLASSES, Shape, compose, paint, silhouette, surface

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(640, 480)),
    dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape', 'scale_factor', 'instances')),
]


@pytest.fixture(autouse=True)
def mmdet_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def shapes(**kwargs):
    return ShapesDataset(**{**dict(num_images=6, seed=3, pipeline=PIPELINE), **kwargs})


@pytest.mark.parametrize(
    'seed, index, size, digest',
    [
        pytest.param(0, 0, (288, 384), '0bfc8f68367f84ba', id='first training image'),
        pytest.param(1, 499, (288, 384), '7ce04e0c262c257e', id='last held-out image'),
        pytest.param(7, 12345, (300, 200), 'eb8ddff2ec0961b1', id='upright, odd size'),
    ],
)
def test_same_bytes_on_every_machine(seed, index, size, digest):
    scene = compose(seed, index, *size)
    image = paint(scene)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert hashlib.sha256(image.tobytes() + repr(scene.shapes).encode()).hexdigest()[:16] == digest


def test_the_path_of_an_image_is_its_picture():
    info = shapes().get_data_info(4)
    picture = mmcv.imfrombytes(fileio.get(info['img_path']))
    np.testing.assert_array_equal(picture, paint(compose(3, 4, 288, 384)))


def test_a_small_set_begins_a_large_one_and_seeds_share_no_image():
    small, large, other = (
        [set_[i] for i in range(4)]
        for set_ in (shapes(num_images=4), shapes(num_images=9), shapes(num_images=4, seed=4))
    )
    for a, b in zip(small, large):
        assert torch.equal(a['inputs'], b['inputs'])
        torch.testing.assert_close(
            a['data_samples'].gt_instances.bboxes.tensor, b['data_samples'].gt_instances.bboxes.tensor
        )
    assert not any(torch.equal(a['inputs'], b['inputs']) for a in small for b in other)


# of 4710 boxes of COCO 2017 (docs/data/stats_coco549.json): area below 32^2, below 96^2, above
COCO_SHARES = (0.340, 0.358, 0.302)


@pytest.mark.parametrize('seed', [pytest.param(0, id='training'), pytest.param(1, id='held out')])
def test_small_medium_and_large_as_often_as_on_coco(seed):
    scenes = [compose(seed, index, 288, 384).shapes for index in range(500)]
    boxes = np.array([shape.box for scene in scenes for shape in scene])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    shares = np.histogram(areas, [0, 32**2, 96**2, np.inf])[0] / len(areas)
    np.testing.assert_allclose(shares, COCO_SHARES, atol=0.05)
    labels = [shape.label for scene in scenes for shape in scene]
    np.testing.assert_allclose(np.bincount(labels) / len(labels), 1 / len(CLASSES), atol=0.03)


def test_a_scene_has_as_many_objects_as_drawn_less_those_that_would_hide_another():
    numbers = np.array([len(compose(0, index, 2000, 2000).shapes) for index in range(500)])  # room for all
    # COCO's quantiles (COCO549): 1, 2, 6, 14 and 20 at 0, 10, 50, 80 and 90 percent
    assert numbers.min() == 1
    np.testing.assert_allclose(np.percentile(numbers, [10, 50, 80, 90]), [2, 6, 14, 20], atol=2)


def test_nothing_is_hidden_by_what_lies_in_front_of_it():
    shares = [share for index in range(100) for share in covered(compose(1, index, 288, 384))]
    assert max(shares) <= 0.5 and np.mean(np.array(shares) > 0) > 0.3


def covered(scene):
    """The share of each box that lies under later ones, (G,), on the grid of pixels."""
    shares, front = [], np.zeros(scene.shape, dtype=bool)
    for x1, y1, x2, y2 in reversed([shape.box for shape in scene.shapes]):
        shares.append(front[y1:y2, x1:x2].mean())
        front[y1:y2, x1:x2] = True
    return shares


@pytest.mark.parametrize('size', [pytest.param((288, 384), id='default'), pytest.param((192, 200), id='smallest')])
def test_a_shape_fills_its_box_and_nothing_beside_it(size):
    for index in range(40):
        scene = compose(5, index, *size)
        bare = paint(replace(scene, shapes=()))
        for shape in scene.shapes:
            x1, y1, x2, y2 = shape.box
            assert 0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0]
            mask = silhouette(CLASSES[shape.label], y2 - y1, x2 - x1)
            assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()
            changed = (paint(replace(scene, shapes=(shape,))) != bare).any(-1)
            assert changed.any()
            changed[y1:y2, x1:x2][mask] = False
            assert not changed.any()


@pytest.mark.parametrize('label', range(len(CLASSES)), ids=CLASSES)
def test_every_part_of_an_object_tells_where_it_is(label):
    colours = surface(Shape(label, (0, 0, 64, 40), (128, 128, 128)), 40, 64).astype(int)
    assert (np.diff(colours[..., 0], axis=1) >= 0).all() and (np.diff(colours[..., 2], axis=0) >= 0).all()
    assert colours[0, -1, 0] - colours[0, 0, 0] > 100 and colours[-1, 0, 2] - colours[0, 0, 2] > 100
    # eight by eight checks
    changes = [(np.diff(colours[..., 1], axis=axis) != 0).sum(axis) for axis in (1, 0)]
    assert all((number == 7).all() for number in changes)


def test_the_green_of_an_object_is_its_classes():
    greens = {}
    for index in range(50):
        for shape in compose(2, index, 288, 384).shapes:
            greens.setdefault(shape.label, []).append(surface(shape, 30, 40)[..., 1])
    ranges = sorted((np.min(values), np.max(values)) for values in greens.values())
    assert len(ranges) == len(CLASSES)
    assert all(high <= low for (_, high), (low, _) in zip(ranges, ranges[1:]))


def test_workers_give_what_the_main_process_gives():
    def batches(**kwargs):
        dataset = shapes()
        loader = DataLoader(
            dataset, 2, sampler=DefaultSampler(dataset, shuffle=True, seed=0), collate_fn=pseudo_collate, **kwargs
        )
        return [image for _ in range(2) for batch in loader for image in batch['inputs']]

    workers = batches(num_workers=2, persistent_workers=True)
    assert len(workers) == 12
    for ours, reference in zip(workers, batches()):
        assert torch.equal(ours, reference)


@pytest.mark.parametrize(
    'shift, expected',
    [
        pytest.param(0, 1.0, id='the ground truth itself'),
        pytest.param(1000, 0.0, id='boxes elsewhere'),
    ],
)
def test_coco_metric_needs_no_annotation_file(shift, expected, tmp_path):
    dataset = shapes(test_mode=True)
    metric = CocoMetric(metric='bbox', outfile_prefix=str(tmp_path / 'result'))
    metric.dataset_meta = dataset.metainfo
    for sample in (dataset[i]['data_samples'] for i in range(len(dataset))):
        truth = sample.gt_instances
        factor = truth.bboxes.tensor.new_tensor(sample.scale_factor).repeat(2)
        metric.process(
            {},
            [
                dict(
                    **sample.metainfo,
                    pred_instances=dict(
                        bboxes=truth.bboxes.tensor / factor + shift, labels=truth.labels, scores=torch.ones(len(truth))
                    ),
                )
            ],
        )
    result = metric.evaluate(len(dataset))
    for size in ('', '_s', '_m', '_l'):
        assert result[f'coco/bbox_mAP{size}'] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    'wrong, message',
    [
        pytest.param(dict(num_images=0), 'num_images must be at least 1', id='no image'),
        pytest.param(dict(seed=-1), 'seed must not be negative', id='seed'),
        pytest.param(dict(img_shape=(100, 640)), 'img_shape must be at least 192 x 192', id='too small'),
    ],
)
def test_bad_arguments_name_what_to_change(wrong, message):
    with pytest.raises(ValueError, match=message):
        shapes(**wrong)


def test_a_wrong_path_is_no_file():
    with pytest.raises(FileNotFoundError, match='shapes://elsewhere.png is no path of ShapesDataset'):
        fileio.get('shapes://elsewhere.png')
