"""Planning what is missing: which runs to start, and the ``mim train`` of each."""

import argparse
import re
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config, DictAction

from atss_plugin.errors import UsageError

from .accumulation import accumulate
from .config_files import find_config, load_config
from .overlay import overlay_settings
from .paper import Row, Table
from .protocol import all_terms, base_batch_size, same_run
from .run import CONSOLE_FILE, Run, read_run

START_LINE = '=== start: '
# What mmdet's --amp changes: as settings, they tell the run from one in full precision.
MIXED_PRECISION = ['optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.loss_scale=dynamic']


@dataclass(frozen=True)
class Launch:
    """How runs are started: the options of ``mim train``, and the changes to every config.

    Attributes:
        launcher: ``none``, ``pytorch`` or ``slurm``.
        gpus: number of GPUs, which share a batch: the recipe's, or the overlay's if it has one of its own.
        mim_options: further words for ``mim train``, such as ``['--partition', 'gpu']``.
        overlay: path of a config that is merged over every row.
        cfg_options: words such as ``model.train_cfg.assigner.topk=11``.
        amp: train in mixed precision.
        accumulate: micro-batches of an optimiser step, which together are the recipe's batch.
    """

    launcher: str = 'none'
    gpus: int = 1
    mim_options: Sequence[str] = ()
    overlay: Optional[str] = None
    cfg_options: Sequence[str] = ()
    amp: bool = False
    accumulate: int = 1


@dataclass
class Job:
    """One run to start, or to leave alone.

    Attributes:
        row: the row; all rows that are the same experiment are served by one job.
        seed: the run's seed.
        work_dir: where the run is kept.
        command: the words of the command line that trains it from the start.
        wanted: the config to train.
        merged: the config to write before the start if it is not the row's own file: with an overlay or with
            accumulated gradients.
        action: ``train``, ``resume`` or ``skip``; see :meth:`decide`.
        reason: why, in words.
        resume_from: the checkpoint that ``resume`` starts from.
        returncode: its exit status, once it has run.
        problem: one line that says why it did not end well; empty if nothing is wrong.
    """

    row: Row
    seed: int
    work_dir: Path
    command: List[str]
    wanted: Config
    merged: Optional[Config] = None
    action: str = 'train'
    reason: str = ''
    resume_from: Optional[Path] = None
    returncode: Optional[int] = None
    problem: str = ''

    @property
    def name(self) -> str:
        """Experiment and seed, as the reports show them."""
        return f'{self.row.experiment} seed {self.seed}'

    def decide(self, locked_by_us: bool = False) -> None:
        """Look at the work directory, and settle what is to be done.

        Args:
            locked_by_us: see :func:`read_run`.

        Raises:
            UsageError: it holds a run of another configuration.
        """
        self.action, self.reason, self.resume_from = 'train', 'not run yet', None
        run = read_run(self.work_dir, locked_by_us)
        if run is None:
            return
        if run.state in ('failed', 'interrupted') and run.resume_from is None:
            self.reason = f'{run.state} before its first checkpoint'
            return
        if run.config is not None and not same_run(run.config, self.wanted):
            raise UsageError(
                f'{self.work_dir} holds a run of another configuration, not of the requested one: give another '
                '--work-dirs, remove that folder, or ask for the same overlay and options'
            )
        if run.state in ('failed', 'interrupted'):
            self.action, self.resume_from = 'resume', run.resume_from
            self.reason = f'{run.state} at {run.unit} {run.progress} of {run.length}'
        else:
            self.action, self.reason = 'skip', _state_in_words(run)

    def error(self) -> str:
        """Return the first error that the run's last start printed, in one line; empty if there is none."""
        console = (self.work_dir / CONSOLE_FILE).read_text(encoding='utf-8', errors='replace')
        printed = console.rsplit(START_LINE, 1)[-1]
        found = re.findall(r'^[\w.]*(?:Error|Exception)(?:: .*)?$', printed, re.MULTILINE)
        # what mim says whenever a training fails
        causes = [line for line in found if 'CalledProcessError' not in line]
        killed = re.search(r'CalledProcessError: .* died with <Signals\.(\w+)', printed)
        if not causes and killed:
            return f'killed by {killed.group(1)}'
        return causes[0] if causes else ''

    def command_line(self) -> str:
        """Return the command as it is typed in a shell."""
        return shlex.join(self.words())

    def words(self) -> List[str]:
        """Return the words of the command."""
        return [*self.command, *(['--resume'] if self.action == 'resume' else [])]


