"""The size in which images reach the network, from the pipelines of a config."""

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import mmcv
import numpy as np
from mmengine.config import Config


@dataclass(frozen=True)
class InputGeometry:
    """How images are resized and padded.

    Attributes:
        scale: (longer, shorter) or (width, height) of mmdet's ``Resize`` in pixels; None: not resized.
        keep_ratio: whether the aspect ratio is kept.
        divisor: heights and widths are padded to a multiple of it.
    """

    scale: Optional[Tuple[int, int]] = None
    keep_ratio: bool = True
    divisor: int = 1

    def input_shape(self, height: int, width: int) -> Tuple[int, int]:
        """Return (height, width) of a resized image."""
        if self.scale is None:
            return height, width
        if not self.keep_ratio:
            return self.scale[1], self.scale[0]
        width, height = mmcv.rescale_size((width, height), self.scale)
        return height, width

    def pad_shape(self, height: int, width: int) -> Tuple[int, int]:
        """Return (height, width) of a resized image after padding."""
        height, width = (math.ceil(side / self.divisor) * self.divisor for side in (height, width))
        return height, width

    def scale_boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Return the boxes (G, 4) xyxy of an image in pixels of the input, clipped to it as mmdet's ``Resize`` does."""
        new_height, new_width = self.input_shape(height, width)
        factor = np.array([new_width / width, new_height / height] * 2, dtype=np.float32)
        limit = np.array([new_width, new_height] * 2, dtype=np.float32)
        return np.clip(boxes.reshape(-1, 4).astype(np.float32) * factor, 0, limit)


def input_geometry(cfg: Config) -> InputGeometry:
    """Return the geometry of a config: the training pipeline's ``Resize``, or the test pipeline's where training
    draws a size at random (or resizes nothing).  Crops and mosaics are not followed."""
    divisor = cfg.model.get('data_preprocessor', {}).get('pad_size_divisor', 1)
    for name in ('train_dataloader', 'test_dataloader', 'val_dataloader'):
        for transform in pipeline_of((cfg.get(name) or {}).get('dataset') or {}):
            scale = transform.get('scale')
            if transform['type'].endswith('Resize') and isinstance(scale, (tuple, list)) and isinstance(scale[0], int):
                return InputGeometry(tuple(scale), transform.get('keep_ratio', False), divisor)
    return InputGeometry(divisor=divisor)


def pipeline_of(dataset: dict) -> list:
    """Return the transforms of a data set, those of wrapped data sets first."""
    inner = pipeline_of(dataset['dataset']) if 'dataset' in dataset else []
    return [*inner, *(dataset.get('pipeline') or [])]
