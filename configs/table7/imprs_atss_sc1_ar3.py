# Table 7, row "+ Imprs. + ATSS, #sc=1, #ar=3", paper AP 39.2
_base_ = '../atss_r50_fpn_1x.py'
model = dict(bbox_head=dict(anchor_generator=dict(ratios=[0.5, 1.0, 2.0])))
