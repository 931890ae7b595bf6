# COCO train2017 (the paper's trainval35k) and val2017 (its minival).
# The folder that holds annotations/, train2017/ and val2017/: set it for one command,
# `COCO_ROOT=/my/coco mim train mmdet CONFIG`, or here. (--cfg-options data_root=... would come too late.)
data_root = '{{$COCO_ROOT:data/coco}}'
val_annotations = 'annotations/instances_val2017.json'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    # After Resize: the ground truth stays in the pixels of the original image.
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=2,  # per GPU, on 8 GPUs
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),  # landscape with landscape
    dataset=dict(
        type='atss_plugin.CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='atss_plugin.CocoDataset',
        data_root=data_root,
        ann_file=val_annotations,
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='CocoMetric', ann_file=f'{data_root}/{val_annotations}', metric='bbox')
test_evaluator = val_evaluator
