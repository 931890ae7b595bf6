"""The overlays that put the rows on photographs."""

import pytest

from atss_plugin.experiments.overlay import apply_overlay
from atss_plugin.experiments.start import start_files
from tests.configs.test_miniature import load


@pytest.mark.parametrize('name', ['aquarium', 'bccd'])
@pytest.mark.parametrize('row', ['table1/retinanet.py', 'table1/fcos.py'])
def test_the_overlay_brings_data_and_keeps_the_row(name, row, monkeypatch):
    monkeypatch.setenv(f'{name.upper()}_ROOT', '/photographs')
    cfg, plain = apply_overlay(load(row), f'overlays/{name}.py'), load(row)
    assert cfg.model.train_cfg == plain.model.train_cfg and cfg.model.bbox_head.type == plain.model.bbox_head.type
    classes = cfg.train_dataloader.dataset.metainfo.classes
    assert cfg.model.bbox_head.num_classes == len(classes) == len(cfg.val_dataloader.dataset.metainfo.classes)
    assert cfg.val_evaluator.ann_file == '/photographs/val.json' == cfg.test_evaluator.ann_file
    assert cfg.train_dataloader.dataset.data_root == '/photographs' == cfg.val_dataloader.dataset.data_root
    for dataloader in (cfg.train_dataloader, cfg.val_dataloader):
        assert [step.keep_ratio for step in dataloader.dataset.pipeline if step.type == 'Resize'] == [True]
    assert cfg.train_dataloader.batch_sampler.type == 'AspectRatioBatchSampler'
    assert cfg.train_cfg.max_epochs == cfg.train_cfg.val_interval == cfg.param_scheduler[1].T_max
    assert start_files(cfg) == start_files(apply_overlay(load(row), 'miniature_warm.py'))
