# Table 4, row "k = 17", paper AP 39.2
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(topk=17)))
