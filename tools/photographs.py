"""Write the two data sets of photographs in the form that their overlays read (train.json, val.json, images/).

    git clone https://github.com/Shenggan/BCCD_Dataset             # MIT, used at commit d272fb14
    python tools/photographs.py bccd BCCD_Dataset --out data/bccd

    # Aquarium Combined (CC BY 4.0), used at commit eee4be33
    git clone https://github.com/sumit2011/underwater-object-detection
    python tools/photographs.py aquarium underwater-object-detection/dataset/aquarium_pretrain --out data/aquarium

BCCD is validated on its last 73 images by name.  Aquarium's validation is the source's own `valid` and `test` together,
and its images are reduced to 416 pixels; their pixels may differ a little from those that the ledger's runs saw, with
another JPEG encoder.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Tuple
from xml.etree import ElementTree

import mmcv

BCCD = ('RBC', 'WBC', 'Platelets')
BCCD_TRAIN = 291
AQUARIUM = ('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish', 'stingray')
AQUARIUM_SIZE = 416

# An image: where it is, (width, height) as annotated, and its boxes: (class, x, y, w, h) in pixels.
Box = Tuple[int, float, float, float, float]
Photograph = Tuple[Path, Tuple[int, int], List[Box]]


def read_bccd(root: Path) -> Dict[str, List[Photograph]]:
    """Read the annotations in the form of PASCAL VOC."""
    photographs = []
    for file in sorted((root / 'Annotations').glob('*.xml')):
        tree = ElementTree.parse(file)
        size = tuple(int(tree.findtext(f'size/{key}')) for key in ('width', 'height'))
        boxes = []
        for found in tree.iter('object'):
            x1, y1, x2, y2 = (float(found.findtext(f'bndbox/{key}')) for key in ('xmin', 'ymin', 'xmax', 'ymax'))
            boxes.append((BCCD.index(found.findtext('name')), x1, y1, x2 - x1, y2 - y1))
        photographs.append((root / 'JPEGImages' / f'{file.stem}.jpg', size, boxes))
    return dict(train=photographs[:BCCD_TRAIN], val=photographs[BCCD_TRAIN:])


def read_aquarium(root: Path) -> Dict[str, List[Photograph]]:
    """Read the labels in the form of YOLO: class, centre, width and height, as shares of the image."""

    def read(split: str) -> Iterator[Photograph]:
        for image in sorted((root / split / 'images').glob('*.jpg')):
            height, width = mmcv.imread(str(image)).shape[:2]
            label = root / split / 'labels' / f'{image.stem}.txt'
            boxes = []
            for line in label.read_text().splitlines() if label.exists() else []:
                name, x, y, w, h = line.split()
                w, h = float(w) * width, float(h) * height
                boxes.append((int(name), float(x) * width - w / 2, float(y) * height - h / 2, w, h))
            yield image, (width, height), boxes

    return dict(train=list(read('train')), val=[*read('valid'), *read('test')])


def write(splits: Dict[str, List[Photograph]], classes: Tuple[str, ...], out: Path, longest: int = 0) -> None:
    """Write COCO's json and the images, enlarged or reduced to a longer side of ``longest`` unless that is 0."""
    (out / 'images').mkdir(parents=True, exist_ok=True)
    number = 0
    for split, photographs in splits.items():
        images, annotations = [], []
        for path, (width, height), boxes in photographs:
            number += 1
            target, scale = out / 'images' / path.name, 1.0
            if longest:
                scale = longest / max(width, height)
                image = mmcv.imrescale(mmcv.imread(str(path)), scale, interpolation='area')
                mmcv.imwrite(image, str(target))
                size = image.shape[1], image.shape[0]
            else:
                shutil.copyfile(path, target)
                size = width, height
            images.append(dict(id=number, file_name=path.name, width=size[0], height=size[1]))
            for category, *box in boxes:
                x, y, w, h = (round(value * scale, 3) for value in box)
                if w > 0 and h > 0:
                    annotation = dict(id=len(annotations) + 1, image_id=number, category_id=category + 1, iscrowd=0)
                    annotations.append(dict(annotation, bbox=[x, y, w, h], area=round(w * h, 3)))
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
        content = dict(images=images, annotations=annotations, categories=categories)
        (out / f'{split}.json').write_text(json.dumps(content))
        print(f'{out / split}.json: {len(images)} images, {len(annotations)} boxes')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', choices=('bccd', 'aquarium'))
    parser.add_argument('source', type=Path, help='the folder that holds Annotations/, or train/, valid/ and test/')
    parser.add_argument('--out', type=Path, required=True, help='the folder to write')
    args = parser.parse_args()
    expected = args.source / ('Annotations' if args.data == 'bccd' else 'train/images')
    if not expected.is_dir():
        sys.exit(f'{expected} is not there: clone the data set as `{parser.prog} --help` shows')
    if args.data == 'bccd':
        write(read_bccd(args.source), BCCD, args.out)
    else:
        write(read_aquarium(args.source), AQUARIUM, args.out, AQUARIUM_SIZE)


if __name__ == '__main__':
    main()
