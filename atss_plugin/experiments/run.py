"""What a work directory says about the run in it.  Nothing in it is executed."""

import fcntl
import json
import math
import re
import socket
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional

from mmengine.config import Config

from .config_text import NotPlainError, read_plain_config
from .paper import METRICS
from .protocol import seed_of

LAUNCH_FILE = 'launch.json'
CONSOLE_FILE = 'console.log'
# A log that was written to within this many seconds belongs to a run that is still going (mmengine writes
# one every 50 iterations; a validation of COCO's 5000 images takes minutes).
FRESH = 900
METRIC_KEYS = dict(zip(METRICS, ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')))


@dataclass
class Run:
    """One training run, read from its work directory.

    Attributes:
        work_dir: the directory.
        state: ``running``, ``interrupted``, ``failed``, ``diverged`` (the loss is not a number) or ``finished``.
        config: the config that mmengine wrote there; None if it did not get that far, or if it is not plain data.
        progress: iterations (epochs) done, as the checkpoints and the log say.
        length: iterations (epochs) of the schedule.
        unit: ``iter`` or ``epoch``.
        metrics: the last validation in percent, by the names in ``METRICS``.
        measured_at: progress at that validation.
        seed: the seed in the config, else the one in the log.
        processes: number of processes that share a batch.
        resume_from: the checkpoint to resume from, which is the newest complete one; None if there is none.
        launch: what ``atss-plugin run`` wrote when it started the run: host, pid, command, exit status, and whether
            it was stopped.
    """

    work_dir: Path
    state: str
    config: Optional[Config] = None
    progress: int = 0
    length: int = 0
    unit: str = 'iter'
    metrics: Dict[str, float] = field(default_factory=dict)
    measured_at: Optional[int] = None
    seed: Optional[int] = None
    processes: int = 1
    resume_from: Optional[Path] = None
    launch: Optional[dict] = None


def read_run(work_dir: Path, locked_by_us: bool = False) -> Optional[Run]:
    """Read a work directory; return None if nothing was started in it.

    Args:
        work_dir: the directory.
        locked_by_us: a lock on it is this process's own, and does not mean that the run is going on.
    """
    work_dir = Path(work_dir)
    config = _read_config(work_dir)
    launch = read_launch(work_dir)
    if config is None and launch is None:
        return None
    train_cfg = config.get('train_cfg') or {} if config else {}
    unit = 'iter' if train_cfg.get('max_iters') else 'epoch'
    length = train_cfg.get('max_iters') or train_cfg.get('max_epochs') or 0
    records = _read_scalars(work_dir)
    checkpoints = complete_checkpoints(work_dir, unit)
    saved = max([_saved_progress(work_dir, unit), *checkpoints])
    finished = 0 < length <= saved and _validated(config, launch, records, length)
    losses = [record for record in records if 'loss' in record]
    # The log counts iterations that are done, but epochs that have begun.
    logged = losses[-1].get('iter', 0) if losses and unit == 'iter' else 0
    metrics, measured_at = _last_validation(records)
    log = _read_log(work_dir)
    diverged = bool(losses) and not math.isfinite(losses[-1]['loss'])
    running = not locked_by_us and (is_locked(work_dir) or _seems_running(work_dir, launch))
    return Run(
        work_dir=work_dir,
        state='running' if running else _end_state(launch, finished, diverged),
        config=config,
        progress=max(saved, logged),
        length=length,
        unit=unit,
        metrics=metrics,
        measured_at=measured_at,
        seed=_seed(config, log),
        processes=_number(r'GPU number: (\d+)', log) or 1,
        # from the last one mmengine would do nothing: a missing validation at the end would never be made up for
        resume_from=next((path for number, path in reversed(checkpoints.items()) if not 0 < length <= number), None),
        launch=launch,
    )


def read_launch(work_dir: Path) -> Optional[dict]:
    """Return what ``atss-plugin run`` wrote when it started the run; None if nothing sensible is there."""
    path = Path(work_dir) / LAUNCH_FILE
    try:
        launch = json.loads(path.read_text(encoding='utf-8', errors='replace')) if path.is_file() else None
    except json.JSONDecodeError:
        return None
    return launch if isinstance(launch, dict) else None


def is_locked(work_dir: Path) -> bool:
    """Return whether a process of the run is alive.

    The console that all of them write to is locked as long as one has it open (see ``Training``), which no
    recycled process id can pretend.
    """
    try:
        with open(Path(work_dir) / CONSOLE_FILE, 'rb') as console:
            fcntl.flock(console, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    return False


def complete_checkpoints(work_dir: Path, unit: str) -> Dict[int, Path]:
    """Return the complete checkpoints by iteration (epoch), oldest first.

    A checkpoint is a zip archive, whose directory is written last.
    """
    numbered = {_number(rf'^{unit}_(\d+)\.pth$', path.name): path for path in Path(work_dir).glob(f'{unit}_*.pth')}
    return {n: numbered[n] for n in sorted(n for n in numbered if n is not None) if zipfile.is_zipfile(numbered[n])}


def _read_config(work_dir: Path) -> Optional[Config]:
    files = sorted(work_dir.glob('*.py'))
    # A merged config lies here before the run starts: mmengine's first sign of life is a log folder.
    if not files or not any(work_dir.glob('*/*.log')):
        return None
    try:
        return read_plain_config(files[0])
    except NotPlainError:
        return None


def _read_scalars(work_dir: Path) -> List[dict]:
    """Return all records of all starts of a run, oldest first."""
    records = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:  # the line at which a run was killed
                continue
    return [
        {key: value for key, value in record.items() if isinstance(value, (int, float))}
        for record in records
        if isinstance(record, dict)
    ]


def _read_log(work_dir: Path) -> str:
    """Return the newest log's beginning, where mmengine describes the environment."""
    logs = sorted(work_dir.glob('*/*.log'))
    return logs[-1].read_text(encoding='utf-8', errors='replace')[:20000] if logs else ''


def _saved_progress(work_dir: Path, unit: str) -> int:
    """Return the iteration (epoch) of the checkpoint that mmengine named last, unless that is incomplete."""
    pointer = work_dir / 'last_checkpoint'
    name = pointer.read_text(encoding='utf-8', errors='replace').strip() if pointer.is_file() else ''
    checkpoint = work_dir / name.rsplit('/', 1)[-1]
    if checkpoint.is_file() and not zipfile.is_zipfile(checkpoint):
        return 0
    return _number(rf'{unit}_(\d+)\.pth', checkpoint.name) or 0


def _validated(config: Config, launch: Optional[dict], records: List[dict], length: int) -> bool:
    """Return whether a run whose schedule is done was validated at its end, if its config asks for it.

    A process may die between the last checkpoint and the validation that gives the run its AP.
    """
    expected = config.get('val_cfg') and (config.train_cfg.get('val_begin') or 1) <= length
    if not expected or (launch or {}).get('returncode') == 0:
        return True
    return any(record.get('step') == length and 'loss' not in record for record in records)


def _last_validation(records: List[dict]):
    for record in reversed(records):
        keys = {key.rsplit('bbox_', 1)[-1]: value for key, value in record.items() if 'bbox_' in key}
        if 'mAP' in keys:
            # COCO's evaluation gives -1 for a size without ground truths.
            metrics = {name: 100 * keys[key] for name, key in METRIC_KEYS.items() if keys.get(key, -1) >= 0}
            return metrics, record.get('step')
    return {}, None


def _seed(config: Optional[Config], log: str) -> Optional[int]:
    seed = seed_of(config) if config else None
    return _number(r'^\s*seed: (\d+)', log) if seed is None else seed


def _number(pattern: str, text: str) -> Optional[int]:
    match = re.search(pattern, text, re.MULTILINE)
    return int(match.group(1)) if match else None


def _seems_running(work_dir: Path, launch: Optional[dict]) -> bool:
    """Return whether the log was just written to, by a run started by hand or where its locks cannot be seen."""
    launch = launch or {}
    ended = launch.get('returncode') is not None or launch.get('stopped')
    if ended or launch.get('host') == socket.gethostname():
        return False
    logs = [path.stat().st_mtime for path in work_dir.glob('*/*.log')]
    return bool(logs) and time.time() - max(logs) < FRESH


def _end_state(launch: Optional[dict], finished: bool, diverged: bool) -> str:
    if diverged:
        return 'diverged'
    if finished:
        return 'finished'
    return 'failed' if (launch or {}).get('returncode') else 'interrupted'
