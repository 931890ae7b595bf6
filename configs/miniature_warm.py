# The miniature from a start that all rows share (miniature_start.py), in less time: the overlay with which the paper's
# claims are tested (docs/miniature.md).
_base_ = './miniature.py'

model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/miniature_start/epoch_5.pth', prefix='backbone.')
    ),
    neck=dict(
        init_cfg=dict(
            _delete_=True, type='Pretrained', checkpoint='work_dirs/miniature_start/epoch_5.pth', prefix='neck.'
        )
    ),
)
train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=0.001))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=2, convert_to_iter_based=True),
]
