"""The weights that a run starts from, where they are files that another run made."""

import hashlib
from pathlib import Path
from typing import Any, List, Optional

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from atss_plugin.errors import UsageError

from .config_files import config_root


def start_files(cfg: Config) -> List[Path]:
    """Return the checkpoints that a config starts from, each once; not names such as torchvision://resnet50."""
    return list(dict.fromkeys(Path(name) for name in _checkpoints(cfg._cfg_dict.to_dict()) if '://' not in name))


def _checkpoints(value: Any) -> List[str]:
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in _checkpoints(item)]
    if not isinstance(value, dict):
        return []
    own = [value['load_from']] if isinstance(value.get('load_from'), str) else []
    if value.get('type') == 'Pretrained' and isinstance(value.get('checkpoint'), str):
        own.append(value['checkpoint'])
    return own + [name for item in value.values() for name in _checkpoints(item)]


def check_start(cfg: Config, name: str) -> None:
    """Raise a UsageError that says how to make a checkpoint that a config starts from, if it is missing.

    Args:
        cfg: the config.
        name: what the user calls it.
    """
    for path in start_files(cfg):
        if not path.is_file():
            maker = config_root() / f'{path.parent.name}.py'
            hint = f'train it first: mim train mmdet {maker} --work-dir {path.parent}' if maker.is_file() else 'get it'
            raise UsageError(f'{name} starts from {path}, which is missing; {hint}')


def start_hash(cfg: Config) -> Optional[str]:
    """Return the hashes of the weights in the checkpoints that a config starts from, None without any."""
    return '+'.join(_weights_hash(path) for path in start_files(cfg) if path.is_file()) or None


def _weights_hash(path: Path) -> str:
    """Return the first 12 digits of the SHA-256 of a checkpoint's names and weights; its file has the date as well."""
    checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger='silent')
    digest = hashlib.sha256()
    for name, weight in sorted(checkpoint.get('state_dict', checkpoint).items()):
        digest.update(name.encode())
        digest.update(weight.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
