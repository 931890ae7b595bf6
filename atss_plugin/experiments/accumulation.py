"""A recipe's batch as several micro-batches in turn, for machines with fewer or smaller GPUs.

mmengine counts iterations in micro-batches, so every count of iterations grows with their number; the number of the
optimiser's steps, and the learning rate of each step, stay the recipe's.  What differs is that the losses of a
micro-batch are divided by its own positives, where the recipe averages them over all processes of a step.
"""

from mmengine.config import Config

from atss_plugin.errors import UsageError

# What schedulers count in iterations, apart from ``begin`` and ``end``.
COUNTS = {
    'ConstantLR': (),
    'LinearLR': (),
    'PolyLR': (),
    'CosineAnnealingLR': ('T_max',),
    'MultiStepLR': ('milestones',),
    'StepLR': ('step_size',),
}


def micro_batches_of(cfg: Config) -> int:
    """Return how many micro-batches make a step of a config's optimiser."""
    return (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)


def accumulate(cfg: Config, micro_batches: int) -> None:
    """Let ``micro_batches`` iterations make a step; the batch size of each is left to the caller.

    Schedules in epochs stay as they are: a micro-batch has fewer images, but an epoch has more micro-batches.

    Args:
        cfg: a training config; changed in place.
        micro_batches: how many micro-batches make a step.

    Raises:
        UsageError: the config accumulates already, or a scheduler's counts are not known.
    """
    if micro_batches_of(cfg) > 1:
        raise UsageError(f'the config accumulates {micro_batches_of(cfg)} batches already')
    cfg.optim_wrapper.accumulative_counts = micro_batches
    if cfg.train_cfg.get('max_iters'):
        _scale(cfg.train_cfg, ('max_iters', 'val_interval', 'val_begin'), micro_batches)
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if not checkpoint.get('by_epoch', True):
        _scale(checkpoint, ('interval', 'save_begin'), micro_batches)
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]:
        if not scheduler.get('by_epoch', True):
            _scale_scheduler(scheduler, micro_batches)


def _scale_scheduler(scheduler: dict, micro_batches: int) -> None:
    name = scheduler['type'].rsplit('.', 1)[-1]
    if name not in COUNTS:
        raise UsageError(f'--accumulate does not know what {name} counts; it knows {", ".join(COUNTS)}')
    end = scheduler.get('end')
    _scale(scheduler, ('begin', 'end', *COUNTS[name]), micro_batches)
    if name == 'ConstantLR' and end is not None:
        # the rate returns one iteration before `end`: after (end - 1) steps
        scheduler['end'] = (end - 1) * micro_batches + 1


def _scale(section: dict, keys: tuple, factor: int) -> None:
    for key in keys:
        value = section.get(key)
        if isinstance(value, (list, tuple)):
            section[key] = [item * factor for item in value]
        elif value is not None:
            section[key] = value * factor
