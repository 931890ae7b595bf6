# Table 8, row "ResNet-101", paper AP 43.6 (test-dev)
# Weights: detectron2's copy of MSRA's ResNet-101, the same mean as the parent's ResNet-50.
_base_ = '../atss_r50_fpn_1x.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet101_caffe'))
)
# Multi-scale training: the shorter side is drawn evenly from 640, 641, ..., 800; the longer is at most 1333.
train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(type='RandomResize', scale=[(1333, 640), (1333, 800)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=180000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=180000, milestones=[120000, 160000])
