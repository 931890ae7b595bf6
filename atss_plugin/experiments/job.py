"""Training what is missing: which runs to start, through ``mim train``, and starting them one by one."""

import argparse
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import List, Optional, Sequence

from mmengine.config import Config, DictAction

from .config_files import PACKAGE, find_config, load_config
from .overlay import apply_overlay
from .paper import Row, Table
from .protocol import base_batch_size, same_run
from .run import LAUNCH_FILE, read_run

CONSOLE_FILE = 'console.log'
START_LINE = '=== start: '


@dataclass(frozen=True)
class Launch:
    """How runs are started: the options of ``mim train``, and what is changed in every config.

    Attributes:
        launcher: ``none``, ``pytorch`` or ``slurm``.
        gpus: number of GPUs; the global batch size stays the recipe's.
        mim_options: further words for ``mim train``, such as ``['--partition', 'gpu']``.
        overlay: path of a config that is merged over every row.
        cfg_options: words such as ``model.train_cfg.assigner.topk=11``.
        amp: train in mixed precision.
    """

    launcher: str = 'none'
    gpus: int = 1
    mim_options: Sequence[str] = ()
    overlay: Optional[str] = None
    cfg_options: Sequence[str] = ()
    amp: bool = False


@dataclass
class Job:
    """One run to start, or to leave alone.

    Attributes:
        row: the row; all rows that are the same experiment are served by one job.
        seed: the run's seed.
        work_dir: where the run is kept.
        action: ``train``, ``resume`` or ``skip``.
        reason: why, in words.
        command: the words of the command line.
        wanted: the config that is to be trained.
        merged: the config to write before the start, if an overlay is merged over the row's.
        returncode: exit status once it ran.
    """

    row: Row
    seed: int
    work_dir: Path
    action: str
    reason: str
    command: List[str]
    wanted: Config
    merged: Optional[Config] = None
    returncode: Optional[int] = None

    @property
    def name(self) -> str:
        """Experiment and seed, as the reports show them."""
        return f'{self.row.experiment} seed {self.seed}'

    def error(self) -> str:
        """Return the first error that the run's last start printed, one line; empty if there is none."""
        console = (self.work_dir / CONSOLE_FILE).read_text(encoding='utf-8', errors='replace')
        found = re.findall(r'^[\w.]*(?:Error|Exception): .*', console.rsplit(START_LINE, 1)[-1], re.MULTILINE)
        return found[0] if found else ''

    def command_line(self) -> str:
        """Return the command as a shell takes it."""
        return shlex.join(self.command)


def mim_package() -> str:
    """Return what mim calls mmdet: the name of the distribution that brings it."""
    try:
        metadata.version('mmdet')
    except metadata.PackageNotFoundError:
        return 'onedl-mmdetection'
    return 'mmdet'


