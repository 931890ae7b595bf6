# Any experiment in miniature: its head, assigner, coder, losses and test settings, on a small network and on the
# embedded data set, trained from scratch in minutes on a CPU. Merge it over a config, as
# `atss-plugin run --overlay configs/overlays/shapes.py` does.

model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=18, base_channels=16, norm_cfg=dict(type='BN'), norm_eval=False),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64),
    bbox_head=dict(num_classes=4, in_channels=64, feat_channels=64, stacked_convs=2),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 240)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 240)),
    dict(type='LoadAnnotations', with_bbox=True),  # after Resize: drawn on the image as it is
    dict(
        type='PackDetInputs',
        # instances: CocoMetric takes the ground truth from them where there is no annotation file
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='atss_plugin.ShapesDataset', num_images=1000, seed=0, pipeline=train_pipeline),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='atss_plugin.ShapesDataset', num_images=100, seed=1, test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator

train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=6, val_interval=6)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=6, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=50, log_metric_by_epoch=True), checkpoint=dict(by_epoch=True, interval=1))
log_processor = dict(by_epoch=True)
randomness = dict(seed=0)
