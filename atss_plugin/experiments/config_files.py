"""Where configs are: in a checkout, in an installed wheel, or in another OpenMMLab package."""

import traceback
from pathlib import Path
from typing import Optional, Tuple

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

from ..errors import UsageError

PACKAGE = Path(__file__).resolve().parents[1]


def config_root() -> Path:
    """Return the folder of this project's configs: ``configs/`` of a checkout, ``.mim/configs`` of a wheel."""
    for root in (PACKAGE.parent / 'configs', PACKAGE / '.mim' / 'configs'):
        if (root / 'paper_tables.yml').is_file():
            return root
    raise FileNotFoundError(f'no configs next to {PACKAGE}: reinstall the plugin (`pip install .` in its checkout)')


def find_config(name: str) -> Path:
    """Return the file of a config given by its path, or by its path below :func:`config_root`."""
    for path in (Path(name), config_root() / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f'config {name!r} is neither a file nor one below {config_root()}')


def read_config(name: str) -> Config:
    """Read a config without changing anything; names and errors are those of :func:`load_config`."""
    path = name if '::' in name else find_config(name)
    try:
        return get_config(name) if '::' in name else Config.fromfile(path)
    except (OSError, ImportError, UsageError):  # their own messages say what to change
        raise
    except Exception as error:
        file, line = _place(error)
        what = error.msg if isinstance(error, SyntaxError) else f'{type(error).__name__}: {error}'
        where = f'{file or path}, line {line}' if line else f'{file or path}'
        raise UsageError(f'the config cannot be read: {where}: {what}') from error


def _place(error: Exception) -> Tuple[Optional[str], Optional[int]]:
    """Return the innermost config file that an error comes from, and the line if it is known.

    mmengine reads a file in functions that call it ``filename``, and runs it as a module of that name.
    """
    readers = ('fromfile', '_file2dict', '_is_lazy_import', '_parse_lazy_import')
    file = line = None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == '<module>' and Path(frame.f_code.co_filename).is_file():
            file, line = frame.f_code.co_filename, number
        elif frame.f_globals.get('__name__') == Config.__module__ and frame.f_code.co_name in readers:
            file, line = frame.f_locals['filename'], None
    return file, getattr(error, 'lineno', None) or line


def load_config(name: str, cfg_options: Optional[dict] = None) -> Config:
    """Read a config and make its scope the default one.

    Args:
        name: a path, a path below :func:`config_root`, or ``package::path`` for a config of an installed
            OpenMMLab package, such as ``mmdet::atss/atss_r50_fpn_1x_coco.py``.
        cfg_options: what to change, as ``--cfg-options`` gives it.

    Raises:
        UsageError: the config cannot be read (the message names the line), an option does not fit into it, or it has no
            model.
        OSError, ImportError: a file or a module that it names does not exist.
    """
    cfg = read_config(name)
    try:
        cfg.merge_from_dict(cfg_options or {})
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f'--cfg-options do not fit {name}: {error}') from error
    if not isinstance(cfg.get('model'), dict):
        raise UsageError(f'{name} has no model: it is a part of a config, or not a config of mmdet')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return cfg
