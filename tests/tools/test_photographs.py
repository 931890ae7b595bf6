"""tools/photographs.py: two public data sets, from the form in which they are published to COCO's."""

import json

import mmcv
import numpy as np
import pytest

from tests.conftest import ROOT

VOC = """<annotation><filename>any.jpg</filename><size><width>640</width><height>480</height></size>
<object><name>{}</name><bndbox><xmin>124</xmin><ymin>195</ymin><xmax>240</xmax><ymax>294</ymax></bndbox></object>
<object><name>RBC</name><bndbox><xmin>7</xmin><ymin>7</ymin><xmax>7</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def photographs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    import photographs

    return photographs


def save_image(path, width, height):
    mmcv.imwrite(np.zeros((height, width, 3), dtype=np.uint8), str(path), auto_mkdir=True)


def boxes_and_images(out, split):
    data = json.loads((out / f'{split}.json').read_text())
    boxes = [(a['image_id'], a['category_id'], a['bbox'], a['area']) for a in data['annotations']]
    return boxes, [(i['id'], i['file_name'], i['width'], i['height']) for i in data['images']]


def test_bccd_from_voc(photographs, tmp_path, monkeypatch):
    source, out = tmp_path / 'source', tmp_path / 'out'
    (source / 'Annotations').mkdir(parents=True)
    for name, kind in (('b', 'Platelets'), ('a', 'WBC')):
        (source / 'Annotations' / f'{name}.xml').write_text(VOC.format(kind))
        save_image(source / 'JPEGImages' / f'{name}.jpg', 640, 480)
    monkeypatch.setattr(photographs, 'BCCD_TRAIN', 1)
    monkeypatch.setattr('sys.argv', ['photographs.py', 'bccd', str(source), '--out', str(out)])
    photographs.main()
    # the first by name trains; a box without a width is left out
    assert boxes_and_images(out, 'train') == ([(1, 2, [124.0, 195.0, 116.0, 99.0], 11484.0)], [(1, 'a.jpg', 640, 480)])
    assert boxes_and_images(out, 'val') == ([(2, 3, [124.0, 195.0, 116.0, 99.0], 11484.0)], [(2, 'b.jpg', 640, 480)])
    assert (out / 'images' / 'a.jpg').read_bytes() == (source / 'JPEGImages' / 'a.jpg').read_bytes()


def test_aquarium_from_yolo(photographs, tmp_path, monkeypatch):
    source, out = tmp_path / 'source', tmp_path / 'out'
    line = '0 0.578125 0.392578125 0.07291666666666667 0.25390625'
    for split, label in (('train', None), ('valid', line), ('test', '')):
        save_image(source / split / 'images' / f'{split}.jpg', 768, 1024)
        if label is not None:
            (source / split / 'labels').mkdir()
            (source / split / 'labels' / f'{split}.txt').write_text(label)
    monkeypatch.setattr('sys.argv', ['photographs.py', 'aquarium', str(source), '--out', str(out)])
    photographs.main()
    assert boxes_and_images(out, 'train') == ([], [(1, 'train.jpg', 312, 416)])
    expected = [(2, 1, [169.0, 110.5, 22.75, 105.625], 2402.969)]
    assert boxes_and_images(out, 'val') == (expected, [(2, 'valid.jpg', 312, 416), (3, 'test.jpg', 312, 416)])
    assert mmcv.imread(str(out / 'images' / 'valid.jpg')).shape[:2] == (416, 312)


def test_a_wrong_folder_is_named(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['photographs.py', 'bccd', str(tmp_path), '--out', str(tmp_path / 'out')])
    with pytest.raises(SystemExit, match='Annotations is not there: clone the data set'):
        photographs.main()
    assert not (tmp_path / 'out').exists()
