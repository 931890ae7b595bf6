"""Data in COCO's format: what is wrong with them is said before the training, with what to change."""

import json

import pytest

from atss_plugin import CocoDataset

IMAGE = dict(id=1, file_name='a.jpg', height=40, width=60)


def write(folder, **annotation):
    annotation = dict(dict(id=7, image_id=1, category_id=3, bbox=[2, 3, 20, 10], area=200, iscrowd=0), **annotation)
    content = dict(images=[IMAGE], annotations=[annotation], categories=[dict(id=3, name='cell')])
    (folder / 'ann.json').write_text(json.dumps(content))


def build(folder, classes=('cell',)):
    return CocoDataset(
        data_root=str(folder), ann_file='ann.json', data_prefix=dict(img=''), metainfo=dict(classes=classes)
    )


def test_boxes_are_mmdets(tmp_path):
    write(tmp_path)
    assert build(tmp_path).get_data_info(0)['instances'] == [dict(ignore_flag=0, bbox=[2, 3, 22, 13], bbox_label=0)]


def test_missing_file_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match='data_root=.*COCO_ROOT'):
        build(tmp_path)


def test_missing_image_says_where_it_looked(tmp_path):
    write(tmp_path)
    dataset = CocoDataset(
        data_root=str(tmp_path),
        ann_file='ann.json',
        data_prefix=dict(img='photos/'),
        metainfo=dict(classes=('cell',)),
        pipeline=[dict(type='LoadImageFromFile')],
    )
    with pytest.raises(FileNotFoundError, match='photos/'):
        dataset[0]


def test_a_class_that_is_called_otherwise_is_not_dropped_silently(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"has 1 of the 2 classes \('cell', 'platelet'\)"):
        build(tmp_path, classes=('cell', 'platelet'))


@pytest.mark.parametrize('side', [pytest.param(float('nan'), id='nan'), pytest.param(float('inf'), id='inf')])
def test_a_box_that_is_not_finite_names_its_image(tmp_path, side):
    write(tmp_path, bbox=[2, 3, side, 10])
    with pytest.raises(ValueError, match="annotation 7, on the image 'a.jpg', is not finite"):
        build(tmp_path)
