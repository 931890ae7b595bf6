# Table 4, row "k = 15", paper AP 39.1
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(topk=15)))
