"""Collect results into the ledger, the committed file that `claims`, `tables` and `verify` read.

The ledger has one line of JSON per run on a data set of its own (`run --overlay miniature_warm.py`): experiment,
seed, status, all AP figures in percent, the hash of the merged config, commit, versions, machine and minutes. Runs
that failed or diverged are in it as such; runs that are still going or were interrupted are not, and neither are runs
with settings other than the overlay's. Collecting twice changes nothing, and a result that is there is never replaced
by another: such a run is an error, and goes into a ledger of its own.

examples:
  atss-plugin ledger work_dirs                             every run below work_dirs that has ended
  atss-plugin ledger work_dirs --ledger mine.jsonl         into another file
"""

from pathlib import Path

from atss_plugin.errors import UsageError
from atss_plugin.experiments.ledger import collect, ledger_path, merge, read_ledger, write_ledger

from .console import tell

NAME = 'ledger'
HELP = 'collect results from work directories into the committed ledger'


def add_arguments(parser) -> None:
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIRS', help='folders that hold runs')
    parser.add_argument('--ledger', metavar='FILE', help="the ledger (default: the project's own)")


def run(args) -> int:
    path = Path(args.ledger) if args.ledger else ledger_path()
    missing = [folder for folder in args.work_dirs if not Path(folder).is_dir()]
    if missing:
        raise UsageError(f'{missing[0]}: no such folder')
    found, left_out = collect([Path(folder) for folder in args.work_dirs])
    lines, news = merge(read_ledger(path), found)
    if news:
        write_ledger(lines, path)
    for note in left_out:
        tell(f'left out: {note}')
    for line in news:
        print(line)
    print(f'{len(news)} new of {len(found)} runs that ended; {path.name} has {len(lines)}')
    return 0
