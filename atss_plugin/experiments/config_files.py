"""Where configs are: in a checkout, in an installed wheel, or in another OpenMMLab package."""

from pathlib import Path
from typing import Optional

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

PACKAGE = Path(__file__).resolve().parents[1]


def config_root() -> Path:
    """Return the folder of this project's configs: ``configs/`` of a checkout, ``.mim/configs`` of a wheel."""
    for root in (PACKAGE.parent / 'configs', PACKAGE / '.mim' / 'configs'):
        if (root / 'paper_tables.yml').is_file():
            return root
    raise FileNotFoundError(f'no configs beside {PACKAGE}: reinstall the plugin (`pip install .` in its checkout)')


def find_config(name: str) -> Path:
    """Return the file of a config given by its path, or by its path below :func:`config_root`."""
    for path in (Path(name), config_root() / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f'config {name!r} is neither a file nor one below {config_root()}')


def load_config(name: str, cfg_options: Optional[dict] = None) -> Config:
    """Read a config and makes its scope the default one.

    Args:
        name: a path, a path below :func:`config_root`, or ``package::path`` for a config of an installed
            OpenMMLab package, such as ``mmdet::atss/atss_r50_fpn_1x_coco.py``.
        cfg_options: what to change, as ``--cfg-options`` gives it.
    """
    cfg = get_config(name) if '::' in name else Config.fromfile(find_config(name))
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return cfg
