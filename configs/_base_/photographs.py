# Photographs with annotations in COCO's format (train.json, val.json, images/): twelve epochs from the miniature's
# start. A config sets num_classes, data_root and metainfo of the data sets, and ann_file of the evaluators.
_base_ = '../miniature_warm.py'

# Photographs keep their shape; scenes have that of the input anyway.
train_pipeline = [dict(step, keep_ratio=True) if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [dict(step, keep_ratio=True) if step['type'] == 'Resize' else step for step in _base_.test_pipeline]

train_dataloader = dict(
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        _delete_=True,
        type='atss_plugin.CocoDataset',
        ann_file='train.json',
        data_prefix=dict(img='images/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='atss_plugin.CocoDataset',
        ann_file='val.json',
        data_prefix=dict(img='images/'),
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=12, convert_to_iter_based=True),
]
