"""The quantiles of COCO's boxes: how they are computed, on boxes whose quantiles are known."""

import json

import numpy as np

from atss_plugin.datasets import coco_boxes
from tools.coco_boxes import PERCENT, as_module, read_boxes, share_inside, tables


def coco_file(path, images, annotations):
    content = dict(
        images=[dict(id=number, height=h, width=w) for number, (h, w) in enumerate(images)],
        annotations=[dict(image_id=image, bbox=list(bbox), iscrowd=crowd) for image, bbox, crowd in annotations],
    )
    path.write_text(json.dumps(content))
    return str(path)


def test_boxes_are_in_pixels_of_the_input_without_crowd_regions(tmp_path):
    annotations = [(0, (0, 0, 12, 24), 0), (1, (0, 0, 100, 10), 0), (1, (0, 0, 9, 9), 1), (2, (0, 0, 9, 9), 1)]
    boxes = read_boxes(coco_file(tmp_path / 'a.json', [(480, 640), (200, 1000), (480, 640)], annotations))
    # 480 becomes 800; the longer side stays below 1333
    np.testing.assert_allclose(np.concatenate(boxes), [[0, 0, 20, 40], [0, 0, 133.3, 13.33]])


def test_a_box_lies_in_larger_ones_only():
    boxes = np.array([[0, 0, 100, 100], [90, 0, 20, 20], [95, 0, 10, 10], [300, 300, 5, 5]])
    np.testing.assert_allclose(share_inside(boxes), [0, 0.5, 1, 0])


def test_quantiles_of_known_distributions():
    # images of 1, ..., 5 boxes of 4 : 1 side by side, sizes 10 to 150 in order
    images, side = [], 10
    for number in range(1, 6):
        images.append(np.array([[1000 * i, 0, 2 * (side + 10 * i), (side + 10 * i) / 2] for i in range(number)]))
        side += 10 * number
    found = tables(images)
    assert [found['NUMBER'][PERCENT.index(p)] for p in (0, 50, 100)] == [1, 3, 5]
    assert [found['SIZE'][1][PERCENT.index(p)] for p in (0, 100)] == [10, 60]  # of images of one to three
    assert [found['SIZE'][4][PERCENT.index(p)] for p in (0, 50, 100)] == [70, 110, 150]
    assert set(found['ASPECT'][0]) == set(found['ASPECT'][64]) == {400}
    assert set(found['INSIDE'][0]) == {0}


def test_the_file_is_python_that_says_what_was_counted():
    images = [np.array([[0, 0, 10 * (i + 1), 10]] * (4**i)) for i in range(3)] + [np.ones((16, 4)) * 300]
    namespace = {}
    exec(as_module(images, 7), namespace)
    assert {name: value for name, value in namespace.items() if name.isupper()} == {
        name: tuple(value) if isinstance(value, list) else {low: tuple(q) for low, q in value.items()}
        for name, value in tables(images).items()
    }
    assert '7 images' in namespace['__doc__'] and '37 boxes' in namespace['__doc__']
    assert 'CC BY 4.0' in coco_boxes.__doc__ and '4710 boxes' in coco_boxes.__doc__
