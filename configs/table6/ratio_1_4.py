# Table 6, row "1:4", paper AP 39.1
# The paper does not say which number is the height: read here as height : width, so 1:4 is ratio 0.25.
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(ratios=[0.25])))
