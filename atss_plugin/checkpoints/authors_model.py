"""The eight networks whose weights the authors of ATSS published: what tensors ``configs/official`` says they hold.

The authors' checkpoints hold nothing but a dictionary of tensors, so the network a file belongs to has to be told from
the names and shapes alone.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import ContextManager, Dict, Tuple

import torch
from mmdet.registry import MODELS
from torch import nn

from ..experiments.config_files import load_config

Shapes = Dict[str, Tuple[int, ...]]


@dataclass(frozen=True)
class AuthorsModel:
    """One published network.

    Attributes:
        name (str): the authors' name of it, which is also the name of our config in ``configs/official``.
    """

    name: str

    def shapes(self) -> Shapes:
        """Return the shape of every tensor with weights, by our name."""
        return _shapes_of(f'official/{self.name}.py')


@lru_cache(maxsize=None)
def _shapes_of(config: str) -> Shapes:
    cfg = load_config(config)
    with _without_memory():
        return tensor_shapes(MODELS.build(cfg.model))


def tensor_shapes(model: nn.Module) -> Shapes:
    """Return the shapes of the tensors that a checkpoint of a model has; the count of batches seen is not a weight."""
    state = model.state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith('num_batches_tracked')}


def _without_memory() -> ContextManager:
    """Return a context in which models are built without their numbers, where torch can (since 2.0)."""
    device = torch.device('meta')
    return device if hasattr(device, '__enter__') else nullcontext()


AUTHORS_MODELS = tuple(
    AuthorsModel(name)
    for name in (
        'atss_R_50_FPN_1x',
        'atss_dcnv2_R_50_FPN_1x',
        'atss_R_101_FPN_2x',
        'atss_dcnv2_R_101_FPN_2x',
        'atss_X_101_32x8d_FPN_2x',
        'atss_dcnv2_X_101_32x8d_FPN_2x',
        'atss_X_101_64x4d_FPN_2x',
        'atss_dcnv2_X_101_64x4d_FPN_2x',
    )
)
