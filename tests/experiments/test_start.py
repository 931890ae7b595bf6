"""Where all rows of the miniature start, and what is said where that is missing."""

import hashlib
import struct

import pytest
import torch
from mmdet.registry import MODELS

import atss_plugin.registry  # noqa: F401
from atss_plugin.cli import main
from atss_plugin.errors import UsageError
from atss_plugin.experiments import load_config
from atss_plugin.experiments.overlay import apply_overlay
from atss_plugin.experiments.start import check_start, start_files, start_hash

WARM = 'miniature_warm.py'
START = 'work_dirs/miniature_start/epoch_5.pth'


def test_files_that_a_config_starts_from():
    assert start_files(load_config('atss_r50_fpn_1x.py')) == []  # open-mmlab://
    assert [str(path) for path in start_files(load_config(WARM))] == [START]
    options = dict(load_from='elsewhere/best.pth')
    assert [str(path) for path in start_files(load_config('atss_r50_fpn_1x.py', options))] == ['elsewhere/best.pth']


def test_a_missing_start_is_an_error_that_says_how_to_make_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(WARM)
    with pytest.raises(UsageError, match=f'row starts from {START}, which is missing; train it first: mim train '):
        check_start(cfg, 'row')
    assert start_hash(cfg) is None
    with pytest.raises(UsageError, match='row starts from elsewhere/best.pth, which is missing; get it'):
        check_start(load_config('atss_r50_fpn_1x.py', dict(load_from='elsewhere/best.pth')), 'row')

    assert main(['run', 't4.k3', '--overlay', WARM]) == 2
    error = capsys.readouterr().err
    assert 't4.k3' in error and 'miniature_start.py --work-dir work_dirs/miniature_start' in error
    assert list(tmp_path.iterdir()) == []
    assert main(['run', 't4.k3', '--overlay', WARM, '--dry-run']) == 0

    file = tmp_path / START
    file.parent.mkdir(parents=True)
    torch.save(dict(state_dict=dict(b=torch.ones(2), a=torch.tensor(3)), meta=dict(time='now')), file)
    check_start(cfg, 'row')
    content = b'a' + struct.pack('<q', 3) + b'b' + struct.pack('<ff', 1, 1)
    assert start_hash(cfg) == hashlib.sha256(content).hexdigest()[:12]
    torch.save(dict(state_dict=dict(a=torch.tensor(3), b=torch.ones(2)), meta=dict(time='later')), file)
    assert start_hash(cfg) == hashlib.sha256(content).hexdigest()[:12]


@pytest.mark.parametrize('row', ['table1/retinanet.py', 'table1/fcos.py', 'table7/imprs_a9.py'])
def test_every_row_starts_with_its_backbone_and_neck(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = MODELS.build(load_config('miniature_start.py').model)
    start.init_weights()
    (tmp_path / START).parent.mkdir(parents=True)
    torch.save(dict(state_dict=start.state_dict()), tmp_path / START)
    model = MODELS.build(apply_overlay(load_config(row), WARM).model)
    model.init_weights()
    state, expected = model.state_dict(), start.state_dict()
    shared = [name for name in state if name.startswith(('backbone.', 'neck.'))]
    assert len(shared) > 100 and all(torch.equal(state[name], expected[name]) for name in shared)
    tower = 'bbox_head.cls_convs.0.conv.weight'
    assert not torch.equal(state[tower], expected[tower])
