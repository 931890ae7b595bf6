"""A validation is logged with the progress at which it was made, in the unit of the schedule."""

import pytest

from atss_plugin.experiments import config_root, load_config, load_tables

ROWS = {row.config for table in load_tables() for row in table.rows}
OTHERS = {
    f'{path.relative_to(config_root())}' for name in ('*.py', 'overlays/*.py') for path in config_root().glob(name)
}
CONFIGS = sorted(ROWS | OTHERS)


@pytest.mark.parametrize('config', CONFIGS)
def test_validations_are_logged_by_epoch_where_there_are_epochs(config):
    cfg = load_config(config)
    # mmengine counts no epochs in an IterBasedTrainLoop: every validation would be logged at 0
    by_epoch = 'max_epochs' in cfg.train_cfg
    assert by_epoch != ('max_iters' in cfg.train_cfg)
    assert cfg.default_hooks.logger.get('log_metric_by_epoch', True) == by_epoch
    assert cfg.log_processor.by_epoch == by_epoch
