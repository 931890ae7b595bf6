"""Data in COCO's format: what is wrong with them is reported before training, with what to change."""

import copy
import json
import re

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmengine.config import Config
from mmengine.dataset import DefaultSampler

from atss_plugin import CocoDataset
from atss_plugin.analysis.ground_truth import read_ground_truth, read_image
from atss_plugin.analysis.input_geometry import InputGeometry
from atss_plugin.cli import main
from atss_plugin.datasets.annotations import check_annotations, read_annotations
from atss_plugin.errors import UsageError

IMAGE = dict(id=1, file_name='a.jpg', height=40, width=60)
BOX = dict(id=7, image_id=1, category_id=3, bbox=[2, 3, 20, 10], area=200, iscrowd=0)
CONTENT = dict(images=[IMAGE], annotations=[BOX], categories=[dict(id=3, name='cell')])
NONSENSE = [None, True, 'text', '', [], {}, -1, 0, 0.5, [1, 2], float('nan'), float('inf'), 10**400, [[1], 2, 3, 4]]
MISSING = object()


def write(folder, **annotation):
    """Write the smallest data set, with changes to its only annotation; None leaves a key out."""
    annotation = {key: value for key, value in {**BOX, **annotation}.items() if value is not None}
    (folder / 'ann.json').write_text(json.dumps({**CONTENT, 'annotations': [annotation]}))


def build(folder, classes=('cell',), kind=CocoDataset, **kwargs):
    return kind(
        data_root=str(folder),
        ann_file='ann.json',
        data_prefix=kwargs.pop('data_prefix', dict(img='')),
        metainfo=dict(classes=classes),
        serialize_data=False,  # which collects garbage, half a second
        **kwargs,
    )


def test_boxes_are_mmdets(tmp_path):
    write(tmp_path)
    assert build(tmp_path).get_data_info(0)['instances'] == [dict(ignore_flag=0, bbox=[2, 3, 22, 13], bbox_label=0)]


def test_missing_file_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match='data_root=.*COCO_ROOT'):
        build(tmp_path)


def test_missing_image_says_where_it_looked(tmp_path):
    write(tmp_path)
    dataset = build(tmp_path, data_prefix=dict(img='photos/'), pipeline=[dict(type='LoadImageFromFile')])
    with pytest.raises(FileNotFoundError, match='photos/'):
        dataset[0]


@pytest.mark.parametrize(
    'content',
    [pytest.param(b'', id='empty'), pytest.param(b'GIF89a', id='text'), pytest.param(b'\xff\xd8\xff\xe0', id='bytes')],
)
def test_an_image_that_cannot_be_read_is_named(tmp_path, content):
    write(tmp_path)
    (tmp_path / 'a.jpg').write_bytes(content)
    dataset = build(tmp_path, pipeline=[dict(type='LoadImageFromFile')])
    with pytest.raises(UsageError, match=r"a\.jpg' cannot be read as an image"):
        dataset[0]
    cfg = Config(dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='mmdet.LoadImageFromFile')]))))
    cfg.train_dataloader.dataset.pipeline[0].type = 'LoadImageFromFile'
    with pytest.raises(UsageError, match=r"a\.jpg' cannot be read as an image"):
        read_image(cfg, dataset, read_ground_truth(dataset, 0, InputGeometry()))


def test_errors_of_a_pipeline_that_are_not_the_images_stay(tmp_path):
    write(tmp_path)
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.zeros((40, 60, 3), np.uint8))
    dataset = build(tmp_path, pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(0, 0))])
    with pytest.raises(cv2.error):
        dataset[0]


def test_a_class_that_is_called_otherwise_is_not_dropped_silently(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"has 1 of the 2 classes \('cell', 'platelet'\)"):
        build(tmp_path, classes=('cell', 'platelet'))


def test_no_class_takes_all_of_the_file(tmp_path):
    categories = [dict(id=9, name='nucleus'), dict(id=3, name='cell')]
    (tmp_path / 'ann.json').write_text(json.dumps({**CONTENT, 'categories': categories}))
    dataset = build(tmp_path, classes=())
    assert dataset.metainfo['classes'] == ('nucleus', 'cell')
    assert dataset.get_data_info(0)['instances'][0]['bbox_label'] == 1


def test_a_missing_folder_of_images_in_the_config(tmp_path):
    write(tmp_path)
    with pytest.raises(UsageError, match="lacks 'img': write data_prefix"):
        CocoDataset(data_root=str(tmp_path), ann_file='ann.json', metainfo=dict(classes=('cell',)))


