"""Regression from a point, as FCOS does it.

Legend: N boxes, B images.
"""

from typing import Optional, Sequence, Tuple, Union

import torch
from mmdet.models.task_modules import BaseBBoxCoder
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from ..registry import TASK_UTILS


@TASK_UTILS.register_module()
class AnchorPointCoder(BaseBBoxCoder):
    """Distances from the anchor's centre to the sides of a box, in units of the level's stride.

    The stride is read from the anchor: an anchor of ``anchor_scale`` S has side ``anchor_scale * S`` (for ratios other
    than 1 the square root of its area, which ``RoundedAnchorGenerator`` changes by some per cent).  What the paper
    calls the point start is all here: the division by the stride, the ReLU on the network's output, and the value
    that the output starts from.

    Args:
        anchor_scale (float): side of the anchor in strides. Defaults to 8, the paper's.
        clip_border (bool): clip decoded boxes to ``max_shape`` where it is given. Defaults to True.

    Attributes:
        initial_bias (float): where the output should start: half the anchor's side in strides, so that the first
            boxes are the anchors themselves: 4 for the anchor of 8S (docs/recipe.md, "Head").
        single_anchor (bool): one anchor per location only: several would all start from the same point.

    Raises:
        ValueError: ``anchor_scale`` <= 0.
    """

    encode_size = 4
    single_anchor = True

    def __init__(self, anchor_scale: float = 8, clip_border: bool = True) -> None:
        super().__init__()
        if anchor_scale <= 0:
            raise ValueError(f'anchor_scale must be positive, not {anchor_scale}')
        self.anchor_scale = anchor_scale
        self.clip_border = clip_border

    @property
    def initial_bias(self) -> float:
        return self.anchor_scale / 2

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Return the distances (l, t, r, b) / stride from the centres of anchors to the sides of boxes, (N, 4) each.

        Negative where the centre is outside; such boxes cannot be decoded.
        """
        point, stride = self._start(get_box_tensor(bboxes))
        boxes = get_box_tensor(gt_bboxes)
        return torch.cat([point - boxes[..., :2], boxes[..., 2:] - point], dim=-1) / stride

    def decode(
        self,
        bboxes: Tensor,
        pred_bboxes: Tensor,
        max_shape: Optional[Union[Sequence[int], Tensor, Sequence[Sequence[int]]]] = None,
    ) -> Tensor:
        """Return boxes xyxy in pixels from anchors and outputs, each (N, 4) or (B, N, 4), with ReLU on the outputs.

        Args:
            bboxes (Tensor): anchors.
            pred_bboxes (Tensor): outputs of the network.
            max_shape (sequence, optional): (height, width) to clip to; for (B, N, 4) also one for each image.
        """
        point, stride = self._start(get_box_tensor(bboxes))
        distance = pred_bboxes.clamp(min=0) * stride
        boxes = torch.cat([point - distance[..., :2], point + distance[..., 2:]], dim=-1)
        if max_shape is None or not self.clip_border:
            return boxes
        height_width = torch.as_tensor(max_shape)[..., :2].to(boxes.device, boxes.dtype)
        limit = height_width.flip(-1).repeat(*[1] * (height_width.dim() - 1), 2)  # w, h, w, h
        limit = limit[:, None] if limit.dim() == 2 else limit
        return torch.minimum(boxes.clamp(min=0), limit)

    def _start(self, anchors: Tensor) -> Tuple[Tensor, Tensor]:
        """Return centres (..., 2) and strides (..., 1) of anchors."""
        size = anchors[..., 2:] - anchors[..., :2]
        return (anchors[..., :2] + anchors[..., 2:]) / 2, size.prod(-1, keepdim=True).sqrt() / self.anchor_scale
