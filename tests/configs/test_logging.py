"""A validation is logged with the progress at which it was made, in the unit of the schedule."""

import pytest

from atss_plugin.experiments import config_root, load_config, load_tables

CONFIGS = sorted({row.config for table in load_tables() for row in table.rows})
OWN = ['atss_r18_fpn_shapes.py', 'custom_coco.py', 'mmdet_atss_r50_fpn_1x.py']


@pytest.mark.parametrize(
    'config', [*CONFIGS, *OWN, *(f'overlays/{p.name}' for p in config_root().glob('overlays/*.py'))]
)
def test_validations_are_logged_by_epoch_where_there_are_epochs(config):
    cfg = load_config(config)
    # mmengine counts no epochs in an IterBasedTrainLoop: every validation would be logged at 0
    by_epoch = 'max_epochs' in cfg.train_cfg
    assert by_epoch != ('max_iters' in cfg.train_cfg)
    assert cfg.default_hooks.logger.get('log_metric_by_epoch', True) == by_epoch
    assert cfg.log_processor.by_epoch == by_epoch
