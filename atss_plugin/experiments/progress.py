"""How far a training has got, from the last lines that mmengine printed."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from mmengine.config import Config

# Bytes: some hundred lines of the log, more than lie between two validations of the recipe.
TAIL = 200_000
# "Iter(train) [   50/90000] ... eta: 1 day, 2:03:04 ... loss: 1.2" and "Epoch(train)  [2][ 50/250] ..."
TRAIN = re.compile(
    r'(?:Iter|Epoch)\(train\)\s+(?:\[\s*(?P<epoch>\d+)\])?\[\s*(?P<iteration>\d+)/(?P<length>\d+)\]'
    r'.*? eta: (?P<eta>(?:\d+ days?, )?[\d:]+).*? loss: (?P<loss>\S+)'
)
AP = re.compile(r'bbox_mAP: (-?[\d.]+)')


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    Attributes:
        iteration: iterations done, 0 before the first line of the log.
        length: iterations of the whole schedule.
        eta: the time left, as mmengine estimates it.
        ap: the last validation's AP in percent.
        not_finite: the losses logged since the last one that was finite.
    """

    iteration: int = 0
    length: int = 0
    eta: str = ''
    ap: Optional[float] = None
    not_finite: Tuple[str, ...] = ()


def read_progress(console: Path, cfg: Config) -> Progress:
    """Return the progress of the training that writes to a file.

    Args:
        console: the file; bytes of any kind may be in it.
        cfg: the config that is trained.
    """
    with open(console, 'rb') as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        text = file.read().decode('utf-8', errors='replace')
    values = AP.findall(text)
    ap = 100 * float(values[-1]) if values else None
    lines = list(TRAIN.finditer(text))
    if not lines:
        return Progress(ap=ap)
    last = lines[-1]
    iteration, length = int(last['iteration']), int(last['length'])
    if last['epoch']:
        iteration += (int(last['epoch']) - 1) * length
        length *= cfg.train_cfg.get('max_epochs', 1)
    losses = [line['loss'] for line in lines]
    finite = [i for i, loss in enumerate(losses) if _is_finite(loss)]
    return Progress(iteration, length, last['eta'], ap, tuple(losses[finite[-1] + 1 if finite else 0 :]))


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:  # a line that was cut off
        return True
