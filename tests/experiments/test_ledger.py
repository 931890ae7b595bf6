"""The ledger: what is recorded of a run, what is collected, and what is never replaced."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from atss_plugin.cli import main
from atss_plugin.experiments import ledger, load_config, record
from atss_plugin.experiments.ledger import collect, expected_hash, line_of, merge, read_ledger, write_ledger
from atss_plugin.experiments.machine import cores
from atss_plugin.experiments.record import config_hash, machine, read_record, record_end, record_start
from tests.conftest import ROOT
from tests.experiments.helpers import DATA, OVERLAY, line, recorded_folder, run_of


def job(folder, action='train', config=None):
    folder.mkdir(parents=True, exist_ok=True)
    wanted = config or Config(dict(a=1))
    return SimpleNamespace(
        work_dir=folder, action=action, seed=3, wanted=wanted, row=SimpleNamespace(experiment='t4.k3')
    )


def test_a_start_records_what_it_is(tmp_path):
    started = job(tmp_path / 'miniature-seed3')
    record_start(started, dict(OMP_NUM_THREADS='1'))
    record_end(started)
    found = read_record(started.work_dir)
    assert {key: found[key] for key in ('data', 'experiment', 'seed', 'threads', 'starts')} == dict(
        data='miniature', experiment='t4.k3', seed=3, threads=1, starts=1
    )
    assert found['config'] == config_hash(started.wanted) and found['minutes'] == 0
    head = subprocess.run(['git', '-C', str(ROOT), 'rev-parse', 'HEAD'], stdout=subprocess.PIPE).stdout.decode()
    assert head.startswith((found['commit'] or '').replace('-dirty', ''))
    for package in ('torch', 'mmengine', 'mmdet', 'mmcv', 'numpy'):
        assert found[package]
    assert read_record(tmp_path) is None


@pytest.mark.parametrize(
    'variables, threads',
    [({'OMP_NUM_THREADS': '4,2'}, 4), ({'OMP_NUM_THREADS': 'many'}, cores()), ({}, cores())],
)
def test_threads_are_those_that_torch_takes(tmp_path, variables, threads):
    record_start(job(tmp_path), variables)
    assert read_record(tmp_path)['threads'] == threads


def test_processors_of_one_name_are_told_apart(monkeypatch):
    found = []
    for level in ('AVX2', 'AVX512'):
        shown = f'PyTorch built with:\n  - CPU capability usage: {level}\n'
        monkeypatch.setattr('torch.__config__.show', lambda shown=shown: shown)
        found.append(machine())
    assert found[0] != found[1] and 'AVX512' in found[1]


def test_starts_that_are_resumed_are_one_run(tmp_path, monkeypatch):
    folder = tmp_path / 'seed3'
    monkeypatch.setattr(record, 'time', SimpleNamespace(time=iter([0, 90, 100, 130]).__next__))
    monkeypatch.setattr(record, 'commit', iter(['one', 'two']).__next__)
    for action in ('train', 'resume'):
        started = job(folder, action)
        record_start(started, {})
        record_end(started)
    found = read_record(folder)
    assert (found['data'], found['starts'], found['minutes']) == ('coco', 2, 2.0)
    assert found['commit'] == 'one+two' and found['seed'] == 3


def test_a_start_that_was_killed_has_no_minutes(tmp_path):
    record_start(job(tmp_path), {})
    resumed = job(tmp_path, 'resume')
    record_start(resumed, {})
    record_end(resumed)
    assert read_record(tmp_path)['minutes'] is None and read_record(tmp_path)['starts'] == 2
    record_start(job(tmp_path), {})  # from the beginning: another run
    assert read_record(tmp_path)['starts'] == 1


@pytest.mark.parametrize(
    'text', ['', '{"ended": 1}\n', '[]\n', '{"started": 1, "a": 2}\n{"ended"', '{"started": "x"}\n{"ended": 1}']
)
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / 'record.jsonl').write_text(text)
    with pytest.raises(ValueError, match='record.jsonl is damaged'):
        read_record(tmp_path)


def evaluated_config(**changes):
    return load_config('table4/k3.py', changes)


def test_a_hash_is_of_what_is_trained_and_not_of_where():
    config = evaluated_config()
    same = [
        {'work_dir': 'elsewhere'},
        {'randomness': dict(seed=7)},
        {'train_pipeline': tuple(config.train_pipeline)},
    ]
    other = [
        {'model.train_cfg.assigner.topk': 5},
        {'train_cfg.max_iters': 10},
        {'train_dataloader.dataset.ann_file': 'annotations/mine.json'},
        {'load_from': 'a.pth'},
    ]
    for changes in same:
        assert config_hash(evaluated_config(**changes)) == config_hash(config)
    hashes = [config_hash(evaluated_config(**changes)) for changes in other]
    assert len({config_hash(config), *hashes}) == 1 + len(other)
    assert config_hash(evaluated_config(load_from='/there/a.pth')) == hashes[-1]


def test_a_hash_does_not_depend_on_the_root_of_the_data():
    def config(root):
        return Config(
            dict(data=dict(data_root=root, ann_file='train.json'), evaluator=dict(ann_file=f'{root}val.json'))
        )

    assert config_hash(config('here/')) == config_hash(config('/mnt/there/')) == config_hash(config('/mnt/there'))
    assert config_hash(config('here/')) != config_hash(
        Config(dict(data=dict(data_root='here/', ann_file='train.json'), evaluator=dict(ann_file='here/test.json')))
    )


def test_a_finished_run_has_a_line(tmp_path):
    found = line_of(run_of(tmp_path), read_record(recorded_folder(tmp_path / 'a')))
    assert found['status'] == 'finished' and found['AP'] == 25.6 and found['AP50'] == 40.0 and found['APs'] is None
    assert (found['experiment'], found['seed'], found['minutes'], found['mmdet']) == ('t4.k3', 0, 1.0, '3')
    # 100 x 0.257 is 25.700000000000003
    assert line_of(run_of(tmp_path, ap=100 * 0.257), read_record(tmp_path / 'a'))['AP'] == 25.7


@pytest.mark.parametrize('state', ['failed', 'diverged'])
def test_a_run_that_did_not_finish_has_a_line_without_results(tmp_path, state):
    found = line_of(run_of(tmp_path, state, measured_at=4), read_record(recorded_folder(tmp_path / 'a')))
    assert found['status'] == state and found['AP'] is None and found['AP50'] is None


def test_a_run_without_detections_failed_and_one_measured_early_is_an_error(tmp_path):
    start = read_record(recorded_folder(tmp_path / 'a'))
    run = run_of(tmp_path)
    run.metrics = {}
    assert line_of(run, start)['status'] == 'failed'
    with pytest.raises(ValueError, match='finished at epoch 8, but last measured at 4: let train_cfg.val_interval'):
        line_of(run_of(tmp_path, measured_at=4), start)


def test_collecting_leaves_out_what_is_not_a_result(tmp_path, monkeypatch):
    states = dict(
        done='finished', going='running', stopped='interrupted', broken='failed', odd='finished', paper='finished'
    )
    wanted = expected_hash(DATA, 't4.k3')
    for number, name in enumerate(states):
        config = 'another' if name == 'odd' else wanted
        data = 'coco' if name == 'paper' else DATA
        recorded_folder(tmp_path / 't4.k3' / name, config=config, seed=number, data=data)
    (tmp_path / 'nothing recorded').mkdir()
    monkeypatch.setattr(ledger, 'read_run', lambda folder: run_of(folder, states[folder.name]))
    lines, left_out = collect([tmp_path, tmp_path / 't4.k3'])
    assert [(found['seed'], found['status']) for found in lines] == [(3, 'failed'), (0, 'finished')]
    assert [Path(note.split(': ')[0]).name for note in left_out] == ['going', 'odd', 'paper', 'stopped']
    assert 'of another configuration' in left_out[1] and 'is not a data set of the ledger' in left_out[2]


def test_what_cannot_be_read_holds_back_no_other_run(tmp_path, monkeypatch):
    for seed, name in enumerate(('damaged', 'early', 'good')):
        recorded_folder(tmp_path / name, config=expected_hash(DATA, 't4.k3'), seed=seed)
    (tmp_path / 'damaged/record.jsonl').write_text('{"data": "mini')
    ends = dict(damaged=8, early=4, good=8)
    monkeypatch.setattr(ledger, 'read_run', lambda folder: run_of(folder, measured_at=ends[folder.name]))
    lines, left_out = collect([tmp_path])
    assert [found['seed'] for found in lines] == [2]
    assert 'record.jsonl is damaged' in left_out[0] and 'early: finished at epoch 8, but last' in left_out[1]


@pytest.mark.parametrize('data', ['../evil', 'evil', '/tmp/evil', ''])
def test_a_data_set_that_a_folder_names_is_never_executed(tmp_path, monkeypatch, data):
    (tmp_path / 'evil.py').write_text('raise SystemExit("executed")')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path if data == 'evil' else tmp_path / 'here')
    recorded_folder(tmp_path / 'w/t4.k3/a', data=data)
    monkeypatch.setattr(ledger, 'read_run', run_of)
    lines, left_out = collect([tmp_path / 'w'])
    assert not lines and 'is not a data set of the ledger' in left_out[0]


def test_the_hash_that_is_expected_is_the_one_of_every_seed(tmp_path):
    from atss_plugin.experiments import load_tables, plan_jobs, select_tables
    from atss_plugin.experiments.job import Launch

    tables = select_tables(load_tables(), ['t4.k3', 't4.k5'])
    jobs = plan_jobs(tables, tmp_path, [0, 5], Launch(overlay=OVERLAY))
    hashes = [config_hash(job.wanted) for job in jobs]
    assert hashes == [expected_hash(DATA, name) for name in ('t4.k3', 't4.k3', 't4.k5', 't4.k5')]
    assert hashes[0] != hashes[2]
    (changed, _) = plan_jobs(tables, tmp_path, [0], Launch(overlay=OVERLAY, cfg_options=['train_cfg.max_epochs=1']))
    assert config_hash(changed.wanted) != hashes[0]
    with pytest.raises(ValueError, match='t4.k4 is not an experiment'):
        expected_hash(DATA, 't4.k4')


def test_merging_twice_changes_nothing():
    first, second = line('t4.k3', 0, 25.0), line('t4.k3', 1, 26.0)
    merged, news = merge([first], [dict(first, minutes=9.0, starts=2), second])
    assert merged == [first, second] and news == ['t4.k3 seed 1 on miniature: finished']
    assert merge(merged, [first, second]) == (merged, [])


@pytest.mark.parametrize(
    'changes',
    [
        pytest.param(dict(AP=25.1), id='another result'),
        pytest.param(dict(config='other'), id='another configuration'),
        pytest.param(dict(commit='bada55'), id='another commit'),
        pytest.param(dict(machine='other'), id='another machine'),
        pytest.param(dict(status='failed', AP=None), id='failed this time'),
    ],
)
def test_a_result_is_never_replaced(changes):
    old = line('t4.k3', 0, 25.0)
    with pytest.raises(ValueError, match='another result for t4.k3 seed 0 on miniature .*it is kept'):
        merge([old], [dict(old, **changes)])


def test_a_failed_run_gives_way_to_its_own_repetition_alone():
    failed, again = line('t4.k3', 0, status='failed'), line('t4.k3', 0, 25.0, starts=2)
    merged, news = merge([failed], [again])
    assert merged == [again] and news == ['t4.k3 seed 0 on miniature: finished, was failed']
    with pytest.raises(ValueError, match='commit: c0ffee -> bada55'):
        merge([failed], [dict(again, commit='bada55')])


def test_a_ledger_is_read_as_it_was_written(tmp_path):
    path = tmp_path / 'folder/runs.jsonl'
    lines = [line('t4.k5', 0, 25.3), line('t4.k3', 1, status='diverged'), line('t4.k3', 0, 0.1 + 0.2)]
    write_ledger(lines, path)
    assert read_ledger(path) == [lines[2], lines[1], lines[0]]  # to the last digit, sorted
    assert len(path.read_text().splitlines()) == 3
    assert read_ledger(tmp_path / 'none yet') == []


def test_damage_of_a_ledger_is_named(tmp_path):
    path = tmp_path / 'runs.jsonl'
    one = line('t4.k3', 0, 25.0)
    path.write_text(json.dumps(one) + '\n{"data": "miniature"}\n')
    with pytest.raises(ValueError, match='runs.jsonl, line 2: not a run'):
        read_ledger(path)
    path.write_text(json.dumps(one) + '\n' + json.dumps(dict(one, AP=26.0)) + '\n')
    with pytest.raises(ValueError, match='two lines for t4.k3 seed 0 on miniature'):
        read_ledger(path)
    with pytest.raises(ValueError, match='these are two experiments'):
        write_ledger([one, line('t4.k3', 1, 25.0, config='other')], path)


def test_a_seed_is_another_run_from_other_weights(tmp_path):
    path = tmp_path / 'runs.jsonl'
    both = [line('t4.k3', 0, 25.0, start='a'), line('t4.k3', 0, 26.0, start='b')]
    merged, news = merge(both[:1], both[1:])
    assert news == ['t4.k3 seed 0 on miniature from b: finished']
    write_ledger([*merged, line('t4.k3', 0, 24.0)], path)  # and one from no file
    assert [entry['start'] for entry in read_ledger(path)] == [None, 'a', 'b']
    with pytest.raises(ValueError, match='two lines for t4.k3 seed 0 on miniature from a'):
        write_ledger([*both, dict(both[0], AP=25.1)], path)


def test_the_command(tmp_path, capsys, monkeypatch):
    recorded_folder(tmp_path / 'w/t4.k3/data-seed0', config=expected_hash(DATA, 't4.k3'))
    recorded_folder(tmp_path / 'w/t4.k3/data-seed1', config='other', seed=1)
    monkeypatch.setattr(ledger, 'read_run', run_of)
    words = ['ledger', str(tmp_path / 'w'), '--ledger', str(tmp_path / 'runs.jsonl')]
    assert main(words) == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        f't4.k3 seed 0 on {DATA} from s: finished',
        '1 new of 1 runs that ended; runs.jsonl has 1',
    ]
    assert 'left out: ' in output.err and 'data-seed1' in output.err
    text = (tmp_path / 'runs.jsonl').read_text()
    assert main(words) == 0 and '0 new of 1' in capsys.readouterr().out
    assert (tmp_path / 'runs.jsonl').read_text() == text
    assert main(['ledger', str(tmp_path / 'nowhere')]) == 2 and 'no such folder' in capsys.readouterr().err
