# PAA (arXiv:2007.08103): mmdet's PAAHead has AP 40.4 with ResNet-50, an IoU branch for centerness and score voting
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.PAAAssigner', topk=9)))
