"""What all tests share: the order (slow ones last), and how a command line is run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# the tests' tensors are small: a second thread costs more than it brings
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    first = ('test_golden', 'test_laws')
    items.sort(key=lambda item: (item.get_closest_marker('slow') is not None, not item.path.stem.startswith(first)))


@pytest.fixture(scope='session')
def mmdet_package() -> str:
    """What mim calls mmdet: the name of the distribution that brings it."""
    from atss_plugin.experiments.job import mim_package  # tests of the core need no mmdet

    return mim_package()


@pytest.fixture(scope='session')
def run_python():
    """Runs ``python -m WORDS`` in the project folder as a user would and return the finished process."""

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
