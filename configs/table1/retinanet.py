# Table 1, row "RetinaNet (#A=1)", paper AP 32.5
_base_ = '../atss_r50_fpn_1x.py'
model = dict(
    bbox_head=dict(
        norm_cfg=None,
        # RetinaNet's own losses: on the deltas, a mean over their four numbers (hence 0.25); the focal
        # loss is divided by positives + images
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=0.11, loss_weight=0.25),
        reg_decoded_bbox=False,
        count_images=True,
        loss_centerness=None,
        with_scale=False,
    ),
    train_cfg=dict(
        assigner=dict(_delete_=True, type='atss_plugin.IoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, in_gt_box=False)
    ),
)
