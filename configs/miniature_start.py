# Where all rows start in miniature, as the paper's start from ImageNet: backbone and FPN learnt by a definition that no
# table compares, TopKIoUAssigner, on other scenes (docs/miniature.md).
_base_ = './miniature.py'

model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.TopKIoUAssigner')))
train_dataloader = dict(dataset=dict(seed=2))
train_cfg = dict(max_epochs=5, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=5, convert_to_iter_based=True),
]
