"""A training that is killed and resumed ends as if nothing had happened, and the same seed gives the same training."""

import json
import shutil
import signal

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from atss_plugin.checkpoint_loading import IncompleteCheckpointError
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

STEPS, INTERVAL = 12, 3  # of two images; a checkpoint every INTERVAL steps
KILLED_AFTER = 8
CONFIG = f"""
_base_ = '{ROOT}/configs/miniature.py'
custom_imports = dict(imports=['atss_plugin.registry', 'kill_hook'], allow_failed_imports=False)
custom_hooks = [*_base_.custom_hooks, dict(type='KillHook')]
train_dataloader = dict(batch_size=2, dataset=dict(num_images={2 * INTERVAL}, pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(160, 120)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')]))
train_cfg = dict(max_epochs={STEPS // INTERVAL}, val_begin=100)
default_hooks = dict(logger=dict(interval=1))
"""
# The paper's loop: no epochs, an endless stream of images, batches of similar aspect ratio. There a resumed run flips
# different images, so none is flipped. val_begin beyond the last step: measuring 500 images would take minutes.
ITERATIONS = f"""
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={STEPS}, val_begin=100)
train_dataloader.update(
    sampler=dict(type='InfiniteSampler', shuffle=True), batch_sampler=dict(type='AspectRatioBatchSampler'))
train_dataloader['dataset']['pipeline'].pop(3)
default_hooks.update(checkpoint=dict(by_epoch=False, interval={INTERVAL}))
log_processor = dict(by_epoch=False)
"""
KILL_HOOK = """
import os
import signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KillHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == int(os.environ['KILL_AFTER']):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(('', 'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'), id='epochs'),
        pytest.param((ITERATIONS, 'iter_6.pth', 'iter_9.pth', 'iter_12.pth'), id='iterations'),
    ],
)
def experiment(request, tmp_path_factory):
    """A folder with the config and with the hook that ends the process like a power cut; names of the checkpoints."""
    folder = tmp_path_factory.mktemp('interruption')
    loop, *checkpoints = request.param
    (folder / 'config.py').write_text(CONFIG + loop)
    (folder / 'kill_hook.py').write_text(KILL_HOOK)
    return folder, checkpoints


@pytest.fixture(scope='module')
def train(experiment, run_python):
    folder, _ = experiment

    def train(work_dir, *words, kill_after=0, **kwargs):
        return run_python(
            'tools.train',
            folder / 'config.py',
            '--work-dir',
            folder / work_dir,
            *words,
            PYTHONPATH=str(folder),
            KILL_AFTER=str(kill_after),
            **kwargs,
        )

    return train


@pytest.fixture(scope='module')
def uninterrupted(experiment, train):
    train('uninterrupted')
    return experiment[0] / 'uninterrupted'


def losses(work_dir):
    """Step to the logged terms of the loss and the learning rate, from all runs of a work directory."""
    entries = [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    return {
        entry['step']: {name: entry[name] for name in entry if name.startswith('loss') or name == 'lr'}
        for entry in entries
        if 'loss' in entry
    }


def test_killed_and_resumed_equals_uninterrupted(experiment, uninterrupted, train):
    folder, (saved, _, last) = experiment
    killed = train('killed', kill_after=KILLED_AFTER, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (folder / 'killed' / 'last_checkpoint').read_text() == str(folder / 'killed' / saved)
    resumed = train('killed', '--resume')
    assert f'iter: {KILLED_AFTER // INTERVAL * INTERVAL}\n' in resumed.stdout

    ours, reference = (torch.load(run / last, weights_only=False) for run in (folder / 'killed', uninterrupted))
    torch.testing.assert_close(ours['state_dict'], reference['state_dict'], rtol=0, atol=0)
    torch.testing.assert_close(ours['optimizer'], reference['optimizer'], rtol=0, atol=0)
    assert ours['param_schedulers'] == reference['param_schedulers']
    assert len(losses(uninterrupted)) == STEPS
    assert losses(folder / 'killed') == losses(uninterrupted)


def test_a_cut_last_checkpoint_names_the_one_to_resume_from(experiment, uninterrupted, train):
    folder, (_, previous, last) = experiment
    shutil.copytree(uninterrupted, folder / 'cut')
    cut = folder / 'cut' / last
    cut.write_bytes(cut.read_bytes()[:100_000])
    (folder / 'cut' / 'last_checkpoint').write_text(str(cut))
    failed = train('cut', '--resume', check=False)
    assert failed.returncode == 1
    assert IncompleteCheckpointError.__name__ in failed.stdout
    assert f'Continue from {folder}/cut/{previous}' in failed.stdout


def test_same_seed_same_losses(tmp_path):
    """Twenty steps with everything that is random: the initial weights, the order of the images, the flips."""

    def run(name, seed):
        cfg = Config.fromfile(ROOT / 'configs' / 'miniature.py')
        cfg.merge_from_dict(
            dict(
                work_dir=str(tmp_path / name),
                experiment_name=name,
                visualizer=dict(name=name),
                log_level='ERROR',
                randomness=dict(seed=seed),
                train_dataloader=dict(batch_size=1, dataset=dict(num_images=5)),
                train_cfg=dict(max_epochs=4, val_begin=100),
                default_hooks=dict(logger=dict(interval=1), checkpoint=dict(interval=100)),
            )
        )
        cfg.train_dataloader.dataset.pipeline[2].scale = (160, 120)
        Runner.from_cfg(cfg).train()
        return [step['loss'] for step in losses(tmp_path / name).values()]

    first, second, other = run('first', 3), run('second', 3), run('other', 4)
    assert len(first) == 20
    assert first == second
    assert first != other
