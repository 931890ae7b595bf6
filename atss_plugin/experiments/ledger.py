"""The ledger: results as data, one line of JSON per run, collected from work directories and never edited by hand."""

import json
import os
import re
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from atss_plugin.errors import UsageError

from .config_files import config_root
from .job import Launch, plan_jobs
from .paper import METRICS, load_beyond, load_tables
from .record import ENVIRONMENT, RECORD_FILE, config_hash, read_record
from .run import Run, read_run

# What tells two runs apart; runs of a seed that start from other weights are no pair, but may be in one ledger.
KEY = ('data', 'experiment', 'seed', 'start')
FINISHED = 'finished'
ENDED = (FINISHED, 'failed', 'diverged')
FIELDS = ('data', 'experiment', 'seed', 'status', *METRICS, 'config', 'commit', 'starts', 'minutes', *ENVIRONMENT)
NOT_COMPARED = ('minutes', 'starts')


def ledger_path() -> Path:
    """Return the committed ledger."""
    return config_root() / 'evidence' / 'runs.jsonl'


def overlay_of(data: str) -> str:
    """Return the overlay that puts every experiment on a data set, such as ``miniature.py``.

    Only the project's own overlays are considered: a work directory names its data set, and a config is Python code.

    Raises:
        UsageError: there is none.
    """
    for name in (f'{data}.py', f'overlays/{data}.py'):
        if re.fullmatch(r'[\w-]+', str(data)) and (config_root() / name).is_file():
            return str(config_root() / name)
    raise UsageError(f'no overlay {data}.py below {config_root()}: {data!r} is not a data set of the ledger')


def read_ledger(path: Optional[Path] = None) -> List[dict]:
    """Read a ledger, empty if there is none yet.

    Raises:
        UsageError: a line that is not JSON or lacks a field, two lines for one run, or runs of one experiment with
            different configurations.
    """
    path = Path(path or ledger_path())
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        try:
            lines.append({field: json.loads(text)[field] for field in FIELDS})
        except (ValueError, TypeError, LookupError) as error:
            raise UsageError(f'{path}, line {number}: not a run ({error!r}); restore the committed file') from error
    _check(lines, path)
    return lines


def _check(lines: Sequence[dict], path: Path) -> None:
    runs: Dict[tuple, dict] = {}
    configs: Dict[tuple, dict] = {}
    for line in lines:
        other = runs.setdefault(_key(line), line)
        if other is not line:
            raise UsageError(f'{path} has two lines for {name_of(line)}')
        other = configs.setdefault((line['data'], line['experiment']), line)
        if other['config'] != line['config']:
            raise UsageError(
                f'{path}: {name_of(other)} has configuration {other["config"]}, {name_of(line)} has '
                f'{line["config"]}: these are two experiments; keep them in two ledgers'
            )


def _key(line: dict) -> tuple:
    return tuple(line[field] for field in KEY)


def _order(line: dict) -> tuple:
    return (*_key(line)[:-1], str(line['start']))  # a run that starts from no file has None


def name_of(line: dict) -> str:
    """Return a run in words."""
    name = f'{line["experiment"]} seed {line["seed"]} on {line["data"]}'
    return f'{name} from {line["start"]}' if line['start'] else name


def write_ledger(lines: Sequence[dict], path: Path) -> None:
    """Write a ledger in one step, sorted, so that a diff shows what is new."""
    _check(lines, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    text = ''.join(json.dumps(line) + '\n' for line in sorted(lines, key=_order))
    partial.write_text(text, encoding='utf-8')
    os.replace(partial, path)


def expected_hash(data: str, experiment: str) -> str:
    """Return the hash of the configuration that an experiment has on a data set today.

    Raises:
        UsageError: no row is this experiment, or there is no overlay for the data set.
    """
    for table in [*load_tables(), *load_beyond()]:
        for row in table.rows:
            if row.experiment == experiment:
                only = type(table)(table.number, table.title, [row])
                # a folder that does not exist, so the plan is to train, whatever was trained before
                job = plan_jobs([only], config_root() / 'no runs', [0], Launch(overlay=overlay_of(data)))[0]
                return config_hash(job.wanted)
    raise UsageError(f'{experiment} is not an experiment of the paper tables')


def collect(folders: Sequence[Path]) -> Tuple[List[dict], List[str]]:
    """Read the runs below some folders.

    Returns:
        The lines of the runs that ended, and in words why every other run is left out.
    """
    lines, left_out = [], []
    hashes: Dict[tuple, str] = {}
    for folder in sorted({path.parent for root in folders for path in Path(root).rglob(RECORD_FILE)}):
        try:
            record, run = read_record(folder), read_run(folder)
            if record is None or run is None or run.state not in ENDED:
                raise UsageError(run.state if run else 'not started')
            key = (record['data'], record['experiment'])
            hashes[key] = hashes.get(key) or expected_hash(*key)
            if record['config'] != hashes[key]:
                raise UsageError(f'of another configuration, not that of {key[1]} with the overlay {key[0]} today')
            lines.append(line_of(run, record))
        except UsageError as error:
            left_out.append(f'{folder}: {error}')
    return lines, left_out


def line_of(run: Run, record: dict) -> dict:
    """Return a run's line; its AP, in percent, is that of the end of the schedule.

    A run that finished without any AP (mmdet gives none where nothing at all is detected) counts as failed.

    Raises:
        UsageError: the run finished, but was last measured before its end.
    """
    status = 'failed' if run.state == FINISHED and 'AP' not in run.metrics else run.state
    if status == FINISHED and run.measured_at != run.length:
        raise UsageError(
            f'finished at {run.unit} {run.length}, but last measured at {run.measured_at}: let train_cfg.val_interval '
            'divide the schedule'
        )
    metrics = run.metrics if status == FINISHED else {}
    # mmdet gives three decimals of a fraction; further digits come from the factor 100
    reached = {metric: round(metrics[metric], 6) if metric in metrics else None for metric in METRICS}
    line = {**record, 'status': status, **reached}
    return {field: line[field] for field in FIELDS}


def merge(ledger: Sequence[dict], new: Sequence[dict]) -> Tuple[List[dict], List[str]]:
    """Add runs to a ledger. Adding what is already there changes nothing.

    Returns:
        The ledger, and in words what is new in it.

    Raises:
        UsageError: the ledger has another result for a run. Only a run that failed gives way, to the same run (same
            configuration, same commit) that was started again.
    """
    merged = {_key(line): line for line in ledger}
    news = []
    for line in new:
        old = merged.get(_key(line))
        if old is None:
            news.append(f'{name_of(line)}: {line["status"]}')
        elif not differences(old, line, ignore=NOT_COMPARED):
            continue
        elif old['status'] != FINISHED and not differences(old, line, only=('config', 'commit')):
            news.append(f'{name_of(line)}: {line["status"]}, was {old["status"]}')
        else:
            found = '; '.join(differences(old, line, ignore=NOT_COMPARED))
            raise UsageError(
                f'the ledger has another result for {name_of(line)} ({found}): it is kept; collect this '
                'one into another file (--ledger)'
            )
        merged[_key(line)] = line
    return list(merged.values()), news


def differences(old: dict, new: dict, only: Sequence[str] = FIELDS, ignore: Sequence[str] = ()) -> List[str]:
    """Return in words the fields in which two lines differ."""
    return [
        f'{field}: {old[field]} -> {new[field]}' for field in only if field not in ignore and old[field] != new[field]
    ]
