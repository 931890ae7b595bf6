"""Trains the experiments of the paper's tables that are missing, through `mim train mmdet`.

One experiment is trained once, however many tables show it. Finished runs are skipped, interrupted
ones resumed, and a failure is reported at the end instead of stopping the others. Runs are kept in
WORK_DIRS/EXPERIMENT/seedN (with --overlay: OVERLAY-seedN); `tables` reads them there.

examples:
  atss-plugin run 4 --dry-run                              what Table 4 would run
  atss-plugin run 1 2 3 --launcher pytorch --gpus 8        three tables on 8 GPUs
  atss-plugin run t3.retinanet_atss --seed 0 1 2           one row, three seeds
  atss-plugin run all --overlay miniature.py         every row on the embedded data set
"""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table as RichTable

from atss_plugin.experiments import load_tables, plan_jobs, run_jobs, select_tables
from atss_plugin.experiments.job import CONSOLE_FILE, Launch

from .console import wide_console

NAME = 'run'
HELP = "train what is missing of the paper's tables"
MIN_WIDTH = 120  # characters for an error's line


def add_arguments(parser) -> None:
    parser.add_argument('rows', nargs='+', metavar='TABLE|ROW', help='numbers of tables, ids of rows, or all')
    parser.add_argument('--work-dirs', default='work_dirs', help='where runs are kept (default: %(default)s)')
    parser.add_argument('--seed', nargs='+', type=int, default=[0], metavar='S', help='one run a seed (default: 0)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        metavar='N',
        help="number of GPUs; the global batch stays the recipe's 16 images (default: %(default)s)",
    )
    parser.add_argument('--gpus-per-node', type=int, metavar='N', help='slurm: GPUs a node')
    parser.add_argument('--partition', help='slurm: the partition')
    parser.add_argument('--srun-args', help='slurm: further arguments of srun, in one string')
    parser.add_argument('--overlay', metavar='CONFIG', help='a config that is merged over every row')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--dry-run', action='store_true', help='print the commands and start nothing')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes to every config')


def run(args) -> int:
    mim_options = []
    for option in ('gpus_per_node', 'partition', 'srun_args'):
        value = getattr(args, option)
        if value is not None:
            mim_options += [f'--{option.replace("_", "-")}', str(value)]
    if args.launcher == 'slurm' and (args.gpus_per_node is None or args.partition is None):
        raise ValueError('--launcher slurm needs --gpus-per-node and --partition')
    if args.launcher == 'none' and args.gpus > 1:
        raise ValueError(f'--gpus {args.gpus} needs --launcher pytorch or slurm')
    launch = Launch(args.launcher, args.gpus, mim_options, args.overlay, args.cfg_options, args.amp)
    jobs = plan_jobs(select_tables(load_tables(), args.rows), Path(args.work_dirs), args.seed, launch)
    if args.dry_run:
        for job in jobs:
            print(f'# {job.action} {job.name} ({job.reason})')
            if job.action != 'skip':
                print(job.command_line())
        return 0
    failed = run_jobs(jobs, announce=lambda line: print(line, flush=True))
    _report(jobs)
    return 1 if failed else 0


def _report(jobs) -> None:
    table = RichTable(
        'experiment', 'seed', 'what was done', 'work directory', title='Runs', title_justify='left', box=SIMPLE_HEAD
    )
    for job in jobs:
        if job.action == 'skip':
            done = f'skipped: {job.reason}'
        elif job.returncode == 0:
            done = '[green]finished[/green]'
        else:
            done = f'[red]failed[/red]: {escape(job.error()) or job.returncode} (see its {CONSOLE_FILE})'
        table.add_row(job.row.experiment, str(job.seed), done, str(job.work_dir))
    wide_console(MIN_WIDTH).print(table)
