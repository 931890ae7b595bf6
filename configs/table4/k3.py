# Table 4, row "k = 3", paper AP 38.0
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(topk=3)))
