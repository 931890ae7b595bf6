# Table 6, row "1:2", paper AP 39.0
# The paper does not say which number is the height: read here as height : width, so 1:2 is ratio 0.5.
# Rounded as in the authors' code: 88 x 48 on P3.
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(ratios=[0.5])))
