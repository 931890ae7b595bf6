"""Repeat one run of the ledger in a fresh work directory, and compare it with the committed line.

The same seed on the same type of machine, with the same versions and number of threads, gives the same result to the
last digit (mmdet rounds AP to a tenth of a percent). Elsewhere the result may differ, and what else differs is named.
docs/evidence.md, "Repeat it", says how to get the start weights of the ledger, and its instruction set.
The exit status is 0 if the results are equal, and 1 if not.

examples:
  atss-plugin verify t3.retinanet_atss                     seed 0 on the miniature
  atss-plugin verify t4.k3 --seed 2
"""

import os
import time
from pathlib import Path
from typing import List

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from atss_plugin.errors import UsageError
from atss_plugin.experiments import METRICS, load_tables, plan_jobs, run_jobs, select_tables
from atss_plugin.experiments.claims import load_claims
from atss_plugin.experiments.job import Launch
from atss_plugin.experiments.ledger import collect, differences, name_of, overlay_of, read_ledger
from atss_plugin.experiments.queue import stopping_on_signals
from atss_plugin.experiments.record import ENVIRONMENT, config_hash
from atss_plugin.experiments.start import check_start, start_hash

from .console import tell, wide_console

NAME = 'verify'
HELP = 'repeat a committed run and compare the results'
RESULTS = ('status', *METRICS)
MIN_WIDTH = 120


def add_arguments(parser) -> None:
    parser.add_argument('row', metavar='ROW', help='id of a row')
    parser.add_argument('--seed', type=int, default=0, help='which of its runs (default: %(default)s)')
    parser.add_argument('--data', help='the data set (default: that of the claims)')
    parser.add_argument('--ledger', metavar='FILE', help="the ledger (default: the project's own)")
    parser.add_argument('--work-dirs', metavar='DIR', help='where to repeat it (default: work_dirs/verify-TIME)')


def run(args) -> int:
    data = args.data or load_claims().data
    work_dirs = Path(args.work_dirs or time.strftime('work_dirs/verify-%Y%m%d-%H%M%S'))
    if work_dirs.exists():
        raise UsageError(f'{work_dirs} exists: a repetition starts in a folder of its own')
    tables = select_tables(load_tables(), [args.row])
    experiments = {row.experiment for table in tables for row in table.rows}
    if len(experiments) > 1:
        raise UsageError(f'{args.row} has {len(experiments)} experiments: give the id of one row, such as t4.k3')
    candidates = _committed(experiments.pop(), args.seed, data, read_ledger(args.ledger))
    jobs = plan_jobs(tables, work_dirs, [args.seed], Launch(overlay=overlay_of(data)))
    # that from the weights that are here, if there is one
    start = start_hash(jobs[0].wanted)
    committed = next((line for line in candidates if line['start'] == start), candidates[0])
    if config_hash(jobs[0].wanted) != committed['config']:
        raise UsageError(
            f'{name_of(committed)} was run with another configuration, not that of the overlay {data} today: '
            f'check out commit {committed["commit"]}, or run it again into a ledger of its own'
        )
    check_start(jobs[0].wanted, jobs[0].name)
    if committed['start'] != start:
        tell(f'{name_of(committed)}: the start weights here are {start}, so expect the same to within noise only')
    if not isinstance(committed['threads'], int):  # such as 1+2
        raise UsageError(f'{name_of(committed)} was resumed with other threads ({committed["threads"]}): take another')
    os.environ['OMP_NUM_THREADS'] = str(committed['threads'])
    with stopping_on_signals() as stop:
        run_jobs(jobs, stop=stop)
    lines, left_out = collect([work_dirs])
    if not lines:
        raise UsageError(f'the run did not come to an end: {"; ".join(left_out)}')
    return _compare(committed, lines[0])


def _committed(experiment: str, seed: int, data: str, ledger) -> List[dict]:
    """Return the lines of a seed, one for each start that it was run from."""
    runs = [line for line in ledger if line['experiment'] == experiment and line['data'] == data]
    found = [line for line in runs if line['seed'] == seed]
    if not found:
        seeds = sorted({line['seed'] for line in runs})
        known = f'seeds {", ".join(map(str, seeds))}' if runs else 'no seed'
        raise UsageError(f'the ledger has {known} of {experiment} on {data}: there is nothing to compare with')
    return found


def _compare(committed: dict, repeated: dict) -> int:
    table = RichTable('field', 'committed', 'repeated', title=name_of(committed), title_justify='left', box=SIMPLE_HEAD)
    for field in (*RESULTS, 'commit', *ENVIRONMENT):
        same = committed[field] == repeated[field]
        table.add_row(field, str(committed[field]), str(repeated[field]), style=None if same else 'yellow')
    wide_console(MIN_WIDTH).print(table)
    elsewhere = differences(committed, repeated, only=('commit', *ENVIRONMENT))
    other = (
        f'; not the same as then: {"; ".join(elsewhere)}' if elsewhere else '; same commit, machine type and versions'
    )
    results = differences(committed, repeated, only=RESULTS)
    print(f'{"; ".join(results) if results else "equal to the last digit"}{other}')
    return 1 if results else 0
