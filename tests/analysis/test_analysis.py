"""What the analysis says about assigners, against loops, mmdet's own transforms and mmdet's own heads."""

import json

import mmcv
import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Resize
from mmdet.registry import MODELS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.structures import InstanceData

from atss_plugin.analysis.assignment import assign_image
from atss_plugin.analysis.assignment_figure import save_difference, save_positives, save_thresholds
from atss_plugin.analysis.ground_truth import GroundTruth, build_dataset, find_image, read_ground_truth, read_image
from atss_plugin.analysis.input_geometry import InputGeometry, input_geometry
from atss_plugin.analysis.sample_definition import SampleDefinition, definition_of_config, definition_of_name
from atss_plugin.analysis.statistics import claim_counts, collect_statistics, evenly_spread
from atss_plugin.analysis.statistics_figure import save_statistics_figure
from atss_plugin.experiments import load_config

NAMES = [
    'ATSS',
    'ATSS:topk=3',
    'IoU',
    'SSC',
    'CenterSampling',
    'TopKIoU',
    'mmdet.ATSSAssigner:topk=9',
    'mmdet.MaxIoUAssigner:pos_iou_thr=0.5,neg_iou_thr=0.4',
]
RED = np.array([0xE3, 0x00, 0x0F])


@pytest.fixture(scope='module')
def generator():
    return definition_of_config(load_config('atss_r50_fpn_1x.py')).prior_generator


