# The miniature from a start that was learnt with anchors of 5 strides instead of 8: are smaller anchors worse there
# (claim 7) because backbone and FPN come from a training with anchors of 8 strides?
# Registered before it was run, for t3.retinanet_atss (8S) and t5.scale5, seeds 0 to 2; the latter is 1.3 points below
# in miniature_warm: a mean difference of -0.4 or more says yes, of -1 or less says no. The start:
#   mim train mmdet configs/miniature_start.py --work-dir work_dirs/miniature_start_scale5
#       --cfg-options model.bbox_head.anchor_generator.octave_base_scale=5
_base_ = '../miniature_warm.py'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint='work_dirs/miniature_start_scale5/epoch_5.pth')),
    neck=dict(init_cfg=dict(checkpoint='work_dirs/miniature_start_scale5/epoch_5.pth')),
)
