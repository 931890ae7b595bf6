"""The main job and the overlay: the experiment's head and assigner, in small."""

import pytest
import yaml
from mmengine.config import Config

from tests.configs.helpers import CONFIGS, changes, load

ROWS = [
    row
    for table in yaml.safe_load((CONFIGS / 'paper_tables.yml').read_text())['tables'].values()
    for row in table['rows']
]
SMALLER = {'num_classes', 'in_channels', 'feat_channels', 'stacked_convs'}


def overlaid(name):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict(Config.fromfile(CONFIGS / 'overlays' / 'shapes.py')._cfg_dict.to_dict())
    return cfg


def test_the_main_job_is_the_papers_final_model_under_the_overlay():
    difference = changes(load('atss_r18_fpn_shapes.py')._cfg_dict, overlaid('atss_r50_fpn_1x.py')._cfg_dict)
    # what `mim test --tta` does belongs to the testing of a trained model
    assert {'tta_model', 'tta_pipeline'} <= set(difference)
    assert {key: value for key, value in difference.items() if not key.startswith('tta_')} == {
        'model.bbox_head.anchor_generator.octave_base_scale': 4,
        'default_hooks.visualization.draw': True,
        'default_hooks.visualization.interval': 4,
    }


@pytest.mark.parametrize('name', sorted({row['config'] for row in ROWS}))
def test_the_overlay_keeps_what_the_row_is_about(name):
    small, row = overlaid(name).model, load(name).model
    assert set(changes(small.bbox_head, row.bbox_head)) <= SMALLER
    assert not changes(small.train_cfg, row.train_cfg)
    assert not changes(small.test_cfg, row.test_cfg)
