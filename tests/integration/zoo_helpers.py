"""mmdet's own models, scaled down, with an assigner of ours put in by a config that inherits mmdet's.

Legend: B images, L levels, N priors, G ground truths.
"""

from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from atss_plugin.assigners import base
from tests.reference.oracle import Scene

# channels of the full models, and of the small ones
CHANNELS = {128: 32, 256: 64, 512: 16, 1024: 64, 2048: 64}
RESNET18 = [8, 16, 32, 64]
CHANNEL_KEYS = (
    'in_channels',
    'out_channels',
    'feat_channels',
    'conv_out_channels',
    'fc_out_channels',
    'block_mid_channels',
    'point_feat_channels',
    'reg_in_channels',
    'cls_in_channels',
)
NUM_CLASSES = 3


def two_lines(config: str, place: str, assigner: dict) -> str:
    """What a user writes: inherit mmdet's config, replace the assigner at ``place`` (dotted)."""
    arguments = {**assigner, '_delete_': True}
    change = 'dict(' + ', '.join(f'{key}={value!r}' for key, value in sorted(arguments.items())) + ')'
    for key in reversed(place.split('.')):
        change = f'dict({key}={change})'
    return f"_base_ = 'mmdet::{config}'\nmodel = {change}\n"


def read(text: str, folder: Path) -> Config:
    """The config that this text means, read as a file."""
    path = folder / 'config.py'
    path.write_text(text)
    init_default_scope('mmdet')
    return Config.fromfile(path)


def shrink(model: ConfigDict) -> ConfigDict:
    """The same model with few channels and classes, a small ResNet, short towers and no weights to download."""
    small = _shrink(model, is_resnet=model.backbone.type.split('.')[-1] == 'ResNet')
    small.data_preprocessor.pop('batch_augments', None)
    if 'teacher_config' in small:
        small.teacher_config = dict(model=shrink(get_config('mmdet::gfl/gfl_r50_fpn_1x_coco.py').model))
    if 'teacher_ckpt' in small:
        small.teacher_ckpt = None
    return small


def _shrink(value, is_resnet: bool):
    if isinstance(value, (list, tuple)):
        return type(value)(_shrink(v, is_resnet) for v in value)
    if not isinstance(value, dict):
        return value
    if value.get('type', '').split('.')[-1] == 'ResNet':
        return ConfigDict(type='mmdet.ResNet', depth=18, base_channels=8, out_indices=value.out_indices)
    small = ConfigDict({key: _shrink(v, is_resnet) for key, v in value.items()})
    for key in CHANNEL_KEYS if is_resnet else ():
        if isinstance(small.get(key), list):
            small[key] = RESNET18[-len(small[key]) :]
        elif key in small:
            small[key] = CHANNELS.get(small[key], small[key])
    for key, allowed in (('num_classes', NUM_CLASSES), ('stacked_convs', 2), ('max_per_img', 50)):
        if small.get(key, 0) > allowed:
            small[key] = allowed
    if 'score_thr' in small:
        small.score_thr = 0.0  # untrained models detect nothing above mmdet's threshold
    if small.get('type', '').split('.')[-1] == 'DDODHead':
        small.use_dcn = False  # mmcv's deformable convolution refuses maps smaller than its kernel
    if 'Pretrained' in str(small.get('init_cfg')):
        small.pop('init_cfg')
    return small


def build(model: ConfigDict) -> torch.nn.Module:
    """A detector with its initial weights, in its first epoch."""
    torch.manual_seed(0)
    detector = MODELS.build(model)
    detector.init_weights()
    MessageHub.get_current_instance().update_info('epoch', 0)  # as the training loop does; TOOD reads it
    return detector


