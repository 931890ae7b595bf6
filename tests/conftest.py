"""What all tests share: the order (slow ones last), and how a command line is run."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
MAIN_CONFIG = 'miniature.py'  # what `make train` trains
# the tests' tensors are small: a second thread costs more than it gains
torch.set_num_threads(1)


@contextmanager
def waiting(mode: str):
    """Let torch take it as an 'error', or as the 'default' nothing, when the host waits for a GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def pytest_collection_modifyitems(items):
    first = ('test_golden', 'test_laws')
    items.sort(key=lambda item: (item.get_closest_marker('slow') is not None, not item.path.stem.startswith(first)))


@pytest.fixture(scope='session')
def mmdet_package() -> str:
    """What mim calls mmdet: the name of the distribution that provides it."""
    from atss_plugin.experiments.job import mim_package  # tests of the core need no mmdet

    return mim_package()


@pytest.fixture(scope='session')
def run_python():
    """Run ``python -m WORDS`` in the project folder as a user would, and return the finished process."""

    def run(*words, check=True, **environment):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', *map(str, words)],
            cwd=ROOT,
            env={**os.environ, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0 or not check, done.stdout
        return done

    return run


@pytest.fixture(scope='session')
def tiny_training(tmp_path_factory):
    """The work directory of the main job after 30 iterations of two images: little is learned, much is detected."""
    from mmengine.runner import Runner

    from atss_plugin.experiments import load_config

    work_dir = tmp_path_factory.mktemp('tiny_training')
    changes = dict(
        work_dir=str(work_dir),
        log_level='ERROR',
        experiment_name=work_dir.name,
        visualizer=dict(name=work_dir.name),
        train_dataloader=dict(batch_size=2, dataset=dict(num_images=60)),
        train_cfg=dict(max_epochs=1, val_interval=1),
        val_dataloader=dict(dataset=dict(num_images=2)),
        default_hooks=dict(logger=dict(interval=10), visualization=dict(draw=False)),
    )
    Runner.from_cfg(load_config(MAIN_CONFIG, changes)).train()
    return work_dir
