"""What a definition that looks at predictions is given by the head.

Legend: B images, N priors, C classes.
"""

from typing import List, Optional, Tuple

import torch
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from ..matching import GroundTruths, Predictions
from ..matching.boxes import on_host


def stack_predictions(name: str, predictions: Optional[List[InstanceData]], gts: GroundTruths) -> Predictions:
    """Join the predictions of all images.

    Args:
        name (str): of the assigner, for the message.
        predictions (list[InstanceData], optional): ``bboxes`` (N, 4) decoded, xyxy in pixels, and ``scores`` (N, C),
            probabilities, of each image.
        gts (GroundTruths): the ground truths, for the number of priors and the precision of boxes.

    Raises:
        ValueError: there are none, they are not of these shapes, or the scores are not probabilities; the latter is
            not asked on an accelerator, where asking makes the host wait.
    """
    boxes, scores = checked_predictions(name, predictions, gts)
    if on_host(scores) and scores.numel():
        low, high = (float(end) for end in scores.aminmax())
        if low < 0 or high > 1:
            raise ValueError(
                f'{name} needs scores between 0 and 1 in pred_instances, after the sigmoid, but there are '
                f"scores from {low:.3g} to {high:.3g}: logits, as mmdet's DDODHead and RTMDetHead pass them?"
            )
    scores = scores if scores.dtype == torch.float64 else scores.float()
    return Predictions(boxes.detach().to(gts.boxes.dtype), scores.detach())


def checked_predictions(
    name: str, predictions: Optional[List[InstanceData]], gts: GroundTruths, scores: str = 'scores'
) -> Tuple[Tensor, Tensor]:
    """Return the boxes (B, N, 4), and the scores (B, N, C), or what is named in their place."""
    if not predictions or any(field not in p for p in predictions for field in ('bboxes', scores)):
        raise ValueError(
            f'{name} needs {scores} and bboxes in pred_instances, which this head does not pass: use a head that does '
            '(atss_plugin.OneStageHead, FCOSHead and RetinaNetHead do), or an assigner that does not look at '
            'predictions, such as ATSSAssigner'
        )
    boxes = torch.stack([get_box_tensor(p.bboxes) for p in predictions])
    values = torch.stack([p[scores] for p in predictions])
    size = (len(gts.counts), gts.num_priors)
    if boxes.shape != (*size, 4) or values.dim() != 3 or values.shape[:2] != size:
        raise ValueError(
            f'{name} needs a predicted box for each of {size[1]} priors of {size[0]} images: bboxes (N, 4) and '
            f'{scores} (N, C) per image, not {tuple(boxes.shape)} and {tuple(values.shape)} in all'
        )
    if on_host(gts.labels) and len(gts.boxes):
        low, high = (int(end) for end in gts.labels.aminmax())
        if low < 0 or high >= values.size(2):
            raise ValueError(
                f'{name}: the labels of the ground truths are {low} to {high}, but there are {values.size(2)} classes: '
                'check metainfo.classes of the data set and num_classes of the head'
            )
    return boxes, values
