"""A committed run that is repeated: equal to the last digit, or what differs is named."""

import os

import pytest

from atss_plugin.cli import main, verify
from atss_plugin.experiments import ledger
from atss_plugin.experiments.ledger import expected_hash, read_ledger, write_ledger
from tests.conftest import ROOT
from tests.experiments.helpers import DATA, OVERLAY, line

# A training of a few seconds, with many bad detections.
TINY = f"""
_base_ = '{ROOT}/configs/{OVERLAY}'
model = dict(test_cfg=dict(score_thr=0.0))
train_dataloader = dict(dataset=dict(num_images=16))
val_dataloader = dict(dataset=dict(num_images=4))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = []
"""


@pytest.fixture
def repeated(tmp_path, monkeypatch):
    """What the repetition gives, instead of a training: ``repeated(AP=...)``."""
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    monkeypatch.setattr(verify, 'run_jobs', lambda jobs, stop: None)
    committed = line('t4.k3', 2, 25.6, data=DATA, config=expected_hash(DATA, 't4.k3'), machine='a', threads=3)
    write_ledger([committed], tmp_path / 'runs.jsonl')

    def give(**changes):
        monkeypatch.setattr(verify, 'collect', lambda folders: ([dict(committed, minutes=9.9, **changes)], []))

    give.words = ['verify', 't4.k3', '--seed', '2', '--data', DATA, '--ledger', str(tmp_path / 'runs.jsonl')]
    give.words += ['--work-dirs', str(tmp_path / 'verify')]
    return give


@pytest.mark.parametrize(
    'changes, status, told',
    [
        pytest.param({}, 0, 'equal to the last digit; same commit, machine type and versions', id='equal'),
        pytest.param(
            dict(commit='bada55', torch='3'),
            0,
            'equal to the last digit; not the same as then: commit: c0ffee -> bada55; torch: None -> 3',
            id='equal elsewhere',
        ),
        pytest.param(dict(AP=25.7), 1, 'AP: 25.6 -> 25.7; same commit', id='another result'),
        pytest.param(
            dict(AP=25.7, machine='b'),
            1,
            'AP: 25.6 -> 25.7; not the same as then: machine: a -> b',
            id='another machine',
        ),
        pytest.param(dict(status='failed', AP=None), 1, 'status: finished -> failed', id='failed'),
    ],
)
def test_what_differs_is_told(repeated, capsys, changes, status, told):
    repeated(**changes)
    assert main(repeated.words) == status
    assert told in capsys.readouterr().out
    assert os.environ['OMP_NUM_THREADS'] == '3'  # as many as then


def test_a_seed_is_compared_with_its_run_from_the_same_weights(repeated, tmp_path, capsys, monkeypatch):
    committed = read_ledger(tmp_path / 'runs.jsonl')[0]
    write_ledger([dict(committed, start='a', AP=20.0), dict(committed, start='b')], tmp_path / 'runs.jsonl')
    repeated(start='b')
    monkeypatch.setattr(verify, 'start_hash', lambda cfg: 'b')
    assert main(repeated.words) == 0
    output = capsys.readouterr()
    assert 'equal to the last digit' in output.out and 'the start weights here' not in output.err
    monkeypatch.setattr(verify, 'start_hash', lambda cfg: 'c')  # no run is from these: said before, and in the end
    repeated(start='c')
    assert main(repeated.words) == 1
    output = capsys.readouterr()
    assert 't4.k3 seed 2 on ' in output.err and 'the start weights here are c' in output.err
    assert 'AP: 20.0 -> 25.6; not the same as then: start: a -> c' in output.out


def test_what_cannot_be_repeated_is_an_error(repeated, tmp_path, capsys, monkeypatch):
    repeated()
    assert main([*repeated.words, '--seed', '5']) == 2
    assert 'the ledger has seeds 2 of t4.k3 on ' + DATA in capsys.readouterr().err
    (tmp_path / 'verify').mkdir()
    assert main(repeated.words) == 2 and 'a folder of its own' in capsys.readouterr().err
    (tmp_path / 'verify').rmdir()
    assert main(['verify', '3', *repeated.words[2:]]) == 2
    assert '3 has 5 experiments: give the id of one row' in capsys.readouterr().err
    write_ledger([line('t4.k3', 2, 25.6, data=DATA)], tmp_path / 'runs.jsonl')
    assert main(repeated.words) == 2 and 'with another configuration' in capsys.readouterr().err
    write_ledger(
        [line('t4.k3', 2, 25.6, data=DATA, config=expected_hash(DATA, 't4.k3'), threads=1)],
        tmp_path / 'runs.jsonl',
    )
    monkeypatch.setattr(verify, 'collect', lambda folders: ([], ['there: interrupted']))
    assert main(repeated.words) == 2 and 'did not come to an end: there: interrupted' in capsys.readouterr().err
    write_ledger([dict(read_ledger(tmp_path / 'runs.jsonl')[0], threads='1+2')], tmp_path / 'runs.jsonl')
    assert main(repeated.words) == 2 and 'was resumed with other threads (1+2)' in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_repeats_to_the_last_digit(tmp_path, monkeypatch, capfd):
    overlay = tmp_path / 'tiny.py'
    overlay.write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    for module in (ledger, verify):
        monkeypatch.setattr(module, 'overlay_of', lambda data: str(overlay))
    assert main(['run', 't4.k3', '--seed', '4', '--overlay', str(overlay)]) == 0
    collecting = ['ledger', 'work_dirs', '--ledger', 'runs.jsonl']
    assert main(collecting) == 0 and '1 new of 1 runs that ended' in capfd.readouterr().out
    (committed,) = ledger.read_ledger(tmp_path / 'runs.jsonl')
    assert (committed['data'], committed['experiment'], committed['seed']) == ('tiny', 't4.k3', 4)
    assert committed['status'] == 'finished' and committed['AP'] >= 0 and committed['minutes'] < 5
    assert main(collecting) == 0 and '0 new of 1' in capfd.readouterr().out
    assert main(['verify', 't4.k3', '--seed', '4', '--data', 'tiny', '--ledger', 'runs.jsonl']) == 0
    assert 'equal to the last digit; same commit, machine type and versions' in capfd.readouterr().out
    assert len(list(tmp_path.glob('work_dirs/verify-*/t4.k3/tiny-seed4'))) == 1