def sample(shape: Tuple[int, int], boxes: list, labels: list, ignored: list = ()) -> DetDataSample:
    """An image's annotation as mmdet's data pipeline packs it."""
    result = DetDataSample(metainfo=dict(img_id=0, img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0)))
    boxes, ignored = (torch.tensor(b, dtype=torch.float32).reshape(-1, 4) for b in (boxes, list(ignored)))
    masks = np.zeros((len(boxes), *shape), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist()):
        mask[y1:y2, x1:x2] = 1
    result.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor(labels, dtype=torch.long), masks=BitmapMasks(masks, *shape)
    )
    result.ignored_instances = InstanceData(
        bboxes=ignored,
        labels=torch.zeros(len(ignored), dtype=torch.long),
        masks=BitmapMasks(np.zeros((len(ignored), *shape), dtype=np.uint8), *shape),
    )
    return result


def batch(ignored: list = ()) -> dict:
    """Two images of different shapes: three objects, small to large, and one; coordinates without ties."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((96, 160), (128, 128))
    samples = [
        sample(
            shapes[0],
            [[10.3, 12.1, 34.2, 40.7], [40.9, 20.4, 120.6, 90.3], [90.2, 60.8, 150.5, 94.6]],
            [0, 1, 2],
            ignored,
        ),
        sample(shapes[1], [[16.7, 9.9, 109.8, 118.4]], [1]),
    ]
    inputs = [torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8) for shape in shapes]
    return dict(inputs=inputs, data_samples=samples)


class Call(NamedTuple):
    """One call of an assigner by a head, and its answer.

    Attributes:
        pred_instances (InstanceData): what the head handed over.
        gt_instances (InstanceData): the ground truths.
        num_level_priors (list[int], optional): as the head gave them.
        priors (Tensor): (N, 4).
        gts (Tensor): (G, 4).
        gt_inds (Tensor): (N,).
        max_overlaps (Tensor): (N,).
    """

    pred_instances: InstanceData
    gt_instances: InstanceData
    num_level_priors: Optional[List[int]]
    priors: Tensor
    gts: Tensor
    gt_inds: Tensor
    max_overlaps: Tensor


def record_calls(monkeypatch) -> List[Call]:
    """Note every further call of one of our assigners in the list returned."""
    calls, assign_batch = [], base.Assigner.assign_batch

    def noting(self, priors, num_level_priors, batch_gt_instances, batch_gt_instances_ignore=None, predictions=None):
        result = assign_batch(
            self, priors, num_level_priors, batch_gt_instances, batch_gt_instances_ignore, predictions
        )
        predicted = predictions or [None] * len(batch_gt_instances)
        for pred, gt, inds, overlaps in zip(predicted, batch_gt_instances, result.gt_inds, result.max_overlaps):
            calls.append(
                Call(
                    pred,
                    gt,
                    num_level_priors,
                    priors[:, :4].detach().clone(),
                    get_box_tensor(gt.bboxes).clone(),
                    inds.clone(),
                    overlaps.clone(),
                )
            )
        return result

    monkeypatch.setattr(base.Assigner, 'assign_batch', noting)
    return calls


def train_step(detector: torch.nn.Module, data: dict) -> dict:
    """Losses of one training step, and the gradients of them."""
    detector.train()
    data = detector.data_preprocessor(data, training=True)
    losses = detector(**data, mode='loss')
    total, log = detector.parse_losses(losses)
    total.backward()
    return log


def gradients(detector: torch.nn.Module) -> Iterator[Tensor]:
    return (p.grad for p in detector.parameters() if p.grad is not None)


def predict(detector: torch.nn.Module, data: dict) -> List[InstanceData]:
    """Detections of each image, one image at a time as mmdet tests by default."""
    detector.eval()
    results = []
    for image, annotation in zip(data['inputs'], data['data_samples']):
        one = detector.data_preprocessor(dict(inputs=[image], data_samples=[annotation]))
        with torch.no_grad():
            results += [s.pred_instances for s in detector(**one, mode='predict')]
    return results


def scene(call: Call, sizes: List[int], anchors: Sequence[int]) -> Scene:
    """The oracle's view of a call: levels of these sizes, with so many anchors per location."""
    priors = call.priors.double().numpy()
    # the A anchors of a location share its point, except for the rounding of their corners to float32
    points = ((priors[:, :2] + priors[:, 2:]) / 2).round(3)
    return Scene(priors, sizes, call.gts.double().numpy(), points, anchors, tol=1e-6, iou_tol=1e-5)
