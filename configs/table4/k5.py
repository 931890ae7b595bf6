# Table 4, row "k = 5", paper AP 38.8
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(topk=5)))
