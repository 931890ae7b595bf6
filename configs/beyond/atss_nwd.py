# NWD (arXiv:2110.13389): +6.7 AP on AI-TOD, in the assignment, loss and NMS of two-stage detectors
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(iou_calculator=dict(type='atss_plugin.GaussianWasserstein', constant=12.8))))
