# Table 1, row "+ In GT Box", paper AP 35.3
_base_ = './retinanet_giou.py'
model = dict(train_cfg=dict(assigner=dict(in_gt_box=True)))
