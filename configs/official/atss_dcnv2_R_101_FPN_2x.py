# The authors' checkpoint atss_dcnv2_R_101_FPN_2x, converted; to evaluate, not to train.
_base_ = '../table8/atss_r101_fpn_dcn_2x.py'
model = dict(data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717]), backbone=dict(init_cfg=None))
