# Table 6, row "2:1", paper AP 39.3
# The paper does not say which number is the height: read here as height : width, so 2:1 is ratio 2.0.
# Rounded as in the authors' code: 48 x 96 on P3.
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(ratios=[2.0])))
