"""A job array: what its tasks do each time they start, and what Slurm is asked for."""

import time

import pytest

from atss_plugin.cli import main
from atss_plugin.experiments import array, load_tables, plan_jobs, run, select_tables
from atss_plugin.experiments.array import ArrayTask, slurm_parameters, submit_array
from atss_plugin.experiments.job import Launch
from tests.experiments.test_experiments import fake_run

pytest.importorskip('submitit')


@pytest.mark.slow
def test_a_task_looks_first_what_is_left_to_do(tmp_path):
    """Submitted while nothing was there, and started when somebody else had finished the run."""
    launch = Launch(cfg_options=['train_dataloader.batch_size=2'])
    jobs = plan_jobs(select_tables(load_tables(), ['t4.k3', 't4.k5']), tmp_path, [0], launch)
    jobs[1].action = 'skip'
    fake_run(jobs[0].work_dir, 'table4/k3.py', changes={'randomness': dict(seed=0)})
    (task,) = submit_array(jobs, tmp_path, launch, cluster='local', timeout_min=5)
    assert task.result() == 'finished'


def test_a_task_waits_for_a_run_that_only_seems_to_go_on(tmp_path, monkeypatch):
    """The node was lost a minute ago, with the run that it had."""
    task = ArrayTask('t4.k3', 0, tmp_path, Launch(cfg_options=['train_dataloader.batch_size=2']))
    fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', 20000, changes={'randomness': dict(seed=0)}, age=60)
    now, resumed = time.time(), []
    monkeypatch.setattr(array.time, 'sleep', lambda seconds: None)
    monkeypatch.setattr(array, 'run_jobs', lambda jobs, places: resumed.extend(job.action for job in jobs))
    with pytest.raises(RuntimeError, match='t4.k3 seed 0: running, which is not this task'):
        task()
    monkeypatch.setattr(array.time, 'sleep', lambda seconds: monkeypatch.setattr(run.time, 'time', lambda: now + 900))
    assert task() == 'finished' and resumed == ['resume']


def test_the_end_of_the_time_submits_the_same_again(tmp_path):
    task = ArrayTask('t4.k3', 0, tmp_path, Launch())
    assert task.checkpoint().function == task


def test_what_slurm_is_asked_for():
    asked = slurm_parameters('gpu', gpus=8, minutes=60, parallel=3, more=dict(mem='32G'))
    assert asked['gpus_per_node'] == 8 and asked['tasks_per_node'] == 1 and asked['timeout_min'] == 60
    assert asked['slurm_array_parallelism'] == 3
    assert asked['slurm_additional_parameters'] == dict(requeue=True, mem='32G')
    assert 'gpus_per_node' not in slurm_parameters('cpu', gpus=0, minutes=60, parallel=None, more={})


def test_without_slurm_the_error_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('PATH', str(tmp_path))
    words = ['run', 't4.k3', '--launcher', 'slurm', '--array', '--partition', 'p', '--work-dirs', str(tmp_path)]
    assert main(words) == 2
    assert 'error: --launcher slurm --array: ' in capsys.readouterr().err
