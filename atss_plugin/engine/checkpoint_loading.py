"""mmengine's checkpoints under a torch that loads nothing but tensors by default (2.6 and later).

Such a torch refuses the checkpoints that mmengine writes, because besides tensors they hold the history of the
losses. The few types of that history are declared safe here, one by one; ``weights_only`` stays on, so that a
checkpoint from a stranger still cannot run code.
"""

import os.path as osp
import zipfile
from glob import glob
from pickle import UnpicklingError
from typing import Callable, List, Tuple, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local as mmengine_load_from_local
from mmengine.utils import digit_version

SafeGlobal = Union[Callable, Tuple[Callable, str]]
_HISTORY_DTYPES = ('float64', 'float32', 'int64')
_STATISTICS = ('current', 'max', 'mean', 'min')


class IncompleteCheckpointError(RuntimeError):
    """A file that is no complete checkpoint."""


def statistic(owner: type, name: str) -> Callable:
    """Stands in for ``getattr``, by which a pickled ``HistoryBuffer`` names its statistics.

    Raises:
        UnpicklingError: anything else is looked up. Plain ``getattr`` could reach every object of Python.
    """
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(f'a checkpoint may look up {_STATISTICS} of HistoryBuffer, not {name!r} of {owner!r}')
    return getattr(owner, name)


def mmengine_globals() -> List[SafeGlobal]:
    """All that mmengine's checkpoints hold besides what torch allows anyway; a pair is an object and its pickled
    name.

    NumPy 2 renamed the module in which its arrays are rebuilt; a checkpoint names it as the NumPy that wrote it did.
    """
    reconstruct, state, _ = np.empty(0).__reduce__()
    scalar = np.float64(0).__reduce__()[0]
    names = [(reconstruct, '_reconstruct'), (scalar, 'scalar')]
    return [
        HistoryBuffer,
        (statistic, 'builtins.getattr'),
        state[0],
        np.dtype,
        *(type(np.dtype(name)) for name in _HISTORY_DTYPES),
        *((function, f'numpy.{core}.multiarray.{name}') for function, name in names for core in ('core', '_core')),
    ]


def load_from_local(filename: str, map_location=None) -> dict:
    """mmengine's loader of files, with an error that says what to do about one that was not written to its end.

    Raises:
        FileNotFoundError: there is no such file.
        IncompleteCheckpointError: it is truncated or something else than a checkpoint.
    """
    try:
        return mmengine_load_from_local(filename, map_location)
    except (RuntimeError, EOFError, UnpicklingError, ValueError) as error:
        path = osp.expanduser(filename)
        if zipfile.is_zipfile(path):  # complete; torch says what is wrong with what is in it
            raise
        complete = [other for other in glob(osp.join(osp.dirname(path), '*.pth')) if zipfile.is_zipfile(other)]
        complete.sort(key=osp.getmtime)
        advice = f'Continue from {complete[-1]}' if complete else 'No other checkpoint is beside it; train again'
        raise IncompleteCheckpointError(
            f'{filename} ({osp.getsize(path)} bytes) is no complete checkpoint: its writing was interrupted, or it is '
            f'another file. {advice}.'
        ) from error


def install() -> None:
    """Make mmengine load its own checkpoints, from files as from elsewhere; called once, when the package is
    imported.

    Older versions of torch load them without this.
    """
    if digit_version(torch.__version__) >= digit_version('2.6'):
        torch.serialization.add_safe_globals(mmengine_globals())
    CheckpointLoader.register_scheme('', load_from_local, force=True)
