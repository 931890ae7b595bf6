# Table 1, row "RetinaNet (#A=1)", paper AP 32.5
# 32.5 is quoted from FCOS's paper (its Table 8, "RetinaNet (#A=1), C5"), so RetinaNet's own settings hold: P6 from C5;
# smooth L1 on deltas, a mean over their four numbers (hence 0.25); focal loss divided by positives + images; and each
# process divides by its own.
_base_ = '../atss_r50_fpn_1x.py'
model = dict(
    neck=dict(add_extra_convs='on_input'),
    bbox_head=dict(
        norm_cfg=None,
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=0.11, loss_weight=0.25),
        reg_decoded_bbox=False,
        count_images=True,
        average_over_processes=False,
        loss_centerness=None,
        with_scale=False,
    ),
    train_cfg=dict(
        assigner=dict(_delete_=True, type='atss_plugin.IoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, in_gt_box=False)
    ),
)
