# The authors' checkpoint atss_R_50_FPN_1x, converted; to evaluate, not to train.
_base_ = '../atss_r50_fpn_1x.py'
model = dict(
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717]),  # of the authors' weights
    backbone=dict(init_cfg=None),
)
