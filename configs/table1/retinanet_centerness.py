# Table 1, row "+ Centerness", paper AP 36.8
_base_ = './retinanet_in_gt_box.py'
model = dict(
    bbox_head=dict(loss_centerness=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0))
)
