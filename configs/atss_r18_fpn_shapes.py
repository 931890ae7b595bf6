# The paper's final model in miniature: its head, its assigner and its losses by inheritance, on a small network and on
# the embedded data set, from scratch. What differs is the overlay, the same that miniaturises any other experiment,
# and the anchors: half as large, since the images are less than a third as wide.
_base_ = './atss_r50_fpn_1x.py'
exec(open('{{ fileDirname }}/overlays/shapes.py').read())
model['bbox_head']['anchor_generator'] = dict(octave_base_scale=4)  # noqa: F821
# A few held-out images beside the log, ground truth and detections.
default_hooks['visualization'] = dict(draw=True, interval=4)  # noqa: F821
# `mim test ... --tta`: flipped as well. mmdet's default drops `instances`, CocoMetric's ground truth.
tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=100))
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [test_pipeline[1]],  # noqa: F821
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(test_pipeline[-1], meta_keys=(*test_pipeline[-1]['meta_keys'], 'flip', 'flip_direction'))],  # noqa: F821
        ],
    ),
]