@pytest.mark.parametrize('side', [pytest.param(float('nan'), id='nan'), pytest.param(float('inf'), id='inf')])
def test_a_box_that_is_not_finite_names_its_image_everywhere(tmp_path, side, capsys):
    """In training, in `stats` and in `assign` alike."""
    write(tmp_path, bbox=[2, 3, side, 10])
    message = r'annotations\[0\] \(id 7, image_id 1\) has \[2, 3, .*\] as "bbox": it must be four finite numbers'
    with pytest.raises(UsageError, match=message):
        build(tmp_path)
    words = ['atss_r50_fpn_1x.py', '--ann', str(tmp_path / 'ann.json')]
    for command in (['stats', *words], ['assign', *words, '--out', str(tmp_path / 'out')]):
        assert main(command) == 2
        assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    'content, message',
    [
        pytest.param('{"images": [{"id": 1', r'not a whole JSON file \(.*line 1 column', id='cut off'),
        pytest.param('', 'not a whole JSON file', id='empty'),
        pytest.param('\xe9', 'not a whole JSON file', id='not UTF-8'),
        pytest.param('[' * 10**6, 'nested too deeply|not a whole JSON file', id='nested'),
        pytest.param('3', 'is not a COCO json', id='a number'),
        pytest.param('{"images": {}, "annotations": [], "categories": []}', '"images" is {} where a list', id='dict'),
    ],
)
def test_a_file_that_is_something_else_names_itself(tmp_path, content, message):
    (tmp_path / 'ann.json').write_bytes(content.encode('latin-1'))
    with pytest.raises(UsageError, match=f'ann.json.*{message}'):
        build(tmp_path)


@pytest.mark.parametrize(
    'part, change, message',
    [
        pytest.param('images', dict(height=None), r'images\[0\] \(id 1, file_name "a.jpg"\) lacks "height"', id='key'),
        pytest.param('images', dict(width=0), 'has 0 as "width": it must be a whole number of pixels', id='zero'),
        pytest.param('annotations', dict(category_id='3 '), 'no image to use', id='a category that is not there'),
        pytest.param('annotations', dict(area='200'), 'has "200" as "area": it must be a finite number', id='text'),
        pytest.param('categories', dict(name=None), r'categories\[0\] \(id 3\) lacks "name"', id='category'),
    ],
)
def test_the_entry_is_named(tmp_path, part, change, message):
    content = copy.deepcopy(CONTENT)
    (entry,) = content[part]
    entry.update(change)
    content[part] = [{key: value for key, value in entry.items() if value is not None}]
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        build(tmp_path, filter_cfg=dict(filter_empty_gt=True))


def test_ids_are_given_once():
    for part in CONTENT:
        content = {**CONTENT, part: CONTENT[part] * 2}
        with pytest.raises(UsageError, match=rf'{part}\[1\] .*has the id of {part}\[0\]'):
            check_annotations(content)


def test_a_missing_area_is_that_of_the_box_but_not_in_the_evaluation(tmp_path):
    """pycocotools' evaluation reads the file by itself, and fails after hours of training."""
    write(tmp_path, area=None)
    assert read_annotations(str(tmp_path / 'ann.json'))['annotations'][0]['area'] == 200
    assert len(build(tmp_path).get_data_info(0)['instances']) == 1
    with pytest.raises(UsageError, match='lacks "area", which COCO\'s evaluation needs'):
        build(tmp_path, test_mode=True)
    write(tmp_path, iscrowd=None)
    with pytest.raises(UsageError, match='lacks "iscrowd", which COCO\'s evaluation needs'):
        build(tmp_path, test_mode=True)


def test_images_without_annotations_can_be_predicted(tmp_path):
    """COCO's test-dev."""
    (tmp_path / 'ann.json').write_text(json.dumps({key: CONTENT[key] for key in ('images', 'categories')}))
    assert build(tmp_path, test_mode=True).get_data_info(0)['instances'] == []
    with pytest.raises(UsageError, match='lacks "images", "annotations"'):
        build(tmp_path)


def broken():
    """Every key of every kind of entry, and the entry itself, missing or of any kind of value."""
    for part in CONTENT:
        for key in (None, *CONTENT[part][0]):
            for value in (MISSING, *NONSENSE, [2, 3, 'x', 10], [2, 3, None, 10], [2, 3, 10**400, 10]):
                content = copy.deepcopy(CONTENT)
                content['images'].append(dict(IMAGE, id=2))
                content['annotations'].append(dict(BOX, id=8, image_id=2))
                if key is None:
                    content[part][0] = value
                elif value is MISSING:
                    del content[part][0][key]
                else:
                    content[part][0][key] = value
                if value is not MISSING or key is not None:
                    yield content


def test_whatever_is_broken_is_said_or_can_be_used(tmp_path):
    """Either the clear error, or the data can be sampled, read and described as mmdet's own data are."""
    refused = 0
    for content in broken():
        (tmp_path / 'ann.json').write_text(json.dumps(content))
        try:
            dataset = build(tmp_path, filter_cfg=dict(filter_empty_gt=True))
        except UsageError as error:
            assert 'ann.json' in str(error)
            refused += 1
            continue
        theirs = MMDetCocoDataset if has_areas(content) else CocoDataset
        theirs = build(tmp_path, kind=theirs, filter_cfg=dict(filter_empty_gt=True))
        for index in DefaultSampler(dataset, shuffle=False):
            truth = read_ground_truth(dataset, index, InputGeometry((60, 40)))
            assert np.isfinite(truth.bboxes).all() and min(truth.img_shape) > 0
            assert dataset.get_data_info(index) == theirs.get_data_info(index)
    assert refused > 150


def has_areas(content):
    return all('area' in annotation for annotation in content['annotations'])
