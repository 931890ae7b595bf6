"""A small head, its losses and gradients, and the smallest detector around it.

Legend: B images, L levels.
"""

from copy import deepcopy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

import atss_plugin  # noqa: F401

CHANNELS = 8
STRIDES = (8, 16)
IMAGE = 64

SMALL = dict(
    num_classes=3,
    in_channels=CHANNELS,
    feat_channels=CHANNELS,
    stacked_convs=1,
    norm_cfg=dict(type='GN', num_groups=2),
    anchor_generator=dict(
        type='AnchorGenerator',
        ratios=[1.0],
        octave_base_scale=4,
        scales_per_octave=1,
        center_offset=0.5,
        strides=STRIDES,
    ),
)
ATSS = dict(assigner=dict(type='atss_plugin.ATSSAssigner', topk=9))
SSC = dict(assigner=dict(type='atss_plugin.SpatialScaleAssigner', scale_ranges=((-1, 16), (16, 64))))
CENTER = dict(assigner=dict(type='atss_plugin.CenterSamplingAssigner', scale_ranges=((-1, 16), (16, 64))))
IOU = dict(assigner=dict(type='atss_plugin.IoUAssigner', in_gt_box=True))
MMDET = dict(assigner=dict(type='mmdet.ATSSAssigner', topk=9))
SMOOTH_L1 = dict(loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.25), reg_decoded_bbox=False)
BOX, POINT = dict(type='atss_plugin.RetinaNetHead'), dict(type='atss_plugin.FCOSHead')

HEADS = {
    'box-atss': dict(**BOX, train_cfg=ATSS),
    'box-iou': dict(**BOX, train_cfg=IOU),
    'box-mmdet_atss': dict(**BOX, train_cfg=MMDET),
    'box-no_centerness': dict(**BOX, train_cfg=ATSS, loss_centerness=None),
    'box-no_scalar': dict(**BOX, train_cfg=ATSS, with_scale=False),
    'box-smooth_l1': dict(**BOX, train_cfg=ATSS, **SMOOTH_L1),
    'box-plain_retinanet': dict(
        **BOX, train_cfg=IOU, **SMOOTH_L1, count_images=True, loss_centerness=None, with_scale=False
    ),
    'point-ssc': dict(**POINT, train_cfg=SSC),
    'point-atss': dict(**POINT, train_cfg=ATSS),
    'point-center_sampling': dict(**POINT, train_cfg=CENTER),
    'point-no_centerness': dict(**POINT, train_cfg=SSC, loss_centerness=None),
    'point-smooth_l1': dict(**POINT, train_cfg=SSC, **SMOOTH_L1),
}
# boxes of every image, of process 0 and of process 1
LARGE, WIDE, TINY = [4.3, 6.1, 50.2, 58.7], [20.4, 30.3, 63.1, 49.6], [35.2, 10.4, 46.7, 21.3]
BATCHES = {
    'both': ([[LARGE, TINY], [WIDE]], [[TINY], [WIDE, LARGE]]),
    'one image without': ([[LARGE], []], [[], [WIDE, TINY]]),
    'process 1 without': ([[LARGE, TINY], [WIDE]], [[], []]),
    'process 0 without': ([[], []], [[LARGE, TINY], [WIDE]]),
    'no objects': ([[], []], [[], []]),
}


class Trained(nn.Module):
    """A head whose ``forward`` is its losses, as DistributedDataParallel wants it."""

    def __init__(self, head: dict) -> None:
        super().__init__()
        init_default_scope('mmdet')
        torch.manual_seed(0)
        self.head = MODELS.build(dict(**SMALL, **deepcopy(head)))
        self.head.init_weights()
        # the start of training would hide errors: all centernesses are alike, and boxes are the anchors
        for parameter in self.head.parameters():
            nn.init.normal_(parameter, parameter.mean().item(), 0.05)

    def forward(self, feats, samples) -> dict:
        return self.head.loss(feats, samples)


def batch(images: list, first: int) -> tuple:
    """Feature maps (B, CHANNELS, H, W) and ground truths of images; ``first`` is the number of the first."""
    generators = [torch.Generator().manual_seed(first + i) for i in range(len(images))]
    feats = [
        torch.stack([torch.randn(CHANNELS, IMAGE // s, IMAGE // s, generator=g) for g in generators]) for s in STRIDES
    ]
    return feats, [sample(boxes) for boxes in images]


def sample(boxes: list) -> DetDataSample:
    data_sample = DetDataSample(metainfo=dict(img_shape=(IMAGE, IMAGE)))
    data_sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.arange(len(boxes)))
    return data_sample


def train_step(model: nn.Module, feats: list, samples: list) -> tuple:
    """Losses and gradients; a parameter without a gradient is None."""
    model.zero_grad(set_to_none=True)
    losses = model(feats, samples)
    sum(losses.values()).backward()
    named = model.named_parameters()
    return (
        {name: loss.detach() for name, loss in losses.items()},
        {name.replace('module.', ''): p.grad for name, p in named},
    )


class OneConv(BaseModel):
    """The smallest model that mmengine trains: one convolution and the paper's head."""

    def __init__(self) -> None:
        super().__init__(BaseDataPreprocessor())
        self.backbone = nn.Conv2d(3, CHANNELS, 8, 8)
        self.trained = Trained(HEADS['box-atss'])

    def forward(self, inputs, data_samples, mode: str = 'loss') -> dict:
        x = self.backbone(torch.stack(inputs))
        return self.trained([x, nn.functional.avg_pool2d(x, 2)], data_samples)


def dataset() -> list:
    images = BATCHES['one image without'][0] + BATCHES['one image without'][1]
    generator = torch.Generator().manual_seed(0)
    return [
        dict(inputs=torch.randn(3, IMAGE, IMAGE, generator=generator), data_samples=sample(boxes)) for boxes in images
    ]


@pytest.fixture(scope='module')
def one_thread():
    """Tensors this small cost more in threads than in arithmetic."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
