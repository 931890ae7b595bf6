"""mmengine's checkpoints load under a strict torch, strangers' code does not, and a cut file is explained."""

import zipfile
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version

from atss_plugin import checkpoint_loading, registry  # noqa: F401, its import installs the loader
from atss_plugin.checkpoint_loading import IncompleteCheckpointError

strict = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6'), reason='this torch loads everything by default'
)


def load(path):
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


@pytest.fixture
def checkpoint(tmp_path):
    """What the message hub and a metric leave in a checkpoint of mmengine."""
    path = tmp_path / 'epoch_1.pth'
    history = HistoryBuffer()
    for value, count in ((3.5, 1), (1.25, 2), (0.75, 1)):
        history.update(value, count)
    torch.save(
        dict(
            meta=dict(epoch=1, dataset_meta=dict(classes=('a', 'b'))),
            state_dict=dict(weight=torch.arange(6.0)),
            message_hub=dict(log_scalars={'train/loss': history}, best_score=np.float64(0.5), seen=np.int64(7)),
        ),
        path,
    )
    return path


def rewrite(path, old: bytes, new: bytes):
    """The same checkpoint with other words in its pickle."""
    with zipfile.ZipFile(path) as file:
        contents = {info.filename: file.read(info) for info in file.infolist()}
    assert any(old in content for content in contents.values())
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in contents.items():
            file.writestr(name, content.replace(old, new))


def test_the_history_of_the_losses_comes_back(checkpoint):
    loaded = load(checkpoint)
    torch.testing.assert_close(loaded['state_dict']['weight'], torch.arange(6.0), rtol=0, atol=0)
    history = loaded['message_hub']['log_scalars']['train/loss']
    np.testing.assert_array_equal(history.data[0], [3.5, 1.25, 0.75])
    np.testing.assert_array_equal(history.data[1], [1, 2, 1])
    assert (history.min(), history.max(), history.current()) == (0.75, 3.5, 0.75)
    assert history.mean() == pytest.approx(5.5 / 4)
    assert loaded['message_hub']['best_score'] == 0.5 and loaded['message_hub']['seen'] == 7


@strict
@pytest.mark.parametrize('written', [pytest.param(b'core', id='NumPy 1'), pytest.param(b'_core', id='NumPy 2')])
def test_both_names_of_numpys_module(checkpoint, written):
    here = b'numpy._core' if digit_version(np.__version__) >= digit_version('2.0') else b'numpy.core'
    rewrite(checkpoint, here + b'.multiarray', b'numpy.' + written + b'.multiarray')
    np.testing.assert_array_equal(
        load(checkpoint)['message_hub']['log_scalars']['train/loss'].data[0], [3.5, 1.25, 0.75]
    )


class Payload:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@strict
@pytest.mark.parametrize(
    'payload',
    [
        pytest.param(lambda path: Payload(open, str(path), 'w'), id='a call'),
        pytest.param(lambda path: Payload(getattr, HistoryBuffer, '__init__'), id='a method of HistoryBuffer'),
        pytest.param(lambda path: Payload(getattr, np.ndarray, 'tofile'), id='a method of an array'),
        pytest.param(lambda path: np.array([path], dtype=object), id='an array of objects'),
    ],
)
def test_code_of_strangers_does_not_run(tmp_path, payload):
    path, victim = tmp_path / 'stranger.pth', tmp_path / 'written'
    torch.save(dict(state_dict=payload(victim)), path)
    with pytest.raises(UnpicklingError, match='Weights only load failed'):
        torch.load(path)  # not by mmengine, whose fork turns the safety off
    assert not victim.exists()


@pytest.mark.parametrize(
    'size',
    [
        pytest.param(0, id='empty'),
        pytest.param(3, id='three bytes'),
        pytest.param(500, id='in the middle'),
        pytest.param(-10, id='ten bytes short'),
    ],
)
def test_a_cut_checkpoint_names_the_one_to_continue_from(checkpoint, size):
    cut = checkpoint.with_name('epoch_2.pth')
    cut.write_bytes(checkpoint.read_bytes()[:size])
    with pytest.raises(IncompleteCheckpointError, match=r'epoch_2\.pth \(\d+ bytes\).*Continue from .*epoch_1\.pth'):
        load(cut)
    checkpoint.unlink()
    with pytest.raises(IncompleteCheckpointError, match='No other checkpoint'):
        load(cut)


def test_a_missing_checkpoint_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        load(tmp_path / 'gone.pth')


def test_a_torch_without_safe_globals_loads_as_it_does(checkpoint, monkeypatch):
    seen = []
    monkeypatch.setattr(torch, '__version__', '1.13.1')
    monkeypatch.delattr(torch.serialization, 'safe_globals', raising=False)
    checkpoint_loading.safe_loader(lambda *args: seen.append(args))(str(checkpoint))
    assert seen == [(str(checkpoint), None)]


@strict
def test_loading_leaves_other_permissions_alone(checkpoint):
    """Another library's permission for getattr is still its own after ours was needed."""

    def theirs(owner, name):
        raise AssertionError('not called for our checkpoint')

    with torch.serialization.safe_globals([(theirs, 'builtins.getattr')]):
        before = set(torch.serialization.get_safe_globals())
        assert load(checkpoint)['message_hub']['best_score'] == 0.5
        assert set(torch.serialization.get_safe_globals()) == before
