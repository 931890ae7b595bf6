"""Write COCO549.json: the annotations of the 549 images of COCO 2017 that the documentation's statistics are about.

    python tools/coco549.py instances_train2017.json instances_val2017.json --out COCO549.json

The files are COCO's own (cocodataset.org, annotations CC BY 4.0); docs/data/coco549_images.json has the images' ids.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Sequence

IMAGES = Path(__file__).resolve().parents[1] / 'docs' / 'data' / 'coco549_images.json'


def select(sources: Sequence[Path], ids: Sequence[int]) -> dict:
    """Return the images with these ids and their annotations, in COCO's form, by id."""
    chosen = dict(images=[], annotations=[], categories=[])
    wanted = set(ids)
    for source in sources:
        content = json.loads(source.read_text(encoding='utf-8'))
        chosen['images'] += [image for image in content['images'] if image['id'] in wanted]
        chosen['annotations'] += [label for label in content['annotations'] if label['image_id'] in wanted]
        chosen['categories'] = content['categories']
    missing = wanted - {image['id'] for image in chosen['images']}
    if missing:
        raise SystemExit(f'{len(missing)} images are in none of these files, such as {min(missing)}: give both splits')
    chosen['images'].sort(key=lambda image: image['id'])
    return chosen


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sources', type=Path, nargs='+', metavar='instances_SPLIT2017.json')
    parser.add_argument('--out', type=Path, required=True, help='the file to write')
    args = parser.parse_args(words)
    chosen = select(args.sources, json.loads(IMAGES.read_text(encoding='utf-8')))
    args.out.write_text(json.dumps(chosen), encoding='utf-8')
    print(f'{args.out}: {len(chosen["images"])} images, {len(chosen["annotations"])} boxes')


if __name__ == '__main__':
    main(sys.argv[1:])
