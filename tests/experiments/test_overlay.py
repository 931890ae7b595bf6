"""Overlays: what a config changes in the paper's final model, changed elsewhere."""

import pytest
from mmengine.config import Config

from atss_plugin.experiments import apply_overlay, load_config
from atss_plugin.experiments.overlay import changes


@pytest.mark.parametrize(
    'new, old, expected',
    [
        pytest.param(dict(a=1, b=2), dict(a=1, b=3), dict(b=2), id='a value'),
        pytest.param(dict(a=None), dict(), dict(a=None), id='a new key, even with None'),
        pytest.param(dict(a=dict(b=1, c=2)), dict(a=dict(b=1, c=3)), dict(a=dict(c=2)), id='within a dict'),
        pytest.param(dict(a=dict(b=1)), dict(a=dict(b=1, c=3)), dict(a=dict(b=1, _delete_=True)), id='a key less'),
        pytest.param(
            dict(a=dict(type='B', b=1)),
            dict(a=dict(type='A', b=1)),
            dict(a=dict(type='B', b=1, _delete_=True)),
            id='another type',
        ),
        pytest.param(dict(a=[1, 2]), dict(a=[1]), dict(a=[1, 2]), id='a list is given whole'),
        pytest.param(dict(a=dict(b=1)), dict(a=7), dict(a=dict(b=1, _delete_=True)), id='a dict for a number'),
        pytest.param(dict(a=dict(b=[1])), dict(a=dict(b=[1])), dict(), id='nothing'),
    ],
)
def test_changes_merged_over_the_old_give_the_new(new, old, expected):
    assert changes(new, old) == expected
    merged = Config(old)
    merged.merge_from_dict(changes(new, old))
    assert merged._cfg_dict.to_dict() == new


def test_a_config_that_inherits_an_overlay_is_one(tmp_path):
    miniature = load_config('miniature.py')
    (tmp_path / 'longer.py').write_text(f'_base_ = {miniature.filename!r}\ntrain_cfg = dict(max_epochs=50)\n')
    row = load_config('table3/fcos_center_sampling.py')
    cfg = apply_overlay(row, str(tmp_path / 'longer.py'))
    assert cfg.train_cfg == {**miniature.train_cfg, 'max_epochs': 50}
    assert cfg.model.backbone == miniature.model.backbone
    assert (
        cfg.model.train_cfg == row.model.train_cfg and cfg.model.bbox_head.bbox_coder == row.model.bbox_head.bbox_coder
    )
    assert row.model.backbone.depth == 50  # its arguments are unchanged


def test_a_config_that_inherits_nothing_sets_what_it_says(tmp_path):
    (tmp_path / 'seed.py').write_text('randomness = dict(seed=4)\n')
    cfg = apply_overlay(load_config('table4/k3.py'), str(tmp_path / 'seed.py'))
    assert cfg.pop('randomness') == dict(seed=4)
    assert cfg._cfg_dict == load_config('table4/k3.py')._cfg_dict
