"""Made-up lines of a ledger and work directories."""

import json

from atss_plugin.experiments.ledger import FIELDS
from atss_plugin.experiments.run import Run

# An overlay of the project, and the name that the ledger gives to its data set.
OVERLAY, DATA = 'miniature.py', 'miniature'


def line(experiment, seed, ap=None, status='finished', **fields):
    """A line of the ledger with some AP in percent; a run that did not finish has none."""
    defaults = dict(dict.fromkeys(FIELDS), data=DATA, config=f'hash of {experiment}', commit='c0ffee', starts=1)
    return {**defaults, 'experiment': experiment, 'seed': seed, 'status': status, 'AP': ap, **fields}


def lines(data=DATA, **experiments):
    """Lines of experiments (``__`` for the dot) by their AP for seeds 0, 1, ...; None is a run that is missing."""
    return [
        line(name.replace('__', '.'), seed, ap, data=data)
        for name, values in experiments.items()
        for seed, ap in enumerate(values)
        if ap is not None
    ]


def recorded_folder(folder, **record):
    """A work directory that holds nothing but the record of one start of one minute."""
    start = dict(
        data=DATA,
        experiment='t4.k3',
        seed=0,
        config='0' * 16,
        commit='c0ffee',
        start='s',
        machine='m',
        threads=1,
        plugin='0',
        torch='1',
        mmengine='2',
        mmdet='3',
        mmcv='4',
        numpy='5',
        started=1000,
    )
    folder.mkdir(parents=True)
    text = json.dumps({**start, **record}) + '\n' + json.dumps(dict(ended=1060)) + '\n'
    (folder / 'record.jsonl').write_text(text)
    return folder


def run_of(folder, state='finished', ap=25.6, measured_at=8):
    """A run of eight epochs."""
    return Run(folder, state, length=8, unit='epoch', metrics={'AP': ap, 'AP50': 40.0}, measured_at=measured_at)
