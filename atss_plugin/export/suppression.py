"""Non-maximum suppression as one operator of torch, which becomes one operator of ONNX.

Legend: B images, C classes, K candidates of an image, M survivors of all images.
"""

import torch
from mmcv.ops import nms
from torch import Tensor

from .operators import define


def _on_cpu(boxes: Tensor, scores: Tensor, max_per_class: int, iou_threshold: float, score_threshold: float) -> Tensor:
    survivors = [torch.zeros((0, 3), dtype=torch.long)]
    for image, label in torch.cartesian_prod(torch.arange(scores.size(0)), torch.arange(scores.size(1))):
        score = scores[image, label]
        candidates = (score > score_threshold).nonzero().squeeze(1)
        if len(candidates):
            kept = candidates[nms(boxes[image, candidates], score[candidates], iou_threshold)[1][:max_per_class]]
            survivors.append(torch.stack([image.expand_as(kept), label.expand_as(kept), kept], dim=1))
    return torch.cat(survivors)


def _shape(boxes: Tensor, scores: Tensor, max_per_class: int, iou_threshold: float, score_threshold: float) -> Tensor:
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(), 3), dtype=torch.long)


SUPPRESS = define(
    'non_max_suppression(Tensor boxes, Tensor scores, int max_per_class, float iou_threshold, float score_threshold) '
    '-> Tensor',
    _on_cpu,
    _shape,
)


def non_max_suppression(
    boxes: Tensor, scores: Tensor, max_per_class: int, iou_threshold: float, score_threshold: float
) -> Tensor:
    """Return what survives, as ONNX's ``NonMaxSuppression`` does, which an exporter writes for this call.

    Args:
        boxes: (B, K, 4), [x1, y1, x2, y2].
        scores: (B, C, K).
        max_per_class: how many of an image and class survive at most.
        iou_threshold: a candidate whose IoU with a better survivor of its class is higher is dropped.
        score_threshold: the score of a survivor is higher than this.

    Returns:
        (M, 3), int64: image, class and candidate, by falling score within an image and class.
    """
    return SUPPRESS(boxes, scores, max_per_class, iou_threshold, score_threshold)


def _as_onnx(boxes, scores, max_per_class: int, iou_threshold: float, score_threshold: float):
    from onnxscript import opset19 as op

    limits = (
        op.Constant(value_ints=[max_per_class]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[score_threshold]),
    )
    return op.NonMaxSuppression(boxes, scores, *limits)


TRANSLATION = {SUPPRESS.default: _as_onnx}
