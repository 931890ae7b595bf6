# Table 6, row "4:1", paper AP 39.1
# The paper does not say which number is the height: read here as height : width, so 4:1 is ratio 4.0.
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(ratios=[4.0])))
