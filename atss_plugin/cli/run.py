"""Train the experiments of the paper's tables that are missing, through `mim train mmdet`.

One experiment is trained once, however many tables show it. Finished runs are skipped, interrupted
ones are resumed, and a failure is reported at the end instead of stopping the others. Runs are kept in
WORK_DIRS/EXPERIMENT/seedN (with --overlay: OVERLAY-seedN), each with everything that it printed in console.log;
`tables` reads them there.

examples:
  atss-plugin run 4 --dry-run                              what Table 4 would run
  atss-plugin run 1 2 3 --launcher pytorch --gpus 8        three tables on 8 GPUs
  atss-plugin run 1 2 3 --jobs 4                           four runs at a time, one GPU each
  atss-plugin run 1 2 3 --accumulate 4                     on one GPU, with the memory of 4 images
  atss-plugin run t3.retinanet_atss --seeds 0 1 2          one row, three seeds
  atss-plugin run all --launcher slurm --array --partition P --gpus 8     one array, a run per task
  atss-plugin run all --overlay miniature.py               every row on the embedded data set
"""

import shlex
import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from atss_plugin.errors import UsageError
from atss_plugin.experiments import divide_machine, load_tables, plan_jobs, run_jobs, select_tables
from atss_plugin.experiments.array import slurm_parameters, submit_array
from atss_plugin.experiments.job import Launch
from atss_plugin.experiments.queue import stopping_on_signals
from atss_plugin.experiments.run import CONSOLE_FILE
from atss_plugin.experiments.start import check_start

from .console import wide_console
from .queue_display import QueueDisplay

NAME = 'run'
HELP = "train what is missing of the paper's tables"
MIN_WIDTH = 120  # characters for an error's line


def add_arguments(parser) -> None:
    parser.add_argument('rows', nargs='+', metavar='TABLE|ROW', help='numbers of tables, beyond, ids of rows, or all')
    parser.add_argument('--work-dirs', default='work_dirs', help='where runs are kept (default: %(default)s)')
    parser.add_argument(
        '--seeds', '--seed', nargs='+', type=int, default=[0], metavar='S', help='one run per seed (default: 0)'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        metavar='N',
        help='runs at a time; GPUs, or cores without any, are divided among them (default: 1; of an array: all)',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        metavar='N',
        help="GPUs of a run; the global batch stays the recipe's 16 images, or the overlay's (default: %(default)s)",
    )
    parser.add_argument(
        '--accumulate',
        type=int,
        default=1,
        metavar='N',
        help="N micro-batches make the recipe's batch, where GPUs are few or small; iterations count micro-batches",
    )
    parser.add_argument('--gpus-per-node', type=int, metavar='N', help='slurm: GPUs per node')
    parser.add_argument('--partition', help='slurm: the partition')
    parser.add_argument('--array', action='store_true', help='slurm: submit the runs as one job array, and return')
    parser.add_argument(
        '--minutes', type=int, default=1440, metavar='N', help='array: time limit of a task (default: %(default)s)'
    )
    parser.add_argument(
        '--sbatch', nargs='+', default=[], metavar='KEY=VALUE', help='array: further options of sbatch, such as mem=32G'
    )
    parser.add_argument('--srun-args', help='slurm: further arguments of srun, in one string')
    parser.add_argument('--overlay', metavar='CONFIG', help='a config that is merged over every row')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--dry-run', action='store_true', help='print the commands and start nothing')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes to every config')


def run(args) -> int:
    check(args)
    jobs = plan_jobs(select_tables(load_tables(), args.rows), Path(args.work_dirs), args.seeds, launch_of(args))
    if args.dry_run:
        for job in jobs:
            print(f'# {job.action} {job.name} ({job.reason})')
            if job.action != 'skip':
                print(job.command_line())
        return 0
    for job in jobs:
        if job.action != 'skip':
            check_start(job.wanted, job.name)
    if args.array:
        return _submit(args, jobs)
    runs = args.jobs or 1
    places = [{}] * runs if args.launcher == 'slurm' else divide_machine(runs, args.gpus)
    with stopping_on_signals() as stop, QueueDisplay(jobs) as display:
        failed = run_jobs(jobs, places, display, stop)
    if stop.is_set():
        _tell_stopped(jobs)
        return 130
    _report(jobs)
    return 1 if failed else 0


def _submit(args, jobs) -> int:
    more = {key: value or True for key, _, value in (option.partition('=') for option in args.sbatch)}
    parameters = slurm_parameters(args.partition, args.gpus, args.minutes, args.jobs, more)
    work_dirs = Path(args.work_dirs).resolve()
    submitted = submit_array(jobs, work_dirs, launch_of(args), **parameters)
    for job, task in zip((job for job in jobs if job.action != 'skip'), submitted):
        print(f'{task.job_id} {job.action} {job.name} ({job.reason})')
    print(f'{len(submitted)} submitted, {len(jobs) - len(submitted)} skipped; output in {work_dirs / "slurm"}')
    return 0


def check(args) -> None:
    """Refuse arguments that contradict each other."""
    if args.array and (args.launcher != 'slurm' or args.partition is None):
        raise UsageError('--array needs --launcher slurm and --partition')
    if not args.array and args.launcher == 'slurm' and (args.gpus_per_node is None or args.partition is None):
        raise UsageError('--launcher slurm needs --gpus-per-node and --partition')
    if args.launcher == 'none' and args.gpus > 1:
        raise UsageError(f'--gpus {args.gpus} needs --launcher pytorch or slurm')
    if args.accumulate < 1:
        raise UsageError(f'--accumulate {args.accumulate}: at least 1 micro-batch')
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f'--jobs {args.jobs}: at least 1 run at a time')


def launch_of(args) -> Launch:
    """Return how the runs are to be started."""
    mim_options = []
    for option in ('gpus_per_node', 'partition', 'srun_args'):
        value = getattr(args, option)
        if value is not None:
            mim_options += [f'--{option.replace("_", "-")}', str(value)]
    if args.array:  # a task has its node already
        launcher, mim_options = 'pytorch' if args.gpus > 1 else 'none', []
    else:
        launcher = args.launcher
    return Launch(launcher, args.gpus, mim_options, args.overlay, args.cfg_options, args.amp, args.accumulate)


def _tell_stopped(jobs) -> None:
    stopped = [job for job in jobs if job.problem == 'stopped']
    ended = [job for job in jobs if job.returncode is not None]
    left = len([job for job in jobs if job.action != 'skip']) - len(stopped) - len(ended)
    print(
        f'Stopped {len(stopped)} runs; {len(ended)} had ended, {left} were waiting. '
        f'To go on from the last checkpoints: atss-plugin {shlex.join(sys.argv[1:])}',
        file=sys.stderr,
    )


def _report(jobs) -> None:
    table = RichTable(
        'experiment', 'seed', 'what was done', 'work directory', title='Runs', title_justify='left', box=SIMPLE_HEAD
    )
    for job in jobs:
        if job.action == 'skip':
            done = Text(f'skipped: {job.reason}')
        elif not job.problem:
            done = Text('finished', 'green')
        else:
            done = Text.assemble(('failed', 'red'), f': {job.problem} (see its {CONSOLE_FILE})')
        table.add_row(job.row.experiment, str(job.seed), done, str(job.work_dir))
    wide_console(MIN_WIDTH).print(table)
