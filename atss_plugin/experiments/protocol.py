"""Whether a run is the row's experiment: the terms that both must share."""

from typing import Any, Callable, Dict, List

from mmengine.config import Config

from .accumulation import accumulate, micro_batches_of

# The recipe's global batch size (8 GPUs x 2), where a config states none in ``auto_scale_lr``.
BATCH_SIZE = 16
# With one of these a run is a smoke test of the experiment, not the experiment.
DECISIVE = ('data set', 'schedule', 'model')
# Where the data are and how they are fetched does not change what is learnt.
PLACE_KEYS = {'data_root', 'backend_args', 'pipeline', 'lazy_init', 'indices', '_scope_'}


def _plain(value: Any, without: frozenset = frozenset()) -> Any:
    """Return configs as plain dicts and lists, where a tuple equals the list that it is written as."""
    if isinstance(value, dict):
        return {key: _plain(item, without) for key, item in value.items() if key not in without}
    if isinstance(value, (list, tuple)):
        return [_plain(item, without) for item in value]
    return value


def _dataset(loader: Any) -> Any:
    return _plain((loader or {}).get('dataset'), frozenset(PLACE_KEYS - {'indices'}))


def _evaluator(cfg: Config) -> Any:
    # The annotation file of an evaluator is an absolute or rooted path: only its name identifies the data.
    evaluator = _plain(cfg.get('val_evaluator') or {})
    if isinstance(evaluator, dict) and 'ann_file' in evaluator:
        evaluator['ann_file'] = str(evaluator['ann_file']).rsplit('/', 1)[-1]
    return _plain(evaluator, frozenset({'backend_args', 'outfile_prefix', 'classwise'}))


def _schedule(cfg: Config) -> Any:
    return [
        _plain(cfg.get('train_cfg') or {}, frozenset({'val_interval', 'val_begin'})),
        _plain(cfg.get('param_scheduler')),
    ]


def _model(cfg: Config) -> Any:
    return _plain({key: value for key, value in cfg.model.items() if key != 'data_preprocessor'})


def _input(cfg: Config) -> Any:
    train, val = cfg.get('train_dataloader') or {}, cfg.get('val_dataloader') or {}
    pipelines = [(loader.get('dataset') or {}).get('pipeline') or [] for loader in (train, val)]
    return [
        _plain(pipelines, frozenset({'backend_args'})),
        _plain([train.get('sampler'), train.get('batch_sampler')]),
        _plain(cfg.model.get('data_preprocessor')),
    ]


PARTS: Dict[str, Callable[[Config], Any]] = {
    'data set': lambda cfg: [
        _dataset(cfg.get('train_dataloader')),
        _dataset(cfg.get('val_dataloader')),
        _evaluator(cfg),
    ],
    'schedule': _schedule,
    'model': _model,
    'input': _input,
    'optimizer': lambda cfg: _plain(cfg.get('optim_wrapper')),
    'hooks': lambda cfg: _plain(cfg.get('custom_hooks') or []),
}


def base_batch_size(cfg: Config) -> int:
    """Return the global batch size for which the learning rate of a config is meant."""
    return (cfg.get('auto_scale_lr') or {}).get('base_batch_size', BATCH_SIZE)


def differences(run: Config, row: Config, processes: int = 1) -> List[str]:
    """Return the terms in which a run differs from the experiment of a row.

    Args:
        run: the config that was trained, as the work directory holds it.
        row: the config of the row.
        processes: number of processes (GPUs) of the run; a batch is shared by all of them.

    Returns:
        Names of the terms: those in ``PARTS``, ``'start'``, ``'batch size n'``, and the losses' normalisers where
        gradients are accumulated.  Where the data are, logging, checkpointing and seeds do not count.
    """
    micro_batches = micro_batches_of(run)
    if micro_batches > 1:
        row = Config(row._cfg_dict.to_dict())
        accumulate(row, micro_batches)
    found = [name for name, part in PARTS.items() if part(run) != part(row)]
    if not _same_start(run, row):
        found.append('start')
    batch_size = run.train_dataloader.batch_size * processes * micro_batches
    if batch_size != base_batch_size(row):
        found.append(f'batch size {batch_size}')
    if micro_batches > 1:
        found.append(f'normalisers (of each of {micro_batches} micro-batches)')
    return found


def same_run(first: Config, second: Config) -> bool:
    """Return whether two configs train the same: all terms, the batch size of a process and the seed are equal."""
    return all_terms(first) == all_terms(second) and _same_start(first, second)


def all_terms(cfg: Config) -> list:
    """Return what decides how a config trains, as plain values to compare, except for its start."""
    return [seed_of(cfg), cfg.train_dataloader.batch_size, *(part(cfg) for part in PARTS.values())]


def _same_start(first: Config, second: Config) -> bool:
    # mmdet's --resume replaces load_from, whatever it was
    resumed = first.get('resume') or second.get('resume')
    return bool(resumed) or first.get('load_from') == second.get('load_from')


def seed_of(cfg: Config) -> Any:
    """Return the seed that a config asks for, None where it leaves it to chance."""
    return (cfg.get('randomness') or {}).get('seed')
