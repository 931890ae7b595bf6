"""Detections against detections: those of an exported model and those of the model itself.

Legend: D detections of an image.
"""

import re

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

from atss_plugin.experiments import apply_overlay, load_config
from tests.conftest import ROOT

PIXELS, SCORE = 1e-2, 1e-4  # by how much two runtimes may differ
# one tower convolution: each further operator takes time to export
SMALL = {
    'model.bbox_head.stacked_convs': 1,
    'model.bbox_head.in_channels': 32,
    'model.bbox_head.feat_channels': 32,
    'model.neck.out_channels': 32,
}


def program_of_the_page() -> dict:
    """The functions of docs/export.md."""
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'export.md').read_text(), re.DOTALL)
    namespace = {}
    exec(code, namespace)
    return namespace


def small_config(name: str, **changes):
    """A config under the overlay that miniaturises it, with one tower convolution, for images of four classes."""
    cfg = apply_overlay(load_config(name), 'miniature.py')
    cfg.merge_from_dict({**SMALL, **changes})
    return cfg


def random_model(cfg, seed: int = 0):
    """A model with random weights, such that scores are spread and boxes differ from their anchors."""
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model).eval()
    head = model.bbox_head
    for name, parameter in model.named_parameters():
        if 'conv_offset' in name:
            torch.nn.init.normal_(parameter, std=0.01)
    torch.nn.init.constant_(head.atss_reg.bias, getattr(head.bbox_coder, 'initial_bias', 0.0))
    with torch.no_grad():
        pixels = model.data_preprocessor(dict(inputs=list(random_images(2, 96, 160, seed))))['inputs']
        logits, deltas, _ = head(model.extract_feat(pixels))
        for layer, maps, spread in ((head.atss_cls, logits, 1.5), (head.atss_reg, deltas, 1.0)):
            layer.weight *= spread / torch.cat([m.flatten() for m in maps]).std()
        head.atss_cls.bias -= 2
    return model


def random_images(number: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Pixels (number, 3, height, width), uint8: patches, which make places differ, and noise against ties."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(0, 200, (number, 3, height // 8 + 1, width // 8 + 1), generator=generator)
    noise = torch.randint(0, 56, (number, 3, height, width), generator=generator)
    images = patches.repeat_interleave(8, 2).repeat_interleave(8, 3)[..., :height, :width] + noise
    return images.to(torch.uint8)


def predict(model, image: torch.Tensor):
    """mmdet's own way: boxes (D, 4), scores (D,) and labels (D,) of an image (3, H, W), in arrays."""
    sample = DetDataSample(metainfo=dict(img_shape=image.shape[1:], ori_shape=image.shape[1:], scale_factor=(1.0, 1.0)))
    with torch.no_grad():
        found = model.test_step(dict(inputs=[image], data_samples=[sample]))[0].pred_instances
    return tuple(found[name].numpy() for name in ('bboxes', 'scores', 'labels'))


def assert_same_detections(actual, expected) -> None:
    """The same boxes, scores and labels in the same order; detections of one score may have changed places."""
    boxes, scores, labels = actual
    assert len(boxes) == len(expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=0, atol=SCORE)
    taken = np.zeros(len(boxes), dtype=bool)
    for box, score, label in zip(*expected):
        same = ~taken & (labels == label) & (abs(scores - score) <= SCORE)
        same &= (abs(boxes - box) <= PIXELS).all(1)
        assert same.any(), f'no {label} of score {score} at {box}'
        taken[same.argmax()] = True
