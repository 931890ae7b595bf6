# Table 7, row "+ Imprs. + ATSS, #sc=3, #ar=1", paper AP 39.3
# Three scales start from 4S, as the authors gave it for every row with #sc=3; a single scale stays at 8S.
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(octave_base_scale=4, scales_per_octave=3)))
