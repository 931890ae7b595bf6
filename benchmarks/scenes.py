"""What the benchmarks run on: the pyramid of an 800 x 1333 image, random boxes, and boxes of COCO files."""

import json
import math
from collections import defaultdict
from typing import List, Tuple

import torch
from mmdet.models.task_modules import AnchorGenerator
from mmengine.structures import InstanceData
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)
IMAGE = (800, 1333)
_device = torch.device('cpu')


def use(device: str) -> None:
    """Put what is made from now on, priors and boxes, on a device."""
    global _device
    _device = torch.device(device)


def device() -> torch.device:
    """Return the device that the benchmarks run on."""
    return _device


def feature_sizes(height: int, width: int) -> List[Tuple[int, int]]:
    """Return the feature map sizes of P3 to P7 for an image padded to a multiple of 32."""
    height, width = (math.ceil(n / 32) * 32 for n in (height, width))
    return [(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]


def pyramid(anchors: int = 1, image: Tuple[int, int] = IMAGE) -> Tuple[Tensor, List[int]]:
    """Return the priors of an image and the number on each level, with 1 or 9 anchors per location."""
    kind = dict(ratios=[1.0], octave_base_scale=8, scales_per_octave=1)
    if anchors == 9:
        kind = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3)
    generator = AnchorGenerator(strides=STRIDES, center_offset=0.5, **kind)
    levels = generator.grid_priors(feature_sizes(*image), device=_device)
    return torch.cat(levels), [len(level) for level in levels]


def random_boxes(num: int, seed: int = 0, image: Tuple[int, int] = IMAGE) -> InstanceData:
    """Return ground truths with sides log-uniform from 8 to 600 pixels, centred anywhere in the image."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.exp(math.log(8) + torch.rand(num, 2, generator=generator) * math.log(600 / 8))
    center = torch.rand(num, 2, generator=generator) * torch.tensor([image[1], image[0]])
    labels = torch.randint(0, 80, (num,), generator=generator)
    return InstanceData(bboxes=torch.cat([center - side / 2, center + side / 2], 1), labels=labels).to(_device)


def coco_boxes(path: str) -> List[Tuple[Tuple[int, int], InstanceData]]:
    """Return (height, width), resized for training (800, at most 1333), and the boxes of every COCO image that has
    any."""
    with open(path) as file:
        data = json.load(file)
    boxes = defaultdict(list)
    for annotation in data['annotations']:
        if not annotation.get('iscrowd'):
            boxes[annotation['image_id']].append(annotation['bbox'])
    scenes = []
    for image in data['images']:
        if not boxes[image['id']]:
            continue
        short, long = sorted((image['height'], image['width']))
        scale = min(800 / short, 1333 / long)
        xywh = torch.tensor(boxes[image['id']], dtype=torch.float32) * scale
        xyxy = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        size = (round(image['height'] * scale), round(image['width'] * scale))
        labels = torch.zeros(len(xyxy), dtype=torch.long)
        scenes.append((size, InstanceData(bboxes=xyxy, labels=labels).to(_device)))
    return scenes
