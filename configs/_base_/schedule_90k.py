# The paper's schedule (Section 3.1, and the authors' settings): 90,000 iterations of 16 images.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
    # Every parameter named bias: lr x 2, no weight decay. Not by `bias_lr_mult`, which leaves out the
    # biases of GroupNorm and of deformable offsets.
    paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=2.0, decay_mult=0.0))),
)

param_scheduler = [
    # lr / 3 for 500 iterations; mmengine's ConstantLR is back at the full rate one iteration before `end`.
    dict(type='ConstantLR', factor=1.0 / 3, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=90000, milestones=[60000, 80000], gamma=0.1),
]

# lr 0.01 belongs to 8 GPUs x 2 images; train with --auto-scale-lr for any other number.
auto_scale_lr = dict(enable=False, base_batch_size=16)
