# What every run shares, whatever it trains on.
# A broken installation raises a clear error.
custom_imports = dict(imports=['atss_plugin.registry'], allow_failed_imports=False)
# A type without a scope is mmdet's; ours are always written 'atss_plugin.X'.
default_scope = 'mmdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # A validation is logged with its iteration: the loop's epoch, mmengine's default, stays 0.
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # For --resume. No save_best: the paper's AP is the last checkpoint's, not the best on val2017.
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')

env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl')
)
log_level = 'INFO'
load_from = None
resume = False