def scene(seed, shape=(256, 320), count=12, ignored=0):
    """An image with boxes of all sizes, some of them crowded together."""
    random = np.random.default_rng(seed)
    sides = 2 ** random.uniform(2, 7.5, (count, 2))
    centers = random.uniform(0, 1, (count, 2)) * shape[::-1]
    centers[count // 2 :] = centers[:1] + random.normal(0, 20, (count - count // 2, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    boxes = np.clip(boxes, 0, [*shape[::-1]] * 2).astype(np.float32)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 1).all(axis=1)]
    crowds = np.array([[10, 10, 90, 90]], dtype=np.float32).repeat(ignored, axis=0)
    return GroundTruth(f'{seed}.jpg', shape, shape, shape, boxes, np.zeros(len(boxes), np.int64), crowds, seed)


def coco_json(path, images, annotations):
    """Write a COCO json; images are (name, height, width), annotations (image, xywh, iscrowd)."""
    content = dict(
        images=[dict(id=i, file_name=name, height=h, width=w) for i, (name, h, w) in enumerate(images)],
        annotations=[
            dict(id=i, image_id=image, category_id=7, bbox=list(box), area=box[2] * box[3], iscrowd=crowd)
            for i, (image, box, crowd) in enumerate(annotations)
        ],
        categories=[dict(id=7, name='thing')],
    )
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize('size', [(480, 640), (640, 480), (333, 1000), (427, 640), (1201, 777), (32, 3000)])
@pytest.mark.parametrize(
    'config',
    [
        pytest.param('atss_r50_fpn_1x.py', id='keeps the ratio'),
        pytest.param('mmdet::ssd/ssd300_coco.py', id='a fixed size'),
        pytest.param('table8/atss_r101_fpn_2x.py', id='several sizes in training: that of the test'),
    ],
)
def test_geometry_is_that_of_mmdets_resize(config, size):
    geometry = input_geometry(load_config(config))
    boxes = np.array([[0, 0, 31, 30], [5, 7, 20, 29], [-3, 2, 5000, 9]], dtype=np.float32)
    expected = Resize(scale=geometry.scale, keep_ratio=geometry.keep_ratio)(
        dict(img=np.zeros((*size, 3), np.uint8), img_shape=size, gt_bboxes=HorizontalBoxes(boxes))
    )
    assert geometry.input_shape(*size) == expected['img_shape']
    torch.testing.assert_close(torch.from_numpy(geometry.scale_boxes(boxes, *size)), expected['gt_bboxes'].tensor)


def test_padding_and_configs_without_resize():
    assert InputGeometry(divisor=32).pad_shape(800, 1067) == (800, 1088)
    cfg = Config(dict(model=dict(), train_dataloader=dict(dataset=dict(pipeline=[dict(type='RandomFlip')]))))
    assert input_geometry(cfg).input_shape(123, 45) == (123, 45)


def test_ground_truth_of_a_coco_json(tmp_path):
    file = coco_json(
        tmp_path / 'a.json',
        [('a.jpg', 100, 200), ('b.jpg', 100, 100)],
        [(0, (10, 20, 30, 40), 0), (0, (0, 0, 50, 50), 1), (1, (1, 2, 3, 4), 0)],
    )
    dataset = build_dataset(Config(), file)
    truth = read_ground_truth(dataset, 0, InputGeometry((400, 200), divisor=32))
    assert (truth.name, truth.ori_shape, truth.img_shape, truth.pad_shape) == (
        'a.jpg',
        (100, 200),
        (200, 400),
        (224, 416),
    )
    assert truth.bboxes.tolist() == [[20, 40, 80, 120]] and truth.ignored.tolist() == [[0, 0, 100, 100]]
    assert find_image(dataset, 'folder/b.jpg') == 1
    with pytest.raises(ValueError, match='no image'):
        find_image(dataset, 'c.jpg')


@pytest.mark.parametrize(
    'content, message',
    [
        pytest.param('[]', 'is not a COCO json', id='a list'),
        pytest.param('{"images": []}', 'lacks "images", "annotations" or "categories"', id='no annotations'),
    ],
)
def test_what_is_not_a_coco_json(tmp_path, content, message):
    (tmp_path / 'a.json').write_text(content)
    with pytest.raises(ValueError, match=message):
        build_dataset(Config(), str(tmp_path / 'a.json'))
    with pytest.raises(FileNotFoundError, match='no annotation file'):
        build_dataset(Config(), str(tmp_path / 'b.json'))


def test_pixels_come_from_the_configs_own_data_set(tmp_path):
    cfg = load_config('miniature.py')
    dataset = build_dataset(cfg)
    truth = read_ground_truth(dataset, 3, input_geometry(cfg))
    image = read_image(cfg, dataset, truth)
    assert image.shape == (*truth.img_shape, 3) and image.std() > 5
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[..., 0] = 200  # blue, as OpenCV writes it
    mmcv.imwrite(pixels, str(tmp_path / 'a.png'))
    file = coco_json(tmp_path / 'a.json', [('a.png', 20, 40)], [(0, (1, 1, 9, 9), 0)])
    coco = load_config('atss_r50_fpn_1x.py')
    with_file, without = (build_dataset(coco, file, folder) for folder in (str(tmp_path), 'nowhere'))
    truth = read_ground_truth(with_file, 0, InputGeometry())
    assert read_image(coco, with_file, truth)[5, 5].tolist() == [0, 0, 200]
    assert (read_image(coco, without, truth) == 255).all()


@pytest.mark.parametrize('name', NAMES)
def test_counts_equal_a_loop_over_single_images(generator, name):
    definition = definition_of_name(name, generator)
    scenes = [scene(seed, shape) for seed, shape in enumerate([(256, 320), (128, 320), (256, 320)])]
    statistics = collect_statistics(definition, [*scenes, scene(9, count=0)])
    lines = {}
    for truth in scenes:
        grid = definition.grid(truth.pad_shape)
        assigner = definition.assigner
        arguments = {} if 'MaxIoU' in name else dict(num_level_priors=grid.num_level_priors)
        gt_inds = assigner.assign(InstanceData(priors=grid.priors), gt_instances=truth.instances(), **arguments).gt_inds
        for number, box in enumerate(truth.bboxes):
            levels, first = [], 0
            for count in grid.num_level_priors:
                levels.append(sum(int(i) == number + 1 for i in gt_inds[first : first + count]))
                first += count
            lines[float(np.sqrt(np.prod(box[2:] - box[:2])))] = levels
    frame = statistics.frame
    assert len(frame) == len(lines) == sum(len(truth.bboxes) for truth in scenes)
    for _, line in frame.iterrows():
        levels = lines[min(lines, key=lambda size: abs(size - line['size']))]
        assert line[definition.levels].tolist() == levels and line['positives'] == sum(levels)
    assert statistics.overall()['images'] == 4
    assert statistics.overall()['positives'] == sum(map(sum, lines.values()))


def test_summary_of_known_lines(generator):
    definition = definition_of_name('IoU', generator)
    statistics = collect_statistics(definition, [scene(1)], ambiguity_images=0)
    frame = statistics.frame.iloc[:4].copy()
    frame['positives'], frame['size'] = [0, 2, 4, 7], [31.9, 32.0, 63, 600]
    frame[definition.levels] = [[0] * 5, [2, 0, 0, 0, 0], [1, 3, 0, 0, 0], [0, 0, 0, 0, 7]]
    statistics.frame = frame
    by_size = statistics.by('size')
    assert by_size['ground truths'].tolist() == [1, 2, 0, 0, 0, 1]
    assert by_size['mean'].dropna().tolist() == [0, 3, 7]
    assert by_size['unmatched'].dropna().tolist() == [1, 0, 0]
    assert statistics.level_share().tolist() == pytest.approx([3 / 13, 3 / 13, 0, 0, 7 / 13])
    overall = statistics.overall()
    assert overall['positives per ground truth'] == 3.25 and overall['without a positive'] == 0.25
    assert json.loads(json.dumps(statistics.to_dict()))['overall']['ambiguous anchors'] is None


def test_boxes_are_described_in_original_and_input_pixels(generator):
    boxes = np.array([[0, 0, 100, 50], [0, 0, 100, 100], [300, 300, 310, 340]], dtype=np.float32)
    truth = GroundTruth('', (200, 200), (400, 400), (416, 416), boxes, np.zeros(3, np.int64), boxes[:0], 0)
    frame = collect_statistics(definition_of_name('ATSS', generator), [truth]).frame
    assert frame['size'].tolist() == pytest.approx([5000**0.5, 100, 20])
    assert frame['original size'].tolist() == pytest.approx([5000**0.5 / 2, 50, 10])
    assert frame['elongation'].tolist() == pytest.approx([2, 1, 4])
    assert frame['crowdedness'].tolist() == pytest.approx([0.5, 0.5, 0])


@pytest.mark.parametrize(
    'count, number, indices',
    [(30, 20, None), (3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (5, 1, [0]), (5, 0, []), (0, 3, [])],
)
def test_evenly_spread(count, number, indices):
    found = evenly_spread(count, number)
    assert len(set(found)) == min(count, number)
    assert indices is None or found == indices


def test_ambiguous_anchors_are_those_that_several_boxes_would_take_alone(generator):
    # FCOS's rule leaves it to arithmetic: inside the box, and the longest distance within the level's range
    definition, truth = definition_of_name('SSC', generator), scene(4)
    grid = definition.grid(truth.pad_shape)
    ranges = [(-1, 64), (64, 128), (128, 256), (256, 512), (512, float('inf'))]
    expected = []
    for (x, y), level in zip(grid.centers().tolist(), grid.level.tolist()):
        sides = [(x - b[0], y - b[1], b[2] - x, b[3] - y) for b in truth.bboxes.tolist()]
        expected.append(sum(min(s) > 0.01 and ranges[level][0] <= max(s) <= ranges[level][1] for s in sides))
    assert claim_counts(definition, truth).tolist() == expected and max(expected) > 1
    statistics = collect_statistics(definition, [truth])
    assert statistics.ambiguous == sum(count > 1 for count in expected)
    assert statistics.claimed == sum(count > 0 for count in expected)


def test_crowd_regions_reach_the_assigner(generator):
    definition = definition_of_name('ATSS:ignore_iof_thr=0.5', generator)
    assert (definition.assign([scene(1, ignored=1)]) == -1).any()
    assert not (definition.assign([scene(1)]) == -1).any()


@pytest.mark.parametrize(
    'config, name, place',
    [
        pytest.param('retinanet/retinanet_r50_fpn_1x_coco.py', 'bbox_head', 0, id='RetinaHead'),
        pytest.param('gfl/gfl_r50_fpn_1x_coco.py', 'bbox_head', 1, id='GFLHead'),
        pytest.param('atss/atss_r50_fpn_1x_coco.py', 'bbox_head', 1, id='ATSSHead'),
        pytest.param('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'rpn_head', 0, id='RPNHead of a two-stage detector'),
    ],
)
def test_positives_equal_those_of_mmdets_own_heads(config, name, place):
    cfg = load_config(f'mmdet::{config}')
    # all positives, not a sample of them
    cfg.merge_from_dict(
        {'model.train_cfg.rpn.sampler': dict(_delete_=True, type='PseudoSampler')} if 'rpn' in name else {}
    )
    definition, truth = definition_of_config(cfg), scene(5)
    train_cfg = cfg.model.train_cfg.get('rpn', cfg.model.train_cfg)
    extra = dict(num_classes=1) if 'rpn' in name else {}
    head = MODELS.build({**cfg.model[name], 'train_cfg': train_cfg, 'test_cfg': cfg.model.test_cfg, **extra})
    sizes = [tuple(-(-side // stride[0]) for side in (256, 320)) for stride in head.prior_generator.strides]
    meta = dict(img_shape=(256, 320), pad_shape=(256, 320))
    anchors, flags = head.get_anchors(sizes, [meta], device='cpu')
    truth_instances = truth.instances()
    labels = torch.cat(head.get_targets(anchors, flags, [truth_instances], [meta])[place], dim=1)[0]
    assert ((definition.assign([truth])[0] > 0) == (labels < head.num_classes)).all()
    assert (labels < head.num_classes).sum() > 10


def test_heads_that_keep_anchors_within_the_image(generator):
    cfg = load_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', {'model.train_cfg.allowed_border': 0})
    definition, truth = definition_of_config(cfg), scene(5)
    positive = definition.grid(truth.pad_shape).priors[definition.assign([truth])[0] > 0]
    assert len(positive) and positive.min() >= 0 and (positive[:, 2:] <= torch.tensor([320, 256])).all()


@pytest.mark.parametrize(
    'config, message',
    [
        pytest.param('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 'FCOSHead has no assigner', id='no assigner'),
        pytest.param('yolox/yolox_s_8xb8-300e_coco.py', 'SimOTAAssigner decides by the predictions', id='predictions'),
        pytest.param('ddod/ddod_r50_fpn_1x_coco.py', 'ATSSAssigner decides by the predictions', id='ATSS with a cost'),
    ],
)
def test_heads_that_cannot_be_seen(config, message):
    with pytest.raises(ValueError, match=message):
        definition_of_config(load_config(f'mmdet::{config}'))


def test_tood_starts_with_atss(generator):
    definition, truth = definition_of_config(load_config('mmdet::tood/tood_r50_fpn_1x_coco.py')), scene(2)
    assert definition.label == 'mmdet ATSS (topk=9)' and definition.levels == ['P3', 'P4', 'P5', 'P6', 'P7']
    same = SampleDefinition('', definition.prior_generator, definition_of_name('ATSS', generator).assigner)
    assert definition.assign([truth]).equal(same.assign([truth]))


@pytest.mark.parametrize(
    'name, message',
    [
        ('ATTS', "no assigner 'ATTS': give one of ATSS, IoU"),
        ('ATSSAssigner', 'a type with its scope'),
        ('ATSS:k=3', 'unexpected keyword argument'),
        ('ATSS:topk', 'write options as NAME:key=value'),
        ('ATSS:topk=9)+(1', 'write options as NAME:key=value'),
        ('ATSS:topk=0', 'topk must be a whole number'),
    ],
)
def test_unknown_assigners(generator, name, message):
    with pytest.raises(ValueError, match=message):
        definition_of_name(name, generator)


def test_names_say_what_is_compared(generator):
    assert [definition_of_name(name, generator).label for name in NAMES] == [
        'ATSS',
        'ATSS (topk=3)',
        'IoU',
        'SSC',
        'CenterSampling',
        'TopKIoU',
        'mmdet ATSS (topk=9)',
        'mmdet MaxIoU (pos_iou_thr=0.5, neg_iou_thr=0.4)',
    ]


def test_mmdets_candidates_are_as_many_anchors_a_level(generator):
    ours, theirs = (definition_of_name(name, generator) for name in ('ATSS', 'mmdet.ATSSAssigner:topk=9'))
    boxes = torch.from_numpy(scene(1).bboxes)
    torch.testing.assert_close(
        ours.candidates((256, 320), boxes).threshold, theirs.candidates((256, 320), boxes).threshold
    )
    assert ours.note == '' and '9 anchors per level' in theirs.note
    assert definition_of_name('IoU', generator).candidates((256, 320), boxes) is None


def pixels(path):
    return mmcv.imread(str(path), channel_order='rgb').reshape(-1, 3)


def test_pictures_mark_what_is_unmatched_and_nothing_else(generator, tmp_path):
    image = np.full((256, 320, 3), 255, np.uint8)
    box = np.array([[40, 40, 110, 100]], dtype=np.float32)
    outside = np.concatenate([box, [[200, 100, 203, 101]]]).astype(np.float32)  # too small to hold an anchor's centre
    for name, boxes in (('matched', box), ('unmatched', outside)):
        truth = GroundTruth(name, (256, 320), (256, 320), (256, 320), boxes, np.zeros(len(boxes), np.int64), box[:0], 0)
        assignment = assign_image(definition_of_name('ATSS', generator), truth)
        assert assignment.unmatched().tolist() == [False, True][: len(boxes)]
        save_positives([assignment], image, name, tmp_path / f'{name}.png', outlines=True)
    red = [(pixels(tmp_path / f'{name}.png') == RED).all(axis=1).any() for name in ('matched', 'unmatched')]
    assert red == [False, True]


def test_pictures_of_many_boxes_and_none(generator, tmp_path):
    image = np.zeros((256, 320, 3), np.uint8)
    for truth in (scene(3, count=80), scene(3, count=0)):
        assignments = [assign_image(definition_of_name(name, generator), truth) for name in ('ATSS', 'IoU')]
        save_positives(assignments, image, 'title', tmp_path / 'a.png')
        save_difference(*assignments, image, 'title', tmp_path / 'b.png')
        if len(truth.bboxes):
            save_thresholds(assignments[0], image, 'title', tmp_path / 'c.png')
        assert all(len(np.unique(pixels(tmp_path / f'{name}.png'), axis=0)) > 10 for name in 'ab')


def test_a_difference_needs_the_same_anchors(generator, tmp_path):
    nine = definition_of_config(load_config('table7/imprs_a9.py'))
    pair = [assign_image(definition, scene(1)) for definition in (definition_of_name('ATSS', generator), nine)]
    with pytest.raises(ValueError, match='choose from different anchors'):
        save_difference(*pair, np.zeros((256, 320, 3), np.uint8), '', tmp_path / 'a.png')


def test_figure_of_statistics(generator, tmp_path):
    statistics = [
        collect_statistics(definition_of_name(name, generator), [scene(i) for i in range(8)])
        for name in ('ATSS', 'SSC')
    ]
    save_statistics_figure(statistics, 'title', tmp_path / 'with.png', expected=9)
    save_statistics_figure(statistics[1:], 'title', tmp_path / 'without.png')
    assert (pixels(tmp_path / 'with.png') != 255).any() and (tmp_path / 'without.png').stat().st_size > 10_000
