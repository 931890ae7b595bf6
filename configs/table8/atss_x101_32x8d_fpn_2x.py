# Table 8, row "ResNeXt-101-32x8d", paper AP 45.1 (test-dev)
# Weights: detectron2's copy of FAIR's ResNeXt-101-32x8d, BGR with a mean and a std of its own.
_base_ = './atss_r101_fpn_2x.py'
model = dict(
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675], std=[57.375, 57.120, 58.395], bgr_to_rgb=False),
    backbone=dict(
        type='ResNeXt',
        groups=32,
        base_width=8,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnext101_32x8d'),
    ),
)
