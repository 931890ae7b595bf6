"""Write atss_plugin/datasets/coco_boxes.py: number, size, shape and overlap of COCO's boxes.

    python -m tools.coco_boxes COCO549.json

COCO549.json holds the annotations of 549 images of COCO 2017 (cocodataset.org, CC BY 4.0); quantiles are written.

Legend: G boxes of an image, Q quantiles.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

PERCENT = (0, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 100)
NUMBERS = (1, 4, 8, 16)  # lower ends of the groups of images by their number of boxes
SIZES = (0, 64, 256)  # lower ends of the groups of boxes by their size, in pixels of the input
SHORTER, LONGER = 800, 1333  # the input of the paper's experiments
TARGET = Path(__file__).resolve().parents[1] / 'atss_plugin' / 'datasets' / 'coco_boxes.py'
HEADER = '''"""How boxes are distributed on COCO, as quantiles; written by ``tools/coco_boxes.py``, not by hand.

From the annotations of {images} images of COCO 2017 with {boxes} boxes (crowd regions left out), cocodataset.org,
CC BY 4.0. The quantiles of every list are those of PERCENT. NUMBER is of boxes in an image that has any. SIZE is the
square root of a box's area in pixels of the input (shorter side 800, longer side at most 1333), ASPECT its width in
percent of its height, INSIDE the percentage of it that lies inside one larger box of the image. SIZE is listed by the
least number of boxes in the image, ASPECT and INSIDE by the least size of the box.
"""
'''


def read_boxes(path: str) -> List[np.ndarray]:
    """Return the boxes (G, 4) xywh of every image that has any, in pixels of the input."""
    content = json.loads(Path(path).read_text(encoding='utf-8'))
    boxes = defaultdict(list)
    for annotation in content['annotations']:
        if not annotation['iscrowd']:
            boxes[annotation['image_id']].append(annotation['bbox'])
    scale = {
        image['id']: min(SHORTER / min(image['height'], image['width']), LONGER / max(image['height'], image['width']))
        for image in content['images']
    }
    return [np.array(group) * scale[image] for image, group in boxes.items()]


def share_inside(boxes: np.ndarray) -> np.ndarray:
    """Return how much of each box (G, 4) xywh lies in the larger box that it lies in most, (G,) from 0 to 1."""
    corner, opposite = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(opposite[:, None], opposite) - np.maximum(corner[:, None], corner)
    area = boxes[:, 2:].prod(-1)
    share = sides.clip(min=0).prod(-1) / area[:, None]
    return np.where(area > area[:, None], share, 0).max(1)


def quantiles(values: np.ndarray) -> List[int]:
    """Return the quantiles (Q,) of values, as integers."""
    return np.rint(np.percentile(values, PERCENT)).astype(int).tolist()


def by_group(values: np.ndarray, keys: np.ndarray, lower_ends: Sequence[int]) -> Dict[int, List[int]]:
    """Return the quantiles of each group: the values whose key is at least a lower end and below the next."""
    groups = np.searchsorted(lower_ends, keys, side='right') - 1
    return {lower_ends[group]: quantiles(values[groups == group]) for group in np.unique(groups)}


def tables(images: List[np.ndarray]) -> Dict[str, object]:
    """Return the quantiles of all images' boxes, by the names of the file that is written."""
    boxes = np.concatenate(images)
    number = np.repeat([len(group) for group in images], [len(group) for group in images])
    size = np.sqrt(boxes[:, 2] * boxes[:, 3])
    aspect = 100 * boxes[:, 2] / boxes[:, 3]
    inside = 100 * np.concatenate([share_inside(group) for group in images])
    return {
        'PERCENT': list(PERCENT),
        'NUMBER': quantiles(np.array([len(group) for group in images])),
        'SIZE': by_group(size, number, NUMBERS),
        'ASPECT': by_group(aspect, size, SIZES),
        'INSIDE': by_group(inside, size, SIZES),
    }


def as_module(images: List[np.ndarray], num_images: int) -> str:
    """Return the text of the file."""
    lines = [HEADER.format(images=num_images, boxes=sum(map(len, images)))]
    for name, table in tables(images).items():
        if isinstance(table, list):
            lines.append(f'{name} = {tuple(table)}')
        else:
            lines += [f'{name} = {{', *(f'    {low}: {tuple(values)},' for low, values in table.items()), '}']
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('annotations', help="a file in COCO's format")
    path = parser.parse_args().annotations
    num_images = len(json.loads(Path(path).read_text(encoding='utf-8'))['images'])
    TARGET.write_text(as_module(read_boxes(path), num_images), encoding='utf-8')


if __name__ == '__main__':
    main()
