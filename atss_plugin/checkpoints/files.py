"""Checkpoint files: reading the authors', writing ours."""

from pathlib import Path
from typing import Dict, Optional, Union

import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..atomic import replacing
from ..experiments.config_files import read_config
from .authors_model import AuthorsModel, tensor_shapes
from .conversion import BATCH_NORM_EPS, CheckpointError, Tensors, compare, convert_tensors, identify

PathLike = Union[str, Path]

# Not weights: the anchors at the origin, which are saved along because they are buffers.
_NO_WEIGHTS = 'rpn.anchor_generator.'
_PARALLEL = 'module.'  # what DistributedDataParallel puts before every name


def read_tensors(path: PathLike) -> Tensors:
    """Return the tensors of a checkpoint of the authors, by their names.

    Nothing in the file is executed (``weights_only``), so it need not be trusted.

    Raises:
        CheckpointError: It is not a checkpoint, is truncated, or has no dictionary of tensors under 'model'.
        OSError: The file cannot be opened.
    """
    with open(path, 'rb') as file:
        try:
            checkpoint = torch.load(file, map_location='cpu', weights_only=True)
        except Exception as error:  # a broken file fails in as many ways as there are bytes
            raise CheckpointError(
                f'{path} is truncated, not a checkpoint, or holds more than tensors: {error}'
            ) from error
    tensors = checkpoint.get('model') if isinstance(checkpoint, dict) else None
    if (
        not isinstance(tensors, dict)
        or not tensors
        or not all(
            isinstance(name, str) and isinstance(tensor, Tensor) and tensor.is_floating_point()
            for name, tensor in tensors.items()
        )
    ):
        raise CheckpointError(f"{path} has no dictionary of floating point tensors under 'model', as the authors' have")
    if all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name[len(_PARALLEL) :]: tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_NO_WEIGHTS)}


def check_config(tensors: Tensors, config: PathLike) -> None:
    """See that a converted checkpoint fits the model of a config.

    Raises:
        CheckpointError: A tensor is missing, unexpected or of another shape, or a batch norm has another
            epsilon than the one that was folded.
    """
    cfg = read_config(str(config))
    if 'model' not in cfg:
        raise CheckpointError(f'{config} has no model')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(cfg.model)
    differences = compare({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensor_shapes(model))
    differences += [
        f'{name} has eps={module.eps} instead of {BATCH_NORM_EPS}'
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.eps != BATCH_NORM_EPS
    ]
    if differences:
        raise CheckpointError(f'the checkpoint does not fit {config}: ' + '; '.join(differences))


def convert_checkpoint(source: PathLike, target: PathLike, config: Optional[PathLike] = None) -> AuthorsModel:
    """Convert a checkpoint file of the authors to one of mmdet.

    The target is written whole or not at all.

    Args:
        source: The authors' file.
        target: The file to write; an existing one is replaced.
        config: Optionally a config whose model the result has to fit.

    Returns:
        Which of the eight it is.

    Raises:
        CheckpointError: See ``read_tensors``, ``convert_tensors`` and ``check_config``.
        OSError: A file cannot be read or written.
    """
    source, target = Path(source), Path(target)
    if target.exists() and target.samefile(source):
        raise CheckpointError(f"{target} is the authors' checkpoint itself; choose another file to write")
    authors_tensors = read_tensors(source)
    try:
        model = identify(authors_tensors)
        tensors = convert_tensors(authors_tensors)
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from error
    if config is not None:
        check_config(tensors, config)
    meta = dict(source=model.name, dataset_meta=dict(classes=CocoDataset.METAINFO['classes']))
    _write(dict(meta=meta, state_dict=tensors), target)
    return model


def _write(checkpoint: Dict, target: Path) -> None:
    with replacing(target) as temporary, open(temporary, 'xb') as file:
        torch.save(checkpoint, file)
