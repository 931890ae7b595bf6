"""The miniature: any experiment's head, assigner, losses and tests as they are, on a small network."""

import pytest
import yaml

from atss_plugin.experiments import apply_overlay
from tests.configs.helpers import CONFIGS, changes, load

ROWS = [
    row
    for table in yaml.safe_load((CONFIGS / 'paper_tables.yml').read_text())['tables'].values()
    for row in table['rows']
]
SMALLER = {'num_classes', 'in_channels', 'feat_channels', 'stacked_convs'}


def overlaid(name):
    return apply_overlay(load(name), 'miniature.py')


def test_the_overlay_makes_the_papers_final_model_the_miniature():
    assert overlaid('atss_r50_fpn_1x.py')._cfg_dict == load('miniature.py')._cfg_dict


@pytest.mark.parametrize('name', sorted({row['config'] for row in ROWS}))
def test_the_overlay_keeps_what_the_row_is_about(name):
    small, row = overlaid(name).model, load(name).model
    assert set(changes(small.bbox_head, row.bbox_head)) <= SMALLER
    assert set(changes(small.neck, row.neck)) <= {'in_channels', 'out_channels', 'start_level'}
    assert not changes(small.train_cfg, row.train_cfg)
    assert not changes(small.test_cfg, row.test_cfg)
