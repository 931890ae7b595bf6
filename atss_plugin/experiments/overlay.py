"""A config as an overlay: the changes that it makes to the paper's final model, made to any other experiment."""

import re

from mmengine.config import Config

from .config_files import find_config, load_config, read_config

FINAL_MODEL = 'atss_r50_fpn_1x.py'


def apply_overlay(cfg: Config, overlay: str) -> Config:
    """Return a copy of a config with the settings of an overlay.

    Args:
        cfg: the config of an experiment; what the overlay does not set stays as it is.
        overlay: path of a config, as :func:`find_config` accepts it.
    """
    merged = Config(cfg._cfg_dict.to_dict(), filename=cfg.filename)
    merged.merge_from_dict(overlay_settings(overlay))
    return merged


def overlay_settings(overlay: str) -> dict:
    """Return what an overlay sets, in the form that mmengine merges.

    For a config that inherits the paper's final model, itself or through others, that is what differs from that model;
    a config that inherits nothing sets everything in it.
    """
    path = find_config(overlay)
    settings = read_config(str(path))._cfg_dict.to_dict()
    if not re.search(r'^_base_ *=', path.read_text(encoding='utf-8'), re.MULTILINE):
        return settings
    return changes(settings, load_config(FINAL_MODEL)._cfg_dict.to_dict())


def changes(new: dict, old: dict) -> dict:
    """Return what to merge over ``old`` to get ``new``.

    A dict within them that lost a key, changed its type or replaces something else is given whole, with mmengine's
    ``_delete_``.
    """
    found = {}
    for key, value in new.items():
        before = old.get(key)
        if key not in old or not isinstance(value, dict):
            if key not in old or value != before:
                found[key] = value
        elif not isinstance(before, dict) or before.keys() - value.keys() or value.get('type') != before.get('type'):
            found[key] = {**value, '_delete_': True}
        elif value != before:
            found[key] = changes(value, before)
    return found
