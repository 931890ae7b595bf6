"""The constants of all 49 rows, written here by hand from the paper and its authors' settings.

The final model is written down as a whole, so nothing in its config is unchecked. What a row changes in it is checked
in test_configs.py (Tables 1-7) and test_table8.py; what no config names, as it is the default of a class, at the end
of this file.
"""

import pytest
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.optim import build_optim_wrapper
from torch import nn

from tests.configs.helpers import build, load, plain, shrink

FINAL = 'atss_r50_fpn_1x.py'

MODEL = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[103.530, 116.280, 123.675],  # of detectron2's copy of the weights
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='caffe',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe'),
    ),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,
        num_outs=5,
        add_extra_convs='on_output',
        relu_before_extra_convs=True,
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d'),
    ),
    bbox_head=dict(
        type='atss_plugin.OneStageHead',
        num_classes=80,
        in_channels=256,
        feat_channels=256,
        stacked_convs=4,
        conv_bias=True,
        anchor_generator=dict(
            type='atss_plugin.RoundedAnchorGenerator',
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            center_offset=0.5,
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        with_scale=True,
        reg_decoded_bbox=True,
        count_images=False,
        average_over_processes=True,
        loss_cls=dict(type='atss_plugin.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(assigner=dict(type='atss_plugin.ATSSAssigner', topk=9)),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100
    ),
)
RESIZE = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
TRAINING = dict(
    batch_size=2,  # of 8 processes
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='atss_plugin.CocoDataset',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            RESIZE,
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
WHOLE = {
    'model': MODEL,
    'train_dataloader': TRAINING,
    'train_cfg': dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=10000),
    'optim_wrapper': dict(
        type='OptimWrapper',  # which clips no gradient unless told to
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
        paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=2.0, decay_mult=0.0))),
    ),
    'param_scheduler': [
        dict(type='ConstantLR', factor=1 / 3, by_epoch=False, begin=0, end=501),
        dict(type='MultiStepLR', by_epoch=False, begin=0, end=90000, milestones=[60000, 80000], gamma=0.1),
    ],
    'auto_scale_lr': dict(enable=False, base_batch_size=16),
}


@pytest.mark.parametrize('key', WHOLE)
def test_final_model_has_these_settings_and_no_other(key):
    value = plain(load(FINAL)[key])
    if key == 'train_dataloader':
        value['dataset'].pop('data_root')  # the user's
    assert value == plain(WHOLE[key])


def test_images_are_tested_as_they_are_trained():
    test = load(FINAL).test_dataloader
    assert test == load(FINAL).val_dataloader
    assert (test.dataset.ann_file, test.dataset.data_prefix.img) == (
        'annotations/instances_val2017.json',
        'val2017/',
    )
    assert [step for step in plain(test.dataset.pipeline) if step['type'] in ('Resize', 'RandomFlip')] == [RESIZE]


def test_defaults_that_no_config_names():
    cfg = load(FINAL)
    model = build(shrink(cfg.model))
    coder = model.bbox_head.bbox_coder
    # dw and dh are clamped at log(1000 / 16): no box is larger than 1000 / 16 times its anchor
    enormous = coder.decode(
        torch.tensor([[0.0, 0.0, 16.0, 32.0]]), torch.full((1, 4), 1e3) * torch.tensor([0, 0, 1, 1])
    )
    torch.testing.assert_close(enormous, torch.tensor([[8.0 - 500, 16 - 1000, 8 + 500, 16 + 1000]]))
    assert coder.clip_border and not coder.add_ctr_clamp
    assert model.neck.upsample_cfg == dict(mode='nearest')
    assert all(scale.scale.item() == 1 for scale in model.bbox_head.scales)
    assert {norm.eps for norm in model.modules() if isinstance(norm, (nn.GroupNorm, nn.BatchNorm2d))} == {1e-5}
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert not optim_wrapper.clip_grad_kwargs
    assert all(not group['nesterov'] and group['dampening'] == 0 for group in optim_wrapper.param_groups)
    resize = TRANSFORMS.build(RESIZE)
    assert (resize.backend, resize.interpolation) == ('cv2', 'bilinear')
    assert TRANSFORMS.build(dict(type='RandomFlip', prob=0.5)).direction == 'horizontal'


# Initial weights. Bounds by hand: sqrt(3 / fan_in), as 1x1 from C3, C4, C5, as 3x3 from 256 channels, as 3x3 from C5.
LATERALS = [0.0765466, 0.0541266, 0.0382733]
FROM_256, FROM_C5 = 0.0360844, 0.0127578


@pytest.mark.parametrize(
    'name, bounds',
    [
        pytest.param(FINAL, LATERALS + [FROM_256] * 5, id='p6-from-p5'),
        pytest.param('table1/retinanet.py', LATERALS + [FROM_256] * 3 + [FROM_C5, FROM_256], id='p6-from-c5'),
    ],
)
def test_pyramid_starts_from_caffe2s_xavier(name, bounds):
    """Uniform within the bound: reached but not passed, on both sides, and flat in between."""
    torch.manual_seed(0)
    neck = MODELS.build(load(name).model.neck)
    neck.init_weights()
    convs = [module for module in neck.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == len(bounds)
    for conv, bound in zip(convs, bounds):
        assert not conv.bias.any()
        assert 0.999 * bound < conv.weight.max() <= 1.00001 * bound
        assert -1.00001 * bound <= conv.weight.min() < -0.999 * bound
        quarters = torch.histc(conv.weight.detach(), 4, -bound, bound) / conv.weight.numel()
        torch.testing.assert_close(quarters, torch.full((4,), 0.25), rtol=0.02, atol=0)


@pytest.mark.parametrize('name', [pytest.param(FINAL, id='box'), pytest.param('table1/fcos.py', id='point')])
def test_head_starts_from_the_normal_distribution(name):
    """N(0, 0.01) in every convolution; biases 0, but -4.595 (a probability of 0.01) for classes and 4 for distances."""
    torch.manual_seed(0)
    cfg = load(name)
    head = MODELS.build(dict(cfg.model.bbox_head, train_cfg=cfg.model.train_cfg, test_cfg=cfg.model.test_cfg))
    head.init_weights()
    convs = {name: module for name, module in head.named_modules() if isinstance(module, nn.Conv2d)}
    assert len(convs) == 4 + 4 + 3
    for conv_name, conv in convs.items():
        weight = conv.weight.detach()
        assert abs(weight.std() - 0.01) < 4e-4 and abs(weight.mean()) < 1e-3, conv_name
        assert weight.abs().max() > 0.03, conv_name  # not a bounded distribution
        bias = {'atss_cls': -4.59512, 'atss_reg': 4.0 if 'fcos' in name else 0.0}.get(conv_name, 0.0)
        torch.testing.assert_close(conv.bias.detach(), torch.full_like(conv.bias, bias))