def _state_in_words(run: Run) -> str:
    launch = run.launch or {}
    if run.state == 'running' and launch:
        return f'running since {launch.get("started")}, process {launch.get("pid")} on {launch.get("host")}'
    if run.state == 'diverged':
        return f'diverged at {run.unit} {run.progress}: remove its folder to train it again'
    return run.state


def mim_package() -> str:
    """Return what mim calls mmdet: the name of the distribution that provides it."""
    try:
        metadata.version('mmdet')
    except metadata.PackageNotFoundError:
        return 'onedl-mmdetection'
    return 'mmdet'


def parse_cfg_options(words: Sequence[str]) -> dict:
    """Return ``['a.b=1', 'c=[1,2]']`` as the dict that mmengine merges into a config.

    Raises:
        UsageError: a word without ``=``.
    """
    for word in words:
        if '=' not in word:
            raise UsageError(f'--cfg-options {word}: write KEY=VALUE, such as model.train_cfg.assigner.topk=11')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    return parser.parse_args(['--cfg-options', *words]).cfg_options or {}


def plan_jobs(tables: List[Table], work_dirs: Path, seeds: Sequence[int], launch: Launch) -> List[Job]:
    """Return one job per experiment and seed, however many rows and tables show the experiment.

    Raises:
        UsageError: a work directory holds a run of another configuration, or the recipe's batch cannot
            be shared by so many GPUs.
    """
    rows: Dict[str, Row] = {}
    for table in tables:
        for row in table.rows:
            rows.setdefault(row.experiment, row)
    jobs: List[Job] = []
    planned: List[Tuple[list, Job]] = []
    for row in rows.values():
        base = load_config(row.config)
        for seed in dict.fromkeys(seeds):
            job = _plan_job(row, base, seed, Path(work_dirs), launch)
            # rows that differ only in how they test, such as those with multi-scale testing in Table 8
            terms = all_terms(job.wanted)
            first = next((other for others, other in planned if others == terms), None)
            if first and job.action != 'skip':
                job.action, job.reason = 'skip', f'the same training as {first.row.experiment}: test its checkpoint'
            jobs.append(job)
            planned.append((terms, job))
    return jobs


def _plan_job(row: Row, base: Config, seed: int, work_dirs: Path, launch: Launch) -> Job:
    prefix = f'{Path(launch.overlay).stem}-' if launch.overlay else ''
    work_dir = work_dirs / row.experiment / f'{prefix}seed{seed}'
    wanted = Config(base._cfg_dict.to_dict(), filename=base.filename)
    overlay = overlay_settings(launch.overlay) if launch.overlay else {}
    wanted.merge_from_dict(overlay)
    if launch.accumulate > 1:
        accumulate(wanted, launch.accumulate)
    changed = launch.overlay or launch.accumulate > 1
    merged = Config(wanted._cfg_dict.to_dict()) if changed else None
    own_batch = (overlay.get('train_dataloader') or {}).get('batch_size')
    options = [*_batch_options(own_batch, base_batch_size(base), launch), f'randomness.seed={seed}']
    options += [*(MIXED_PRECISION if launch.amp else []), *launch.cfg_options]
    wanted.merge_from_dict(parse_cfg_options(options))
    config = work_dir / Path(row.config).name if changed else find_config(row.config)
    command = [
        'mim',
        'train',
        mim_package(),
        str(config),
        '--yes',
        '--launcher',
        launch.launcher,
        '--gpus',
        str(launch.gpus),
        *launch.mim_options,
        '--work-dir',
        str(work_dir),
        '--cfg-options',
        *options,
    ]
    job = Job(row, seed, work_dir, command, wanted, merged)
    job.decide()
    return job


def _batch_options(own_batch: Optional[int], recipes_batch: int, launch: Launch) -> List[str]:
    """Return the batch of a process with which the global batch is the same on any number of GPUs.

    That is the overlay's own batch if it has one, else the recipe's; the user may set that of a micro-batch instead.
    """
    key = 'train_dataloader.batch_size'
    if any(option.startswith(f'{key}=') for option in launch.cfg_options):
        return []
    processes, total = max(launch.gpus, 1), own_batch or recipes_batch
    shares = processes * launch.accumulate
    if total % shares:
        raise UsageError(
            f'a batch of {total} images cannot be shared by {processes} GPUs'
            + (f' with {launch.accumulate} micro-batches each' if launch.accumulate > 1 else '')
            + f': choose a divisor, or give --cfg-options {key}=N (and the learning rate that fits)'
        )
    return [] if own_batch and shares == 1 else [f'{key}={total // shares}']
