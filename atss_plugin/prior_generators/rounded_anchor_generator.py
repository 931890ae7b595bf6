"""Anchors whose aspect ratio is rounded at the size of the stride.

Legend: R ratios, K scales.
"""

from typing import Optional, Tuple, Union

import torch
from mmdet.models.task_modules import AnchorGenerator
from torch import Tensor

from ..registry import TASK_UTILS


@TASK_UTILS.register_module()
class RoundedAnchorGenerator(AnchorGenerator):
    """mmdet's ``AnchorGenerator`` with the authors' rounding; same arguments, order and centres.

    An anchor of a ratio has whole numbers of pixels at the size of its stride S, w = round(S / sqrt(ratio)) and
    h = round(w * ratio), and both grow with the scale (docs/recipe.md, "Anchors"). At 8S on P3, where S = 8, ratio
    0.5 is 88 x 48 and not 90.5 x 45.3. Ratios of 1/4, 1 and 4 remain exact.

    Raises:
        ValueError: a ratio so far from 1 that a side is rounded to 0.
    """

    def gen_single_level_base_anchors(
        self,
        base_size: Union[int, float],
        scales: Tensor,
        ratios: Tensor,
        center: Optional[Tuple[float, float]] = None,
    ) -> Tensor:
        """Return the anchors xyxy of the first location, (R * K, 4).

        Args:
            base_size (int | float): S.
            scales (Tensor): (K,).
            ratios (Tensor): height / width, (R,).
            center (tuple[float], optional): (x, y); by default ``center_offset * base_size`` each.
        """
        # halves go to the even number, as in NumPy, with which the authors' code base rounds
        width = (base_size / ratios.double().sqrt()).round()
        height = (width * ratios).round()
        if not (width > 0).all() or not (height > 0).all():
            raise ValueError(
                f'at the size {base_size} of a stride one of the ratios {ratios.tolist()} leaves no anchor'
            )
        size = torch.stack([width, height], -1).to(scales.dtype)[:, None] * scales[:, None]  # (R, K, 2)
        if not self.scale_major:
            size = size.transpose(0, 1)
        half = size.reshape(-1, 2) / 2
        x, y = [self.center_offset * base_size] * 2 if center is None else center
        return torch.cat([half.new_tensor([x, y]) - half, half.new_tensor([x, y]) + half], -1)
