# mmdet's ATSS with ResNet-101; see mmdet_atss_r50_fpn_1x.py.
_base_ = './mmdet_atss_r50_fpn_1x.py'
model = dict(backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101')))
