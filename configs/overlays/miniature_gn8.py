# The miniature with GroupNorm's groups as wide as the paper's, eight channels, for rows that have it: does GroupNorm
# lower RetinaNet because groups of two channels are too small?
# Registered before it was run, for t1.retinanet_gn, seeds 0 to 2, against t1.retinanet in miniature_warm, where groups
# of two channels cost 2.9 points of AP: a mean difference of -0.5 or more says yes, of -2 or less says no.
_base_ = '../miniature_warm.py'

model = dict(bbox_head=dict(norm_cfg=dict(num_groups=8)))
