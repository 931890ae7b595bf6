# RetinaNet (#A=1) with the five improvements of Table 1: the detector that all experiments share.
# Missing on purpose is what the paper is about, train_cfg.assigner: which anchors are positive.
# Every number with its source, and what differs from the authors' code: docs/recipe.md.
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        # The mean belongs to the weights in `backbone`: detectron2's copy of MSRA's network, pixels in BGR,
        # not divided by a std. The authors' own copy has the mean (102.9801, 115.9465, 122.7717).
        mean=[103.530, 116.280, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,  # the stem and the first stage
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='caffe',  # MSRA's networks: the stride is in the first 1x1 convolution
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe'),
    ),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,  # C3
        num_outs=5,
        add_extra_convs='on_output',  # P6 from P5
        relu_before_extra_convs=True,  # P7 = conv(relu(P6))
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d'),  # mmdet's Xavier starts the laterals 15 to 33 % larger
    ),
    # One class for all rows: they differ in the two switches of Table 2, bbox_coder and train_cfg.assigner, and in the
    # improvements of Table 1. RetinaNetHead and FCOSHead are this class with the coder filled in, for other models.
    bbox_head=dict(
        type='atss_plugin.OneStageHead',
        num_classes=80,
        in_channels=256,
        feat_channels=256,
        stacked_convs=4,
        conv_bias=True,
        anchor_generator=dict(
            type='atss_plugin.RoundedAnchorGenerator',  # mmdet's, but for ratios other than 1/4, 1 and 4
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            center_offset=0.5,  # anchor centres are FCOS's anchor points
            strides=[8, 16, 32, 64, 128],
        ),
        # Where the regression starts: the box. FCOS's start, the point, is atss_plugin.AnchorPointCoder.
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]),
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        with_scale=True,
        reg_decoded_bbox=True,
        count_images=False,
        average_over_processes=True,
        loss_cls=dict(type='atss_plugin.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100
    ),
)
