# The paper's final model in miniature: its head, its assigner and its losses by inheritance, on a small network and on
# the embedded data set, from scratch. What differs is the overlay, the same that miniaturises any other experiment,
# and the anchors: half as large, since the images are less than a third as wide.
_base_ = './atss_r50_fpn_1x.py'
with open('{{ fileDirname }}/overlays/shapes.py') as __overlay:
    exec(__overlay.read())
model['bbox_head']['anchor_generator'] = dict(octave_base_scale=4)  # noqa: F821
# A few held-out images beside the log, ground truth and detections.
default_hooks['visualization'] = dict(draw=True, interval=4)  # noqa: F821
# `mim test ... --tta`: each image and its mirror image.
tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=100))
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(320, 240))],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            # instances: as in the overlay
            [dict(test_pipeline[-1], meta_keys=(*test_pipeline[-1]['meta_keys'], 'flip', 'flip_direction'))],  # noqa: F821
        ],
    ),
]
