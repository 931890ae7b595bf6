"""What a model in the middle of its training may predict.

Legend: N priors, G ground truths of an image, C classes.
"""

import torch
from hypothesis import assume
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from tests.matching.test_pyramid import boxes_near, layouts
from tests.reference.scenes import Layout, instances

NUM_CLASSES = 8


def predict(layout: Layout, gts: InstanceData, seed: int, spread: float = 6.0) -> InstanceData:
    """Boxes (N, 4) near the priors or near some ground truth, scores (N, C), and the logits of these."""
    generator = torch.Generator().manual_seed(seed)
    num, kind = len(layout.priors), dict(dtype=layout.priors.dtype)
    boxes = layout.priors.clone()
    if len(gts):
        near = torch.rand(num, generator=generator) < 0.5
        boxes[near] = gts.bboxes[torch.randint(len(gts), (num,), generator=generator)][near]
    boxes = boxes + spread * torch.randn(num, 4, generator=generator, **kind)
    low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
    logits = 3 * torch.randn(num, NUM_CLASSES, generator=generator, **kind) - 2
    return InstanceData(bboxes=torch.cat([low, high], 1), scores=logits.sigmoid(), logits=logits)


@st.composite
def predicted_scenes(draw, most: int = 6, **fixed):
    """A layout of square strides in float64, the ground truths of one to three images, and the predictions for them."""
    layout = draw(layouts(dtype=torch.float64, **fixed))
    assume(all(x == y for x, y in layout.strides))
    images = [instances(draw(boxes_near(layout, most)), dtype=torch.float64) for _ in range(draw(st.integers(1, 3)))]
    images = [
        gts[(gts.bboxes[:, :2] < gts.bboxes[:, 2:]).all(1)] for gts in images
    ]  # mmdet's differ for boxes of no area
    seed = draw(st.integers(0, 10**6))
    return layout, images, [predict(layout, gts, seed + i) for i, gts in enumerate(images)]


def points_with_strides(layout: Layout) -> torch.Tensor:
    """The priors as YOLOX's: (N, 4), x, y, stride x, stride y."""
    strides = torch.tensor(layout.strides, dtype=torch.float64)
    level = torch.arange(len(strides)).repeat_interleave(torch.tensor(layout.num_level_priors))
    return torch.cat([torch.from_numpy(layout.points), strides[level]], 1)
