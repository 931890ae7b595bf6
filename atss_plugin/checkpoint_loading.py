"""mmengine's checkpoints under a torch that loads nothing but tensors by default (2.6 and later).

Such a torch refuses the checkpoints that mmengine writes, because besides tensors they hold the history of the
losses. The few types of that history are declared safe here, one by one; ``weights_only`` stays on, so that a
checkpoint from a stranger still cannot run code.
"""

import os.path as osp
import zipfile
from contextlib import contextmanager
from functools import wraps
from glob import glob
from pickle import UnpicklingError
from typing import Callable, Iterator, List, Tuple, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version

SafeGlobal = Union[Callable, Tuple[Callable, str]]
_HISTORY_DTYPES = ('float64', 'float32', 'int64')
_STATISTICS = ('current', 'max', 'mean', 'min')


class IncompleteCheckpointError(RuntimeError):
    """A file that is not a complete checkpoint."""


def statistic(owner: type, name: str) -> Callable:
    """Stand in for ``getattr``, by which a pickled ``HistoryBuffer`` names its statistics.

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
    reconstruct, scalar = (value.__reduce__()[0] for value in (np.empty(0), np.float64(0)))
    names = [(reconstruct, '_reconstruct'), (scalar, 'scalar')]
    return [
        HistoryBuffer,
        (statistic, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        *(type(np.dtype(name)) for name in _HISTORY_DTYPES),
        *((function, f'numpy.{core}.multiarray.{name}') for function, name in names for core in ('core', '_core')),
    ]


@contextmanager
def mmengine_globals_allowed() -> Iterator[None]:
    """Let torch load what mmengine's checkpoints hold; permissions of others for ``getattr`` step aside meanwhile."""
    before = torch.serialization.get_safe_globals()
    others = [entry for entry in before if not (isinstance(entry, tuple) and entry[1] == 'builtins.getattr')]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*others, *mmengine_globals()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def safe_loader(load: Callable) -> Callable:
    """Return a loader of mmengine's that allows, while it loads, what mmengine's checkpoints hold.

    It raises a FileNotFoundError where there is no file, and an IncompleteCheckpointError, which says what to do, for
    one that was not written to its end.
    """

    @wraps(load)
    def load_safely(filename: str, map_location=None) -> dict:
        try:
            if digit_version(torch.__version__) < digit_version('2.6'):  # loads everything by default
                return load(filename, map_location)
            with mmengine_globals_allowed():
                return load(filename, map_location)
        except (RuntimeError, EOFError, UnpicklingError, ValueError) as error:
            path = osp.expanduser(filename)
            if not osp.isfile(path) or zipfile.is_zipfile(path):
                raise  # complete; torch says what is wrong with what is in it
            raise IncompleteCheckpointError(_advice(filename, path)) from error

    return load_safely


def _advice(filename: str, path: str) -> str:
    """Say what to do about a file that is not a complete checkpoint."""
    complete = [other for other in glob(osp.join(osp.dirname(path), '*.pth')) if zipfile.is_zipfile(other)]
    complete.sort(key=osp.getmtime)
    advice = f'Continue from {complete[-1]}' if complete else 'No other checkpoint is next to it; train again'
    return (
        f'{filename} ({osp.getsize(path)} bytes) is not a complete checkpoint: its writing was interrupted, or it is '
        f'another file. {advice}.'
    )


def install() -> None:
    """Make mmengine load its own checkpoints, from files as from elsewhere."""
    for prefix, load in list(CheckpointLoader._schemes.items()):
        if not hasattr(load, '__wrapped__'):
            CheckpointLoader.register_scheme(prefix, safe_loader(load), force=True)
