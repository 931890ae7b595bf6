# The authors' checkpoint atss_dcnv2_X_101_64x4d_FPN_2x, converted; to evaluate, not to train.
# With --tta: Table 8's multi-scale testing.
_base_ = '../table8/atss_x101_64x4d_fpn_dcn_2x_ms.py'
model = dict(
    # The authors' input for every network, ResNeXt too: BGR less this mean.
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(init_cfg=None),
)
