"""A trained detector on the images of a data set."""

import copy
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData


def build_detector(cfg: Config, checkpoint: str, device: str = 'cpu') -> torch.nn.Module:
    """Return the config's model with the weights of a checkpoint, ready to predict.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: its weights are not those of the config's model.
    """
    model_cfg = copy.deepcopy(cfg.model)
    model_cfg.backbone.init_cfg = None  # the checkpoint has these weights
    model = revert_sync_batchnorm(MODELS.build(model_cfg))
    try:
        load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True, logger='silent')
    except RuntimeError as error:
        raise ValueError(
            f'{checkpoint} does not fit the model of the config: give the config that it was trained with, with the '
            f'same --cfg-options. {error}'
        ) from error
    return model.to(device).eval()


@torch.no_grad()
def detect(model: torch.nn.Module, sample: Any) -> InstanceData:
    """Return the detections on a sample of a test pipeline: ``bboxes`` (n, 4) in pixels of the original image,
    ``scores`` and ``labels`` (n,), on the CPU."""
    return model.test_step(pseudo_collate([sample]))[0].pred_instances.cpu()
