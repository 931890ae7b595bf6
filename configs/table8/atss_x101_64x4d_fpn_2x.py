# Table 8, row "ResNeXt-101-64x4d", paper AP 45.6 (test-dev)
# Weights: OpenMMLab's ResNeXt-101-64x4d, RGB with ImageNet's usual mean and std.
_base_ = './atss_r101_fpn_2x.py'
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        type='ResNeXt',
        groups=64,
        base_width=4,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnext101_64x4d'),
    ),
)
