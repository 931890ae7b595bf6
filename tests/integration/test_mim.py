"""The commands of the README, through ``mim``, on a few embedded images."""

import json

import pytest
import torch
from mmengine.config import Config

pytestmark = pytest.mark.slow

CONFIG = 'configs/miniature.py'
TINY = [
    '--cfg-options',
    'train_dataloader.dataset.num_images=4',
    'val_dataloader.dataset.num_images=2',
    'test_dataloader.dataset.num_images=2',
    'default_hooks.logger.interval=1',
]
K_11 = 'model.train_cfg.assigner.topk=11'


@pytest.fixture(scope='module')
def trained(run_python, mmdet_package, tmp_path_factory):
    """A work directory after one epoch by ``mim train``, k changed on the command line."""
    work_dir = tmp_path_factory.mktemp('work')
    run_python(
        'mim',
        'train',
        mmdet_package,
        CONFIG,
        '--gpus',
        0,
        '--work-dir',
        work_dir,
        *TINY,
        K_11,
        'train_cfg.max_epochs=1',
    )
    return work_dir


def training_log(work_dir):
    """The logged training steps of the newest run."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'))
    return [entry for entry in map(json.loads, newest.read_text().splitlines()) if 'loss' in entry]


def test_train_uses_what_the_command_line_says(trained):
    cfg = Config.fromfile(trained / 'miniature.py')
    assert cfg.model.train_cfg.assigner == dict(type='atss_plugin.ATSSAssigner', topk=11)
    steps = training_log(trained)
    assert len(steps) * cfg.train_dataloader.batch_size >= 4
    for step in steps:
        parts = [step[name] for name in ('loss_cls', 'loss_bbox', 'loss_centerness')]
        assert all(0 < part < 10 for part in parts)
        assert step['loss'] == pytest.approx(sum(parts), rel=1e-5)


def test_test_gives_ap_and_draws(trained, run_python, mmdet_package):
    done = run_python(
        'mim',
        'test',
        mmdet_package,
        CONFIG,
        '--checkpoint',
        trained / 'epoch_1.pth',
        '--gpus',
        0,
        '--work-dir',
        trained,
        '--show-dir',
        'drawn',
        *TINY,
        'model.test_cfg.score_thr=0',
    )  # one epoch finds nothing yet
    assert 'coco/bbox_mAP:' in done.stdout
    assert sorted(path.name for path in trained.glob('*/drawn/*')) == ['000000.png', '000001.png']


def test_resume_goes_on_where_the_training_ended(trained, run_python, mmdet_package):
    before = torch.load(trained / 'epoch_1.pth', weights_only=False)
    run_python(
        'mim',
        'train',
        mmdet_package,
        CONFIG,
        '--gpus',
        0,
        '--work-dir',
        trained,
        '--resume',
        *TINY,
        K_11,
        'train_cfg.max_epochs=2',
    )
    after = torch.load(trained / 'epoch_2.pth', weights_only=False)
    assert (after['meta']['epoch'], after['meta']['iter']) == (2, 2 * before['meta']['iter'])
    assert {step['epoch'] for step in training_log(trained)} == {2}


def test_gridsearch_over_k(run_python, mmdet_package, tmp_path):
    run_python(
        'mim',
        'gridsearch',
        mmdet_package,
        CONFIG,
        '--gpus',
        0,
        '--work-dir',
        tmp_path / 'grid',
        '--search-args',
        '--model.train_cfg.assigner.topk 3 15',
        *TINY,
        'train_cfg.max_epochs=1',
    )
    for k in (3, 15):
        (run,) = tmp_path.glob(f'grid*topk_{k}')
        assert (run / 'epoch_1.pth').is_file()
        (dumped,) = run.glob('*.py')
        assert Config.fromfile(dumped).model.train_cfg.assigner.topk == k
