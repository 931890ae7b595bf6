# Table 5, row "6", paper AP 39.2
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(octave_base_scale=6)))