def parse_cfg_options(words: Sequence[str]) -> dict:
    """``['a.b=1', 'c=[1,2]']`` as the dict that mmengine merges into a config."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    return parser.parse_args(['--cfg-options', *words]).cfg_options or {}


def plan_jobs(tables: List[Table], work_dirs: Path, seeds: Sequence[int], launch: Launch) -> List[Job]:
    """One job an experiment and seed, however many rows and tables show the experiment.

    Raises:
        ValueError: a work directory holds a run of another configuration, or the recipe's batch cannot
            be shared by so many GPUs.
    """
    rows = {}
    for table in tables:
        for row in table.rows:
            rows.setdefault(row.experiment, row)
    jobs = [_plan_job(row, seed, Path(work_dirs), launch) for row in rows.values() for seed in seeds]
    for number, job in enumerate(jobs):
        # rows that differ in how they test only, as those of multi-scale testing in Table 8
        twins = [other for other in jobs[:number] if same_run(other.wanted, job.wanted)]
        if twins and job.action != 'skip':
            job.action = 'skip'
            job.reason = f'the same training as {twins[0].row.experiment}: test its checkpoint'
    return jobs


def _plan_job(row: Row, seed: int, work_dirs: Path, launch: Launch) -> Job:
    prefix = f'{Path(launch.overlay).stem}-' if launch.overlay else ''
    work_dir = work_dirs / row.experiment / f'{prefix}seed{seed}'
    base = load_config(row.config)
    options = [*_batch_options(base, launch), f'randomness.seed={seed}', *launch.cfg_options]
    wanted = Config(base._cfg_dict.to_dict(), filename=base.filename)
    if launch.overlay:
        wanted = apply_overlay(base, launch.overlay)
    merged = Config(wanted._cfg_dict.to_dict()) if launch.overlay else None
    wanted.merge_from_dict(parse_cfg_options(options))
    action, reason = _decide(work_dir, wanted)
    config = work_dir / Path(row.config).name if launch.overlay else find_config(row.config)
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
        *(['--amp'] if launch.amp else []),
        *(['--resume'] if action == 'resume' else []),
        '--cfg-options',
        *options,
    ]
    return Job(row, seed, work_dir, action, reason, command, wanted, merged)


def _batch_options(base: Config, launch: Launch) -> List[str]:
    """Return the batch of a process, so that the global batch is the recipe's on any number of GPUs.

    An overlay brings its own batch size, and so may the user.
    """
    key = 'train_dataloader.batch_size'
    if launch.overlay or any(option.startswith(f'{key}=') for option in launch.cfg_options):
        return []
    total, processes = base_batch_size(base), max(launch.gpus, 1)
    if total % processes:
        raise ValueError(
            f'a batch of {total} images cannot be shared by {processes} GPUs: choose a divisor, or give '
            f'--cfg-options {key}=N (and the learning rate that fits)'
        )
    return [f'{key}={total // processes}']


def _decide(work_dir: Path, wanted: Config):
    run = read_run(work_dir)
    if run is None:
        return 'train', 'not run yet'
    if run.state != 'running' and not (work_dir / 'last_checkpoint').is_file():
        return 'train', f'{run.state} before its first checkpoint'
    if run.config is not None and not same_run(run.config, wanted):
        raise ValueError(
            f'{work_dir} holds a run of another configuration than the one asked for: give another '
            '--work-dirs, remove that folder, or ask for the same overlay and options'
        )
    if run.state in ('running', 'finished'):
        return 'skip', run.state
    return 'resume', f'{run.state} at {run.unit} {run.progress} of {run.length}'


def run_jobs(jobs: List[Job], announce=print) -> List[Job]:
    """Run the jobs that are not skipped, one after the other; a failure does not stop the next.

    Args:
        jobs: as planned; their ``returncode`` is filled in.
        announce: is called with a line of text before each run.

    Returns:
        The jobs that failed.
    """
    waiting = [job for job in jobs if job.action != 'skip']
    for number, job in enumerate(waiting, 1):
        announce(f'[{number}/{len(waiting)}] {job.action} {job.name}: {job.command_line()}')
        job.returncode = _start(job)
    return [job for job in waiting if job.returncode != 0]


def _start(job: Job) -> int:
    job.work_dir.mkdir(parents=True, exist_ok=True)
    if job.merged is not None:
        job.merged.dump(job.work_dir / Path(job.row.config).name)
    command = [sys.executable, '-m', *job.command]
    # A checkout that is not installed is found by the training process as well.
    paths = [str(PACKAGE.parent), os.environ.get('PYTHONPATH', '')]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    launch = dict(
        host=socket.gethostname(),
        started=time.strftime('%Y-%m-%d %H:%M:%S'),
        command=job.command_line(),
        returncode=None,
    )
    with open(job.work_dir / CONSOLE_FILE, 'a', encoding='utf-8') as console, subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        launch['pid'] = process.pid
        console.write(f'{START_LINE}{launch["started"]}\n')
        _write_launch(job.work_dir, launch)
        try:
            for line in process.stdout:
                sys.stdout.write(line)
                console.write(line)
            launch['returncode'] = process.wait()
        finally:  # also when the user stops everything: the record then says that it ended early
            if launch['returncode'] is None:
                process.terminate()
                launch['returncode'] = process.wait()
            _write_launch(job.work_dir, launch)
    return launch['returncode']


def _write_launch(work_dir: Path, launch: dict) -> None:
    """Write the record in one step, so that nobody reads half of it."""
    path = work_dir / LAUNCH_FILE
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(launch, indent=1), encoding='utf-8')
    os.replace(partial, path)
