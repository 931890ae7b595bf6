"""Show the paper's tables next to the results of their runs.

Every row is shown with its config, status and seed, and with AP, AP50, AP75, APs, APm, APl in percent, the paper's and
those reached in WORK_DIRS. The status of a run is one of

  not run, running, interrupted, failed, diverged (the loss is not a number)
  trained                the row's experiment, to the end of its schedule
  trained with changes   with another optimizer, input or batch size, or with accumulated gradients
  smoke-trained          on another data set, with another schedule or model

Only what was trained is compared with the paper. The committed results on other data sets, such as the miniature,
are kept apart: they have a column with mean, standard deviation and number of seeds, and a panel in each figure.

examples:
  atss-plugin tables 3 4                          Tables 3 and 4 in the terminal
  atss-plugin tables --markdown > tables.md       all tables as markdown
  atss-plugin tables --figures figures            a figure for each table
  atss-plugin tables 3 --data miniature_warm      of the results on other data sets, those on this one only
"""

from pathlib import Path
from typing import List

from atss_plugin.errors import UsageError
from atss_plugin.experiments import build_report, load_tables, select_tables
from atss_plugin.experiments.figures import save_figures
from atss_plugin.experiments.ledger import read_ledger
from atss_plugin.experiments.report import report_json, to_markdown, to_terminal

from .console import print_whole, tell

NAME = 'tables'
HELP = "show the paper's tables next to the results of their runs"


def add_arguments(parser) -> None:
    parser.add_argument(
        'rows', nargs='*', metavar='TABLE|ROW', help='numbers of tables, beyond, or ids of rows; default: all'
    )
    parser.add_argument('--work-dirs', default='work_dirs', help='where the runs are (default: %(default)s)')
    parser.add_argument('--ledger', metavar='FILE', help="results on other data sets (default: the project's own)")
    parser.add_argument('--data', nargs='+', metavar='NAME', help='data sets of the ledger to show (default: all)')
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--markdown', action='store_true', help='print markdown')
    form.add_argument('--json', action='store_true', help='print JSON, one record per row and run')
    parser.add_argument('--figures', metavar='DIR', help='save a figure for each table there')


def run(args) -> int:
    tables = select_tables(load_tables(), args.rows)
    report = build_report(tables, Path(args.work_dirs), _ledger(args))
    if args.figures:
        for path in save_figures(tables, report, Path(args.figures)):
            tell(f'saved {path}')
    if args.json:
        print(report_json(report))
        return 0
    for table in tables:
        part = report[report['table'] == table.number].reset_index(drop=True)
        if args.markdown:
            print(to_markdown(table, part))
        else:
            print_whole(to_terminal(table, part))
    return 0


def _ledger(args) -> List[dict]:
    lines = read_ledger(args.ledger)
    names = list(dict.fromkeys(line['data'] for line in lines))
    unknown = [name for name in args.data or () if name not in names]
    if unknown:
        raise UsageError(f'--data: the ledger has no run on {", ".join(unknown)}; it has {", ".join(names) or "none"}')
    return [line for line in lines if not args.data or line['data'] in args.data]
