"""Reading configs in tests: what one changes in another, and the same model scaled down.

Legend: B images, G ground truths of an image.
"""

from copy import deepcopy
from functools import lru_cache

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from tests.conftest import ROOT

CONFIGS = ROOT / 'configs'
ABSENT = 'absent'
NUM_CLASSES = 5
WIDTH = 4  # of the stem of the small ResNet


@lru_cache(maxsize=None)
def _read(name: str) -> Config:
    return get_config(name) if '::' in name else Config.fromfile(CONFIGS / name)


def load(name: str) -> Config:
    """A config by its path below ``configs/``, or mmdet's as ``mmdet::path``; the caller may edit it."""
    init_default_scope('mmdet')
    return deepcopy(_read(name))


def plain(config):
    """Return the config without the ``_scope_`` that mmengine leaves in what it inherits from another package."""
    if isinstance(config, (dict, Config)):
        return {key: plain(value) for key, value in config.items() if key != '_scope_'}
    return [plain(value) for value in config] if isinstance(config, list) else config


def changes(config: dict, reference: dict, prefix: str = '') -> dict:
    """Return what differs, by dotted key: the value in ``config`` (whole where the type differs), or ``ABSENT``."""
    config, reference, found = plain(config), plain(reference), {}
    for key in {**reference, **config}:
        new, old = config.get(key, ABSENT), reference.get(key, ABSENT)
        if isinstance(new, dict) and isinstance(old, dict) and new.get('type') == old.get('type'):
            found.update(changes(new, old, f'{prefix}{key}.'))
        elif new != old:
            found[prefix + key] = new
    return found


def types_in(config):
    """Every ``type`` in a config, however deep."""
    if isinstance(config, dict):
        yield from ([config['type']] if isinstance(config.get('type'), str) else [])
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for value in config:
            yield from types_in(value)


def shrink(model: dict) -> dict:
    """The same model, scaled down: the whole backbone and its rules, few channels, one tower conv, no weights."""
    model.backbone.update(base_channels=WIDTH, init_cfg=None)
    model.neck.update(in_channels=[4 * WIDTH * 2**stage for stage in range(4)], out_channels=32)
    model.bbox_head.update(num_classes=NUM_CLASSES, in_channels=32, feat_channels=32, stacked_convs=1)
    return model


def build(model: dict, seed: int = 0) -> torch.nn.Module:
    """The model with its initial weights."""
    torch.manual_seed(seed)
    detector = MODELS.build(model)
    detector.init_weights()
    return detector


def batch_of_two(shapes=((96, 160), (128, 128))) -> dict:
    """Two images (3, H, W) of noise, with three and with one ground truth, as a data loader gives them."""
    # not round numbers: among equally distant anchors, mmdet takes any
    boxes = [
        [[10.3, 12.1, 34.2, 40.7], [40.9, 20.4, 120.6, 90.3], [90.2, 60.8, 150.5, 94.6]],
        [[16.7, 8.2, 112.4, 120.9]],
    ]
    labels = [[0, 3, 4], [1]]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8) for shape in shapes]
    samples = []
    for index, shape in enumerate(shapes):
        sample = DetDataSample(
            metainfo=dict(
                img_id=index, img_shape=shape, ori_shape=(shape[0] * 2, shape[1] * 2), scale_factor=(0.5, 0.5)
            )
        )
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes[index]), labels=torch.tensor(labels[index]))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)
