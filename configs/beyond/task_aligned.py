# TAL, TOOD (arXiv:2108.07755): AP 42.5 (test-dev) with ResNet-50, task-aligned head, soft labels and losses of its own
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.TaskAlignedAssigner', topk=13)))
