"""What a work directory says about the run in it."""

import json
import os
import re
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional

from mmengine.config import Config

from .paper import METRICS
from .protocol import seed_of

LAUNCH_FILE = 'launch.json'
# A log that was written to within this many seconds belongs to a run that goes on (mmengine writes
# one every 50 iterations; a validation of COCO's 5000 images takes minutes).
FRESH = 900
METRIC_KEYS = dict(zip(METRICS, ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')))


@dataclass
class Run:
    """One training run, read from its work directory.

    Attributes:
        work_dir: the directory.
        state: ``running``, ``interrupted``, ``failed`` or ``finished``.
        config: the config that mmengine wrote there; None if it did not get that far.
        progress: iterations (epochs) done, as the checkpoints and the log say.
        length: iterations (epochs) of the schedule.
        unit: ``iter`` or ``epoch``.
        metrics: the last validation in percent, by the names in ``METRICS``.
        measured_at: progress at that validation.
        seed: the seed in the config, else the one in the log.
        processes: number of processes that share a batch.
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


def read_run(work_dir: Path) -> Optional[Run]:
    """Read a work directory; None if nothing was started in it."""
    work_dir = Path(work_dir)
    config = _read_config(work_dir)
    launch = read_launch(work_dir)
    if config is None and launch is None:
        return None
    train_cfg = config.get('train_cfg', {}) if config else {}
    unit = 'iter' if train_cfg.get('max_iters') else 'epoch'
    length = train_cfg.get('max_iters') or train_cfg.get('max_epochs') or 0
    records = _read_scalars(work_dir)
    saved = _saved_progress(work_dir, unit)
    # The log counts iterations that are done, but epochs that have begun.
    logged = next((r['iter'] for r in reversed(records) if 'loss' in r), 0) if unit == 'iter' else 0
    metrics, measured_at = _last_validation(records)
    log = _read_log(work_dir)
    return Run(
        work_dir=work_dir,
        state=_state(work_dir, launch, finished=0 < length <= saved),
        config=config,
        progress=max(saved, logged),
        length=length,
        unit=unit,
        metrics=metrics,
        measured_at=measured_at,
        seed=_seed(config, log),
        processes=_number(r'GPU number: (\d+)', log) or 1,
    )


def read_launch(work_dir: Path) -> Optional[dict]:
    """Return what ``atss-plugin run`` wrote when it started the run: host, pid, command and exit status."""
    path = Path(work_dir) / LAUNCH_FILE
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None


def _read_config(work_dir: Path) -> Optional[Config]:
    files = sorted(work_dir.glob('*.py'))
    # A merged config lies here before the run starts: mmengine's first sign of life is a log folder.
    if not files or not any(work_dir.glob('*/*.log')):
        return None
    return Config.fromfile(files[0])


def _read_scalars(work_dir: Path) -> List[dict]:
    """All records of all starts of a run, oldest first."""
    records = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:  # the line at which a run was killed
                continue
    return records


def _read_log(work_dir: Path) -> str:
    """Return the newest log's beginning, where mmengine describes the environment."""
    logs = sorted(work_dir.glob('*/*.log'))
    return logs[-1].read_text(encoding='utf-8', errors='replace')[:20000] if logs else ''


def _saved_progress(work_dir: Path, unit: str) -> int:
    pointer = work_dir / 'last_checkpoint'
    return _number(rf'{unit}_(\d+)\.pth', pointer.read_text(encoding='utf-8')) or 0 if pointer.is_file() else 0


def _last_validation(records: List[dict]):
    for record in reversed(records):
        keys = {key.rsplit('bbox_', 1)[-1]: value for key, value in record.items() if 'bbox_' in key}
        if 'mAP' in keys:
            # COCO's evaluation gives -1 for a size of which there is no ground truth.
            metrics = {name: 100 * keys[key] for name, key in METRIC_KEYS.items() if keys.get(key, -1) >= 0}
            return metrics, record.get('step')
    return {}, None


def _seed(config: Optional[Config], log: str) -> Optional[int]:
    seed = seed_of(config) if config else None
    return _number(r'^\s*seed: (\d+)', log) if seed is None else seed


def _number(pattern: str, text: str) -> Optional[int]:
    match = re.search(pattern, text, re.MULTILINE)
    return int(match.group(1)) if match else None


def _state(work_dir: Path, launch: Optional[dict], finished: bool) -> str:
    here = launch is not None and launch['host'] == socket.gethostname()
    ended = launch is not None and launch['returncode'] is not None
    if here and not ended and _alive(launch['pid']):
        return 'running'
    if finished:
        return 'finished'
    if ended and launch['returncode'] != 0:
        return 'failed'
    logs = [path.stat().st_mtime for path in work_dir.glob('*/*.log')]
    if not here and not ended and logs and time.time() - max(logs) < FRESH:
        return 'running'
    return 'interrupted'


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process
        return True
    return True
