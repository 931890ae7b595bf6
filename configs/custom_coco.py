# Your own data in COCO's format. Set the folder, its two annotation files, the folder of its images, and the classes
# by their names in "categories" of those files. Written for 640 x 480 photographs of blood cells; change what differs.
# `DATA_ROOT=/my/data mim train mmdet configs/custom_coco.py`, or edit this.
# For the paper's network on a GPU: './atss_r50_fpn_1x.py' as the base, and remove what is below "Schedule"; the base's
# has 90000 iterations of 16 images.
_base_ = './miniature.py'  # small and from scratch
data_root = '{{$DATA_ROOT:data/cells}}'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))

model = dict(bbox_head=dict(num_classes=3))
# Photographs keep their shape; the miniature's scenes have that of its input anyway.
train_pipeline = [dict(step, keep_ratio=True) if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [dict(step, keep_ratio=True) if step['type'] == 'Resize' else step for step in _base_.test_pipeline]

train_dataloader = dict(
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        _delete_=True,
        type='atss_plugin.CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
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
        data_root=data_root,
        metainfo=metainfo,
        ann_file='val.json',
        data_prefix=dict(img='images/'),
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/val.json')
test_evaluator = val_evaluator

# Schedule
train_cfg = dict(max_epochs=24, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=24, convert_to_iter_based=True),
]
