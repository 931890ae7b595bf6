"""Count what assigners do over a whole data set, from boxes and image sizes, without pixels or a model.

With --checkpoint it also counts for definitions that decide by a model's predictions, and with --pipeline train on the
images that training sees.

It counts positives per ground truth by size, aspect ratio and crowdedness, positives per level, ground truths
without a positive, the thresholds that ATSS computes, and ambiguous anchors: those that more than one
ground truth would take if it were alone in its image.

examples:
  atss-plugin stats atss_r50_fpn_1x.py                            the config's own assigner and data
  atss-plugin stats atss_r50_fpn_1x.py --assigner ATSS IoU SSC --ann instances_train2017.json --out stats
  atss-plugin stats miniature.py --assigner ATSS IoU SSC CenterSampling --against docs/data/stats_coco549.json
"""

import json
from functools import partial
from pathlib import Path
from typing import List

import pandas as pd

from atss_plugin.analysis.comparison import compare_statistics, to_words
from atss_plugin.analysis.images import Images
from atss_plugin.analysis.sample_definition import SampleDefinition
from atss_plugin.analysis.statistics import BINS, collect_statistics
from atss_plugin.analysis.statistics_figure import SHARE_OF_CANDIDATES, save_statistics_figure
from atss_plugin.errors import UsageError

from .console import print_tables, progress_bar, tables_to_markdown, tell
from .definitions import add_definition_arguments, add_image_arguments, open_images, read_definitions

NAME = 'stats'
HELP = 'count what assigners do over a data set'


def add_arguments(parser) -> None:
    add_definition_arguments(parser)
    add_image_arguments(parser)
    parser.add_argument('--images', default='', metavar='DIR', help='folder of the images of --ann')
    parser.add_argument('--out', metavar='DIR', help='save stats.png, stats.md and stats.json there')
    parser.add_argument('--json', action='store_true', help='print JSON instead of tables')
    parser.add_argument('--against', metavar='FILE', help='compare with what --json gave for other data')
    parser.add_argument(
        '--ambiguity-images',
        type=int,
        default=200,
        metavar='N',
        help='on how many images to look for ambiguous anchors, which takes one assignment per ground truth '
        '(default: %(default)s, evenly spread)',
    )


def run(args) -> int:
    if args.ambiguity_images < 0:
        raise UsageError(f'--ambiguity-images {args.ambiguity_images}: this cannot be negative; 0 skips the search')
    reference = _read_statistics(args.against) if args.against else None
    cfg, definitions = read_definitions(args)
    images = open_images(cfg, args, definitions, args.images)
    truths, statistics = _count(images, definitions, args.ambiguity_images)
    boxes = sum(len(truth.bboxes) for truth in truths)
    if not boxes:
        raise UsageError(f'{_source(args, images.dataset)} has no box that is not a crowd: there is nothing to count')
    title = f'{_source(args, images.dataset)}: {len(truths)} images, {boxes} ground truths'
    tables = tabulate(statistics)
    content = json.dumps(
        dict(
            data=title,
            ambiguity_images=min(args.ambiguity_images, len(truths)),
            assigners=[entry.to_dict() for entry in statistics],
        ),
        indent=1,
        ensure_ascii=False,
    )
    if args.json:
        print(content)
    else:
        print_tables(title, tables)
    if reference:
        comparison = _comparison(json.loads(content), reference)
        if args.json:  # stdout is for the JSON alone
            tell(comparison)
        else:
            print(comparison)
    if args.out:
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'stats.json').write_text(content + '\n', encoding='utf-8')
        (folder / 'stats.md').write_text(tables_to_markdown(title, tables), encoding='utf-8')
        save_statistics_figure(statistics, title, folder / 'stats.png', _expected(definitions))
        tell(f'saved stats.png, stats.md and stats.json in {folder}')
    return 0


def _count(images: Images, definitions: List[SampleDefinition], ambiguity_images: int) -> tuple:
    """Return the ground truths of all images, and the statistics of every definition."""
    with progress_bar() as bar:
        reading = (images.truth(i) for i in range(len(images)))
        truths = list(bar.track(reading, total=len(images), description='reading boxes'))
        statistics = []
        for definition in definitions:
            task = bar.add_task(definition.label, total=len(truths))
            statistics.append(collect_statistics(definition, truths, ambiguity_images, partial(bar.advance, task)))
    return truths, statistics


def _source(args, dataset) -> str:
    return Path(args.ann).name if args.ann else Path(getattr(dataset, 'ann_file', '') or type(dataset).__name__).name


def _expected(definitions) -> float:
    """Return the paper's 0.2 kL for the first definition that has a k."""
    for definition in definitions:
        if 'ATSS' in type(definition.assigner).__name__:
            return SHARE_OF_CANDIDATES * definition.assigner.topk * len(definition.levels)
    return 0


def tabulate(statistics) -> dict:
    """Return tables of words by title: totals, and means with the share without a positive in every bin."""
    overall = [entry.overall() for entry in statistics]
    labels = [entry.label for entry in statistics]
    columns = {
        'positives per ground truth': lambda o: (
            f'{o["positives per ground truth"]:.2f} ± {o["standard deviation"]:.2f}'
        ),
        'without a positive': lambda o: f'{o["without a positive"]:.2%}',
        'ambiguous anchors': lambda o: (
            f'{o["ambiguous anchors"]:.2%}' if o['ambiguous anchors'] == o['ambiguous anchors'] else '–'
        ),
        'threshold 10 % / median / 90 %': lambda o: (
            ' / '.join(f'{o[f"threshold {name}"]:.2f}' for name in ('p10', 'median', 'p90'))
            if 'threshold median' in o
            else '–'
        ),
    }
    totals = pd.DataFrame({name: [word(o) for o in overall] for name, word in columns.items()}, index=labels)
    levels = pd.DataFrame([entry.level_share().map('{:.1%}'.format) for entry in statistics], index=labels)
    tables = {'Totals': totals, 'Share of the positives on each level': levels.fillna('–')}
    for grouping, (words, _, _) in BINS.items():
        bins = {entry.label: entry.by(grouping) for entry in statistics}
        counts = next(iter(bins.values()))['ground truths'].map('{:d}'.format).rename('ground truths')
        cells = {label: [_cell(line) for _, line in part.iterrows()] for label, part in bins.items()}
        table = pd.DataFrame({'ground truths': counts, **cells}, index=counts.index.astype(str))
        tables[f'Positives per ground truth by {grouping} ({words}): mean ± std (share without any)'] = table
    return tables


def _cell(line: pd.Series) -> str:
    if not line['ground truths']:
        return '–'
    return f'{line["mean"]:.1f} ± {line["std"]:.1f} ({line["unmatched"]:.1%})'


def _read_statistics(path: str) -> dict:
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except ValueError as error:
        raise UsageError(f'--against {path}: not a JSON file ({error})') from error
    if not (isinstance(content, dict) and {'data', 'assigners'} <= content.keys()):
        raise UsageError(f'--against {path}: not what atss-plugin stats --json gave')
    return content


def _comparison(here: dict, reference: dict) -> str:
    table = to_words(compare_statistics(here, reference))
    return f'**{here["data"]}, against {reference["data"]}**\n\n{table.to_markdown(index=False, disable_numparse=True)}'
