"""A trained detector on the images of a data set.

Legend: N priors, C classes, B images, A anchors per location, L levels.
"""

from collections import OrderedDict
from pickle import UnpicklingError
from typing import Any, List, Sequence

import numpy as np
import torch
from mmdet.models.dense_heads import AnchorHead, TOODHead
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData
from torch import Tensor

from atss_plugin.errors import UsageError
from atss_plugin.heads.one_stage import OneStageHead, flatten_levels

from .ground_truth import GroundTruth
from .images import Images

REMEMBERED = 8  # images whose predictions are kept, since several definitions ask for the same ones


def build_detector(cfg: Config, checkpoint: str, device: str = 'cpu') -> torch.nn.Module:
    """Return the config's model with the weights of a checkpoint, ready to predict.

    Its ``dataset_meta`` is the checkpoint's, as mmdet's ``init_detector`` leaves it; empty if there is none.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        UsageError: it cannot be read, or its weights are not those of the config's model.
    """
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    try:
        content = load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True, logger='silent')
    except (RuntimeError, EOFError, UnpicklingError) as error:
        if 'do not match' not in str(error):  # cut off, for example
            raise UsageError(f'{checkpoint} cannot be read as a checkpoint: {error}') from error
        raise UsageError(
            f'{checkpoint} does not fit the model of the config: give the config that it was trained with, with the '
            f'same --cfg-options. {error}'
        ) from error
    model.dataset_meta = (content.get('meta') or {}).get('dataset_meta') or {}
    return model.to(device).eval()


@torch.no_grad()
def detect(model: torch.nn.Module, sample: Any) -> InstanceData:
    """Return the detections on a sample of a test pipeline: ``bboxes`` (n, 4) in pixels of the original image,
    ``scores`` and ``labels`` (n,), on the CPU."""
    return model.test_step(pseudo_collate([sample]))[0].pred_instances.cpu()


def dense_head(model: torch.nn.Module) -> torch.nn.Module:
    """Return a detector's ``rpn_head`` or ``bbox_head``, None without either."""
    return getattr(model, 'rpn_head', None) or getattr(model, 'bbox_head', None)


@torch.no_grad()
def predict_batch(model: torch.nn.Module, inputs: Sequence[Tensor]) -> List[InstanceData]:
    """Return what the dense head predicts for every prior.

    The model is put into evaluation mode for this, and back into the mode that it was in.

    Args:
        model: a detector of mmdet.
        inputs: B images (3, h, w) as a data set's pipeline packs them.

    Returns:
        For each image ``bboxes`` (N, 4), decoded, xyxy in pixels of the input, and ``scores`` (N, C), probabilities of
        the classes, on the CPU.

    Raises:
        UsageError: the form of the head's outputs is unknown.
    """
    training = model.training
    model.eval()
    try:
        batch = model.data_preprocessor(dict(inputs=list(inputs), data_samples=None), False)['inputs']
        head = dense_head(model)
        outputs = head(model.extract_feat(batch))
        boxes, scores = decode_outputs(head, *outputs[:2])
    finally:
        model.train(training)
    return [InstanceData(bboxes=box.cpu(), scores=score.cpu()) for box, score in zip(boxes, scores)]


def decode_outputs(head: torch.nn.Module, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor]) -> tuple:
    """Return boxes (B, N, 4) and probabilities (B, N, C) from a head's outputs of L levels, (B, A * C, h, w) and
    (B, A * 4, h, w)."""
    scores, boxes = flatten_levels(cls_scores, head.cls_out_channels), flatten_levels(bbox_preds, 4)
    levels = head.prior_generator.grid_priors([level.shape[-2:] for level in cls_scores], device=scores.device)
    if isinstance(head, TOODHead):  # it gives probabilities, and boxes in strides
        strides = [
            boxes.new_tensor(stride[0]).expand(len(n)) for stride, n in zip(head.prior_generator.strides, levels)
        ]
        return boxes * torch.cat(strides)[:, None], scores
    plain = isinstance(head, AnchorHead) and isinstance(head.bbox_coder, DeltaXYWHBBoxCoder) and head.use_sigmoid_cls
    if not (plain or isinstance(head, OneStageHead)):
        raise UsageError(
            f'the predictions of {type(head).__name__} cannot be decoded here: give a config with a head of this '
            "package, or one of mmdet's with a sigmoid and a DeltaXYWHBBoxCoder"
        )
    priors = torch.cat(levels)
    return torch.stack([head.bbox_coder.decode(priors, deltas) for deltas in boxes]), scores.sigmoid()


class Predictor:
    """What a model predicts for the images of a data set.

    Args:
        model: a detector of mmdet.
        images: the images.
    """

    def __init__(self, model: torch.nn.Module, images: Images) -> None:
        self.model = model
        self.images = images
        self.remembered = OrderedDict()

    def __call__(self, truth: GroundTruth) -> InstanceData:
        """Return the predictions for an image, as :func:`predict_batch`.

        Raises:
            UsageError: the ground truth has classes that the model does not have.
        """
        if truth.index not in self.remembered:
            pixels = self.images.pixels(truth, may_miss=False)
            tensor = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)))
            self.remembered[truth.index] = predict_batch(self.model, [tensor])[0]
            if len(self.remembered) > REMEMBERED:
                self.remembered.popitem(last=False)
        predictions = self.remembered[truth.index]
        classes = predictions.scores.size(1)
        if len(truth.labels) and truth.labels.max() >= classes:
            raise UsageError(f'{truth.name} has boxes of class {truth.labels.max()}, the model has {classes} classes')
        return predictions
