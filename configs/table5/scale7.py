# Table 5, row "7", paper AP 39.3
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(octave_base_scale=7)))
