"""Scenes to assign: pyramids of priors from mmdet's AnchorGenerator, and ground truths of every kind.

Legend: N priors, G ground truths, L levels, A anchors per location.
"""

from math import ceil
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from mmdet.models.task_modules import AnchorGenerator
from mmengine.structures import InstanceData

from tests.reference.oracle import Answer, Scene

# Float32 knows coordinates and IoU to some 22 bits, unless they are such that it is exact.
FLOAT32_TOL = 4e-6
FLOAT32_IOU_TOL = 1e-6


class Layout(NamedTuple):
    """priors (N, 4), the priors of each level, the anchor point of each (N, 2), A of each level, strides."""

    priors: torch.Tensor
    num_level_priors: List[int]
    points: np.ndarray
    anchors: List[int]
    strides: List[Tuple[float, float]]

    def __repr__(self) -> str:
        return (
            f'Layout({self.num_level_priors} priors of {self.priors.dtype}, strides {self.strides}, '
            f'A {self.anchors}, '
            f'first {self.priors[:1].tolist()} at {self.points[:1].tolist()})'
        )


def make_layout(
    size: Tuple[int, int] = (128, 160),
    strides: Sequence = (8, 16, 32, 64, 128),
    center_offset: float = 0.5,
    dtype: torch.dtype = torch.float32,
    **generator,
) -> Layout:
    """The priors of an image of ``size`` (height, width); by default one square of 8 strides per location."""
    generator = generator or dict(ratios=[1.0], octave_base_scale=8, scales_per_octave=1)
    strides = [s if isinstance(s, tuple) else (s, s) for s in strides]
    maker = AnchorGenerator(strides=strides, center_offset=center_offset, **generator)
    maps = [(ceil(size[0] / sy), ceil(size[1] / sx)) for sx, sy in strides]
    levels = maker.grid_priors(maps, dtype=dtype, device='cpu')
    # mmdet's offset is a share of the shorter stride
    points = [
        np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).reshape(-1, 2) * s + center_offset * min(s)
        for (h, w), s in zip(maps, np.array(strides, dtype=np.float64))
    ]
    points = np.concatenate([p.repeat(a, 0) for p, a in zip(points, maker.num_base_priors)])
    return Layout(torch.cat(levels), [len(p) for p in levels], points, maker.num_base_priors, strides)


def to_scene(layout: Layout, gts, ignored=(), tol: float = 0) -> Scene:
    """What the oracle is given: the same numbers as the assigner.

    ``tol`` is the relative precision of coordinates; by default that of the type, or exact for numbers such
    as squares at half strides and corners of whole pixels, whose sums and products lose nothing.
    """
    priors, gts, ignored = (_numbers(boxes) for boxes in (layout.priors, gts, ignored))
    single = layout.priors.dtype == torch.float32
    exact = all(
        (boxes * 2 == np.round(boxes * 2)).all() and np.abs(boxes).max(initial=0) <= 2048
        for boxes in (priors, gts, ignored)
    )
    tol = tol or (FLOAT32_TOL if single and not exact else 1e-12)
    return Scene(
        priors,
        layout.num_level_priors,
        gts,
        layout.points,
        layout.anchors,
        ignored,
        tol,
        FLOAT32_IOU_TOL if single else 1e-12,
    )


def _numbers(boxes) -> np.ndarray:
    return torch.as_tensor(boxes).double().reshape(-1, 4).numpy()


def instances(boxes, labels=None, dtype: torch.dtype = torch.float32) -> InstanceData:
    """Ground truths (G, 4), labelled 0, 1, 2, ... by default."""
    boxes = torch.as_tensor(boxes, dtype=dtype).reshape(-1, 4)
    labels = torch.arange(len(boxes)) if labels is None else torch.as_tensor(labels)
    return InstanceData(bboxes=boxes, labels=labels)


def random_boxes(
    num: int, size: Tuple[int, int] = (128, 160), seed: int = 0, grid: float = 0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Boxes log-uniform in width and height from 2 pixels to the image and more, some over its border.

    ``grid`` rounds their corners to its multiples, which makes ties.
    """
    random = np.random.RandomState(seed)
    wh = np.exp(random.uniform(np.log(2), np.log(1.3 * max(size)), (num, 2)))
    center = random.uniform(-0.1, 1.1, (num, 2)) * (size[1], size[0])
    boxes = np.concatenate([center - wh / 2, center + wh / 2], 1)
    return torch.from_numpy(np.round(boxes / grid) * grid if grid else boxes).to(dtype)


def scale_ranges(num_levels: int, first: float = 64) -> List[Tuple[float, float]]:
    """FCOS's ranges for any number of levels: each twice the one before, the last without an end."""
    ends = [first * 2**i for i in range(num_levels - 1)] + [float('inf')]
    return list(zip([-1.0] + ends[:-1], ends))


def assert_equals_oracle(gt_inds: torch.Tensor, answer: Answer) -> None:
    """Check that the two agree wherever the definition, not rounding, decides."""
    wrong = np.flatnonzero((gt_inds.numpy() != answer.gt_inds) & answer.clear)
    assert len(wrong) == 0, (
        f'priors {wrong[:10].tolist()} (of {len(wrong)}): got {gt_inds.numpy()[wrong[:10]].tolist()}, '
        f'by the definition {answer.gt_inds[wrong[:10]].tolist()}'
    )


def assert_same_assignment(found, expected) -> None:
    """Check that two assignments of a batch (or of an image) agree on every prior, to the last bit."""
    for name in ('gt_inds', 'labels', 'max_overlaps'):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
