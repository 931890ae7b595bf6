# The paper's final model in miniature: its head, assigner, losses and test settings, as they are, on a small network
# and on scenes whose boxes are distributed as COCO's, from scratch, in minutes on a CPU (docs/miniature.md).
# As an overlay (`atss-plugin run ROW --overlay miniature.py`) it makes any other experiment small in the same way.
_base_ = './atss_r50_fpn_1x.py'

model = dict(
    # C3 to C5 only, and thin; P3 to P7 have the strides 8 to 128 as ever
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        base_channels=16,
        num_stages=3,
        strides=(2, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        norm_cfg=dict(type='BN', momentum=0.02),  # a batch has two images
        norm_eval=False,
        zero_init_residual=False,  # learns faster from scratch
    ),
    neck=dict(in_channels=[16, 32, 64], out_channels=64, start_level=0),
    bbox_head=dict(num_classes=4, in_channels=64, feat_channels=64, stacked_convs=1),
)

scale = (640, 480)  # 5/3 of the scenes, as most of COCO's images are enlarged to 800 pixels
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale),
    dict(type='LoadAnnotations', with_bbox=True),  # after Resize: drawn on the image as it is
    dict(
        type='PackDetInputs',
        # instances: CocoMetric takes the ground truth from them where there is no annotation file
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='atss_plugin.ShapesDataset', num_images=1500, seed=0, pipeline=train_pipeline),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='atss_plugin.ShapesDataset', num_images=2000, seed=1, test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator

train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=3, val_interval=3)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0015, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=3, convert_to_iter_based=True),
]
custom_hooks = [dict(type='atss_plugin.PairedRandomnessHook'), dict(type='atss_plugin.ChannelsLastHook')]
default_hooks = dict(logger=dict(interval=50, log_metric_by_epoch=True), checkpoint=dict(by_epoch=True, interval=1))
log_processor = dict(by_epoch=True)
randomness = dict(seed=0)
# `mim test ... --tta`: flipped as well. mmdet's default drops `instances`, CocoMetric's ground truth.
tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=100))
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [test_pipeline[1]],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(test_pipeline[-1], meta_keys=(*test_pipeline[-1]['meta_keys'], 'flip', 'flip_direction'))],
        ],
    ),
]
