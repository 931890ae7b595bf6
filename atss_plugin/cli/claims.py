"""Judge the paper's claims by the committed ledger.

For every claim it prints the paper's difference, ours with its 95 % interval, paired over seeds, and a verdict:

  shown           the interval lies above 0 (a > b), or inside the margin (a = b)
  contradicted    it lies below 0, or outside the margin
  not decided     neither
  not run         no seed of both rows is in the ledger

The claims and their margins are registered in configs/evidence/claims.yml; docs/evidence.md says what the intervals
assume.

examples:
  atss-plugin claims                                       on the miniature
  atss-plugin claims --data bccd --json                    on another data set, as JSON
  atss-plugin claims --metric APl                          the same differences of another metric, without verdicts
  atss-plugin claims --into docs/evidence.md               renew the block between the markers of a document
"""

from dataclasses import replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from atss_plugin.experiments import load_tables
from atss_plugin.experiments.claims import load_claims
from atss_plugin.experiments.claims_report import (
    SO_FAR,
    replace_block,
    summarise,
    tabulate,
    tell_correlation,
    to_json,
    to_markdown,
)
from atss_plugin.experiments.ledger import read_ledger
from atss_plugin.experiments.paper import METRICS
from atss_plugin.experiments.verdicts import CONTRADICTED, NOT_DECIDED, NOT_RUN, SHOWN, correlate_ranks, judge_claims

from .console import wide_console

NAME = 'claims'
HELP = "judge the paper's claims by the committed results"
MIN_WIDTH = 180  # characters that the table needs
STYLES = {SHOWN: 'green', CONTRADICTED: 'red', NOT_DECIDED: 'yellow', NOT_RUN: 'dim'}


def add_arguments(parser) -> None:
    parser.add_argument('--data', help='the data set (default: the registered one)')
    parser.add_argument('--ledger', metavar='FILE', help="the ledger (default: the project's own)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--metric', choices=METRICS, help='another metric than the registered one, to explain a verdict')
    form.add_argument('--markdown', action='store_true', help='print markdown')
    form.add_argument('--json', action='store_true', help='print JSON')
    form.add_argument('--into', metavar='FILE', help='write the markdown between the markers of this document')


def run(args) -> int:
    registration = load_claims(data=args.data)
    tables = [table for table in load_tables() if table.number != 8]
    experiments = {row.experiment for table in tables for row in table.rows}
    lines = [line for line in read_ledger(args.ledger) if line['experiment'] in experiments]
    if args.metric:
        _print(*_explain(lines, registration, args.metric))
        return 0
    found = judge_claims(lines, registration)
    correlation = correlate_ranks(lines, tables, registration.data, registration.metric)
    if args.json:
        print(to_json(found, correlation, registration.data))
        return 0
    words = summarise(lines, found, registration.data), tabulate(found)
    ranks = tell_correlation(correlation, len(experiments))
    if args.into:
        path = Path(args.into)
        path.write_text(replace_block(path.read_text(encoding='utf-8'), to_markdown(*words, ranks)), encoding='utf-8')
    elif args.markdown:
        print(to_markdown(*words, ranks))
    else:
        _print(*words, ranks)
    return 0


def _explain(lines, registration, metric) -> tuple:
    """Return title, table and caption of the comparisons in a metric by which nothing was to be judged."""
    found = judge_claims(lines, replace(registration, metric=metric))
    table = tabulate(found).drop(columns=['margin', 'verdict'])
    return f'{metric} on the data set {registration.data}', table, f'Verdicts are on {registration.metric} alone.'


def _print(title, table, caption) -> None:
    rich_table = RichTable(title=title, title_justify='left', caption=caption, caption_justify='left', box=SIMPLE_HEAD)
    for column in table:
        right = column in ('paper', 'ours', 'interval', 'margin', 'pairs')
        rich_table.add_column('95 % interval' if column == 'interval' else column, justify='right' if right else 'left')
    for line in table.to_dict('records'):
        claim = line['pairs'] == ''  # the line of a claim itself, above its comparisons
        cells = {name: Text(cell) for name, cell in line.items()}
        cells['claim'].pad_left(0 if claim else 3)
        if 'verdict' in cells:
            cells['verdict'].stylize(STYLES[line['verdict'].replace(SO_FAR, '')])
        rich_table.add_row(*cells.values(), style='bold' if claim else None)
    wide_console(MIN_WIDTH).print(rich_table)
