"""What a run was started with, written to its work directory at its start to tell its result from any other.

``record.jsonl`` in a work directory has two lines per start: what was started, and, once it ended, how long it
took until it ended or was stopped. A start without the second line was killed together with its launcher.
"""

import hashlib
import json
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any, List, Mapping, Optional

from mmengine.config import Config

from atss_plugin.errors import UsageError
from atss_plugin.version import __version__

from .config_files import PACKAGE
from .machine import cores
from .start import start_hash

RECORD_FILE = 'record.jsonl'
# Each package by the distributions that may provide it.
DISTRIBUTIONS = {
    'torch': ['torch'],
    'mmengine': ['mmengine', 'onedl-mmengine'],
    'mmdet': ['mmdet', 'onedl-mmdetection'],
    'mmcv': ['mmcv', 'mmcv-lite', 'onedl-mmcv'],
    'numpy': ['numpy'],
}
# Where a run and its data are does not change what is learnt; the seed has a field of its own.
PLACES = {'work_dir', 'data_root', 'backend_args', 'randomness'}
# What must be the same for two runs of one commit to agree to the last digit.
ENVIRONMENT = ('start', 'machine', 'threads', 'plugin', *DISTRIBUTIONS)


def record_start(job, environment: Mapping[str, str]) -> None:
    """Record a start of a run, just before its training process begins.

    Args:
        job: the :class:`Job` that is started; its work directory must exist.
        environment: the variables of the training process.
    """
    path = Path(job.work_dir) / RECORD_FILE
    if job.action != 'resume':  # what an earlier start left is not part of this run
        path.unlink(missing_ok=True)
    threads = environment.get('OMP_NUM_THREADS', '').split(',')[0]  # OpenMP takes a number for each nested level
    _append(
        path,
        dict(
            data=data_of(job.work_dir),
            experiment=job.row.experiment,
            seed=job.seed,
            config=config_hash(job.wanted),
            commit=commit(),
            start=start_hash(job.wanted),
            machine=machine(),
            threads=int(threads) if threads.isdecimal() else cores(),
            **versions(),
            started=round(time.time()),
        ),
    )


def record_end(job) -> None:
    """Record that the training process of a run ended, well or not."""
    _append(Path(job.work_dir) / RECORD_FILE, dict(ended=round(time.time())))


def data_of(work_dir: Path) -> str:
    """Return the data set of a run that ``atss-plugin run`` keeps in ``OVERLAY-seedN``, or ``seedN`` for COCO."""
    return Path(work_dir).name.rpartition('-seed')[0] or 'coco'


def _append(path: Path, line: dict) -> None:
    with open(path, 'a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')


def read_record(work_dir: Path) -> Optional[dict]:
    """Return what is recorded of a run, None if nothing is.

    Returns:
        The fields of its start, ``starts`` (how many there were) and ``minutes`` (of all starts; None if one of
        them was killed). A field that differs between the starts, such as ``commit``, has all its values, joined
        by ``+``.

    Raises:
        UsageError: the file is damaged.
    """
    path = Path(work_dir) / RECORD_FILE
    if not path.is_file():
        return None
    try:
        lines = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
        starts = [line for line in lines if 'started' in line]
        record = {key: _joined([start[key] for start in starts]) for key in starts[0] if key != 'started'}
        minutes = [(line['ended'] - start['started']) / 60 for start, line in zip(lines, lines[1:]) if 'ended' in line]
    except (ValueError, TypeError, LookupError) as error:
        raise UsageError(f'{path} is damaged: remove the work directory and repeat the run') from error
    record['starts'] = len(starts)
    record['minutes'] = round(sum(minutes), 1) if len(minutes) == len(starts) else None
    return record


def _joined(values: List[Any]) -> Any:
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else '+'.join(map(str, different))


def config_hash(cfg: Config) -> str:
    """Return the first 16 digits of the SHA-256 of a config in canonical form.

    Tuples are lists, keys are sorted, and what only says where things are is left out, as is the seed: all seeds
    of an experiment share the hash, on any machine.
    """
    content = cfg._cfg_dict.to_dict()
    roots = sorted(_data_roots(content), key=len, reverse=True)
    text = json.dumps(_canonical(content, roots), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _data_roots(value: Any) -> set:
    """Return every ``data_root`` in a config: its evaluators put it before the names of their files."""
    if isinstance(value, dict):
        own = {value['data_root']} if isinstance(value.get('data_root'), str) else set()
        return own.union(*map(_data_roots, value.values())) - {''}
    if isinstance(value, (list, tuple)):
        return set().union(*map(_data_roots, value))
    return set()


def _canonical(value: Any, roots: List[str], key: str = '') -> Any:
    if isinstance(value, dict):
        return {name: _canonical(item, roots, name) for name, item in value.items() if name not in PLACES}
    if isinstance(value, (list, tuple)):
        return [_canonical(item, roots) for item in value]
    if isinstance(value, str):
        root = next((root for root in roots if value.startswith(root)), '')
        value = value[len(root) :].lstrip('/') if root else value
        return Path(value).name if key == 'load_from' else value
    return value


def commit() -> Optional[str]:
    """Return the commit of this checkout, with ``-dirty`` if its files differ from it; None outside of git."""
    head = _git('rev-parse', '--short=12', 'HEAD')
    if head is None:
        return None
    return f'{head}-dirty' if _git('status', '--porcelain', '--untracked-files=no') else head


def _git(*words: str) -> Optional[str]:
    root = PACKAGE.parent
    if not (root / '.git').exists():
        return None
    try:
        done = subprocess.run(['git', '-C', str(root), *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:  # git itself is missing
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def machine() -> str:
    """Return the type of this machine: architecture, processor, torch's instruction set, and GPU if there is one.

    A hypervisor may call every processor of a maker by one name; sums of other vector lengths are rounded otherwise.
    """
    import torch

    cpuinfo = Path('/proc/cpuinfo')
    found = re.search(r'^model name\s*: (.+)$', cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    words = [platform.machine(), found.group(1).strip() if found else platform.processor()]
    words += re.findall(r'CPU capability usage: (\S+)', torch.__config__.show())
    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return ', '.join(filter(None, words))


def versions() -> dict:
    """Return the versions of what computes a result, None for what is missing."""
    return {'plugin': __version__, **{package: _version(names) for package, names in DISTRIBUTIONS.items()}}


def _version(distributions: List[str]) -> Optional[str]:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
