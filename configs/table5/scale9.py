# Table 5, row "9", paper AP 38.9
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(octave_base_scale=9)))
