# Multi-scale testing with soft voting, for `mim test mmdet CONFIG --checkpoint ... --tta`.
# Each entry has a scale (longer side at most, shorter side), and the sizes kept of its detections: sqrt(area) in
# pixels of the image as resized to that scale, bounds excluded. The last one, the plain test scale, keeps all sizes.
# Scales, ranges and frame are the authors' (docs/recipe.md, "Table 8").
size_ranges = [
    ((1333, 400), (96, 10000)),
    ((1333, 500), (96, 10000)),
    ((1333, 600), (64, 10000)),
    ((1333, 640), (64, 10000)),
    ((1333, 700), (0, 10000)),
    ((3000, 900), (0, 10000)),
    ((3000, 1000), (0, 10000)),
    ((3000, 1100), (0, 256)),
    ((3000, 1200), (0, 256)),
    ((3000, 1300), (0, 192)),
    ((3000, 1400), (0, 192)),
    ((3000, 1800), (0, 96)),
    ((1333, 800), None),
]
# Each view is treated as a single image: NMS at 0.6, at most 100 detections; the results are merged.
tta_model = dict(type='atss_plugin.SoftVotingTTA', size_ranges=size_ranges)
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=scale, keep_ratio=True) for scale, _ in size_ranges],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        'img_id',
                        'img_path',
                        'ori_shape',
                        'img_shape',
                        'scale_factor',
                        'scale',
                        'flip',
                        'flip_direction',
                    ),
                )
            ],
        ],
    ),
]
