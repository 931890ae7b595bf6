# Table 7, row "RetinaNet (#A=9)", paper AP 36.3
# 4S is RetinaNet's own base of three scales; the authors gave it for every row with #sc=3.
_base_ = '../table1/retinanet.py'
model = dict(bbox_head=dict(anchor_generator=dict(octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0])))
