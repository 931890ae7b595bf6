# Table 4, row "k = 19", paper AP 38.9
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(topk=19)))
