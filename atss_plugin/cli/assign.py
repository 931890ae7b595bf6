"""Draw what assigners do on one image: which anchors are positive, for which ground truth, and why.

These files are saved in DIR:
  NAME_positives.png    a row per assigner: the positives of all levels and of each level
  NAME_thresholds.png   for ATSS: the candidates' IoU with mean and mean + std, and the levels chosen
  NAME_difference.png   for two assigners of the same anchors: where they disagree

NAME is the image's. An image whose file is missing is drawn white if no definition needs its pixels. Definitions that
decide by a model's predictions get them from the model of --checkpoint.

examples:
  atss-plugin assign atss_r50_fpn_1x.py --assigner ATSS IoU --index 7 --out pictures
  atss-plugin assign mmdet::gfl/gfl_r50_fpn_1x_coco.py --image photo.jpg --ann boxes.json --out pictures
  atss-plugin assign miniature.py --assigner ATSS mmdet.SimOTAAssigner --checkpoint epoch_3.pth --out pictures
"""

import json
from pathlib import Path

from atss_plugin.analysis.assignment import assign_image
from atss_plugin.analysis.assignment_figure import save_difference, save_positives, save_thresholds

from .console import tell
from .definitions import add_definition_arguments, add_image_arguments, open_images, read_definitions

NAME = 'assign'
HELP = 'draw what assigners do on one image'


def add_arguments(parser) -> None:
    add_definition_arguments(parser)
    add_image_arguments(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--index', type=int, default=0, metavar='I', help='number of the image in the data set')
    which.add_argument('--image', metavar='FILE', help='the image itself; its boxes are those of that file name')
    parser.add_argument('--out', required=True, metavar='DIR', help='where the pictures are saved')
    parser.add_argument('--outlines', action='store_true', help='outline the positive anchors, not only their centres')
    parser.add_argument('--json', action='store_true', help='print positives and thresholds of every ground truth')


def run(args) -> int:
    cfg, definitions = read_definitions(args)
    if args.image and not Path(args.image).is_file():
        raise FileNotFoundError(f'no image {args.image}')
    images = open_images(cfg, args, definitions, str(Path(args.image).parent) if args.image else '')
    images.file = args.image
    truth = images.truth(images.find(args.image) if args.image else args.index)
    assignments = [assign_image(definition, truth) for definition in definitions]
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    paths = draw(assignments, images.pixels(truth), folder, args.outlines)
    if args.json:
        print(json.dumps(dict(image=truth.name, assigners=[a.to_dict() for a in assignments]), indent=1))
    for path in paths:
        tell(f'saved {path}')
    return 0


def shorten(name: str, length: int = 32) -> str:
    """Return a long file name without its middle."""
    return name if len(name) <= length else f'{name[: length // 2]}…{name[-length // 4 :]}'


def draw(assignments, image, folder: Path, outlines: bool = False) -> list:
    """Save every picture that these assignments allow, and return the files."""
    truth = assignments[0].truth
    height, width = truth.img_shape
    title = f'{shorten(truth.name)}, {len(truth.bboxes)} ground truths, input {width} × {height}'
    stem = Path(truth.name).stem
    paths = [folder / f'{stem}_positives.png']
    save_positives(assignments, image, title, paths[0], outlines)
    thresholding = next((a for a in assignments if a.candidates is not None), None)
    if thresholding:
        paths.append(folder / f'{stem}_thresholds.png')
        parts = (f'{title}: {thresholding.definition.label}', thresholding.definition.note)
        save_thresholds(thresholding, image, ', '.join(filter(None, parts)), paths[-1])
    if len(assignments) == 2 and assignments[0].grid.priors.equal(assignments[1].grid.priors):
        paths.append(folder / f'{stem}_difference.png')
        labels = [a.definition.label for a in assignments]
        save_difference(assignments[0], assignments[1], image, f'{title}: {labels[0]} and {labels[1]}', paths[-1])
    return paths
