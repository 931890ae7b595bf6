"""Show which objects a detector misses, and from what it had to learn such objects.

For every ground truth of the validation set: what was detected for it (found or missed, the score, and the highest IoU
of a detection of its class), and what it is learnt from when it is in a training image (number of positives, their
highest IoU and their level, the threshold), for one or more sample definitions. The command prints the recall over the
number of positives, by size and crowdedness.

These files are saved in DIR:
  misses.png, misses.md   the recall over the number of positives
  objects.json            the ground truths as a COCO json, with all of the above as fields of each annotation
  detections.json         the detections in the form of COCO's results
The last two can be browsed object by object in any tool that reads COCO's form (FiftyOne, for one).

examples:
  atss-plugin misses miniature.py work_dirs/miniature/epoch_3.pth --assigner ATSS IoU --out misses
"""

import json
from pathlib import Path

import pandas as pd

from atss_plugin.analysis.detector import Predictor, build_detector, detect
from atss_plugin.analysis.images import ValidationImages
from atss_plugin.analysis.misses import GROUPINGS, Misses, describe_image, join_images, match_detections, original_boxes
from atss_plugin.analysis.misses_export import coco_detections, coco_objects
from atss_plugin.analysis.misses_figure import save_misses_figure
from atss_plugin.analysis.statistics import evenly_spread
from atss_plugin.errors import UsageError

from .console import print_tables, progress_bar, tables_to_markdown, tell
from .definitions import add_definition_arguments, read_definitions

NAME = 'misses'
HELP = 'join what is missed with what it is learnt from'


def add_arguments(parser) -> None:
    add_definition_arguments(parser, data=False)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a checkpoint of the config')
    parser.add_argument('--limit', type=int, metavar='N', help='only N images, evenly spread (default: all)')
    parser.add_argument('--device', default='cpu', help='where the model runs: cpu, cuda:0 ... (default: cpu)')
    parser.add_argument(
        '--iou-thr',
        type=float,
        default=0.5,
        metavar='X',
        help='the lowest IoU at which an object counts as found (default: %(default)s)',
    )
    parser.add_argument(
        '--score-thr', type=float, default=0, metavar='X', help='detections below this score do not count (default: 0)'
    )
    parser.add_argument('--out', metavar='DIR', help='where to save the table, the figure and the COCO jsons')
    parser.add_argument('--json', action='store_true', help='print a record for each ground truth instead of tables')


def run(args) -> int:
    cfg, definitions = read_definitions(args)
    if args.limit is not None and args.limit < 1:
        raise UsageError(f'--limit {args.limit}: give at least one image')
    model = build_detector(cfg, args.checkpoint, args.device)
    images = ValidationImages(cfg)
    dataset = images.dataset
    for definition in definitions:
        definition.predict = Predictor(model, images)
    indices = evenly_spread(len(dataset), len(dataset) if args.limit is None else args.limit)
    parts, results = [], []
    with progress_bar() as bar:
        for index in bar.track(indices, description='detecting'):
            detections = detect(model, dataset[index])
            detections = detections[detections.scores >= args.score_thr]
            truth = images.truth(index)
            boxes = original_boxes(dataset.get_data_info(index))
            found = match_detections(boxes, truth.labels, detections, args.iou_thr)
            parts.append(describe_image(definitions, truth, images.classes, found))
            results += coco_detections(dataset, index, detections)
    misses = join_images(parts, args.iou_thr)
    title = f'{Path(args.checkpoint).name}: {describe(misses, len(indices))}'
    records, tables = misses.records(), tabulate(misses)
    if args.json:
        print(json.dumps(dict(title=title, objects=records), indent=1, ensure_ascii=False))
    else:
        print_tables(title, tables)
    if args.out:
        _save(Path(args.out), misses, title, tables)
        _write_json(Path(args.out) / 'objects.json', coco_objects(dataset, indices, records))
        _write_json(Path(args.out) / 'detections.json', results)
        tell(f'saved misses.png, misses.md, objects.json and detections.json in {args.out}')
    return 0


def describe(misses: Misses, images: int) -> str:
    """Return the totals in words."""
    found = misses.objects['found']
    return (
        f'{images} images, {len(found)} ground truths, {int((~found).sum())} missed '
        f'(recall {found.mean():.1%} at IoU {misses.iou_thr:g})'
    )


def tabulate(misses: Misses) -> dict:
    """Return tables of words by title: the recall over the number of positives, for every definition and grouping."""
    tables = {}
    for label in misses.learning:
        overall = misses.recall(label)
        for grouping in GROUPINGS:
            parts = misses.recall(label, grouping)
            columns = {'all': overall, **{str(name): parts.loc[name] for name in parts.index.levels[0]}}
            words = {name: [_cell(line) for _, line in part.iterrows()] for name, part in columns.items()}
            title = f'{label}: recall over the number of positives, by {grouping} (of how many)'
            tables[title] = pd.DataFrame(words, index=overall.index.astype(str).rename('positives'))
    return tables


def _cell(line: pd.Series) -> str:
    count = int(line['ground truths'])
    return f'{line["recall"]:.1%} ({count})' if count else '–'


def _save(folder: Path, misses: Misses, title: str, tables: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_misses_figure(misses, title, folder / 'misses.png')
    (folder / 'misses.md').write_text(tables_to_markdown(title, tables), encoding='utf-8')


def _write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
