"""Queues of runs: some at a time, failures, interruptions, and what a folder says about a run that is going on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from atss_plugin.errors import UsageError
from atss_plugin.experiments import load_config, plan_jobs, read_run, run_jobs, select_tables
from atss_plugin.experiments.job import Job, Launch
from atss_plugin.experiments.machine import divide_machine
from atss_plugin.experiments.paper import load_tables
from atss_plugin.experiments.progress import Progress, read_progress
from atss_plugin.experiments.training import Training, stop_trainings
from tests.experiments.test_experiments import fake_run, row


def job(folder: Path, name: str, *lines: str, wanted=None) -> Job:
    """A run that executes lines of Python in place of a training."""
    return Job(row(name), 0, folder / name, ['timeit', '-n', '1', '-r', '1', *lines], wanted or Config())


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.05)


class TestRunJobs:
    def test_a_failure_stops_only_its_own_run(self, tmp_path, capfd):
        jobs = [
            job(tmp_path, 't4.k3', 'raise ValueError("too few [things]")'),
            job(tmp_path, 't4.k5', 'print("ran")'),
        ]
        assert run_jobs(jobs) == [jobs[0]]
        assert jobs[0].problem == 'ValueError: too few [things]' and jobs[0].returncode == 1
        assert jobs[1].problem == '' and jobs[1].returncode == 0
        assert b'ran\n' in (tmp_path / 't4.k5/console.log').read_bytes()
        assert json.loads((tmp_path / 't4.k3/launch.json').read_text())['returncode'] == 1
        assert read_run(tmp_path / 't4.k3').state == 'failed'
        assert 'FAILED t4.k3 seed 0: ValueError: too few [things]' in capfd.readouterr().out

    def test_as_many_at_a_time_as_there_are_places(self, tmp_path):
        """Each of three runs waits until another one is there: alone it would wait in vain."""
        meet = [
            'import os, pathlib, time',
            'here = pathlib.Path(os.environ["MEETING"])',
            '(here / os.environ["PLACE"]).touch()',
            'end = time.time() + 60',
            'while len(list(here.iterdir())) < 2: assert time.time() < end; time.sleep(0.05)',
        ]
        (tmp_path / 'meeting').mkdir()
        places = [dict(PLACE=str(i), MEETING=str(tmp_path / 'meeting')) for i in range(2)]
        jobs = [job(tmp_path, name, *meet) for name in ('t4.k3', 't4.k5', 't4.k7')]
        assert run_jobs(jobs, places) == []
        assert sorted(path.name for path in (tmp_path / 'meeting').iterdir()) == ['0', '1']

    def test_bytes_that_are_not_text_pass(self, tmp_path):
        jobs = [
            job(tmp_path, 't4.k3', 'import sys; sys.stdout.buffer.write(bytes([233, 10])); 1 / 0'),
            job(tmp_path, 't4.k5', 'pass'),
        ]
        assert run_jobs(jobs) == [jobs[0]]
        assert jobs[0].problem == 'ZeroDivisionError: division by zero'
        assert b'\xe9\n' in (tmp_path / 't4.k3/console.log').read_bytes()

    def test_a_killed_run_names_the_signal(self, tmp_path):
        jobs = [job(tmp_path, 't4.k3', 'import os; os.kill(os.getpid(), 9)'), job(tmp_path, 't4.k5', 'pass')]
        assert run_jobs(jobs) == [jobs[0]] and jobs[0].problem == 'killed by SIGKILL'

    def test_a_folder_that_cannot_be_written_to_stops_only_its_own_run(self, tmp_path):
        (tmp_path / 't4.k3').write_text('a file where the folder should be')
        jobs = [job(tmp_path, 't4.k3', 'pass'), job(tmp_path, 't4.k5', 'pass')]
        assert run_jobs(jobs) == [jobs[0]] and 't4.k3' in jobs[0].problem
        assert jobs[1].returncode == 0

    def test_an_interruption_stops_every_process_and_leaves_the_rest_to_do(self, tmp_path):
        sleep = 'import subprocess, sys; subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])'
        jobs = [job(tmp_path, name, sleep) for name in ('t4.k3', 't4.k5', 't4.k7')]

        class Impatient:
            def start(self, job, number, total):
                if number == 2:
                    raise RuntimeError

        with pytest.raises(RuntimeError):
            run_jobs(jobs, [{}, {}], Impatient())
        states = [read_run(job.work_dir) for job in jobs]
        assert [state and state.state for state in states] == ['interrupted', 'interrupted', None]
        assert [job.problem for job in jobs] == ['stopped', 'stopped', '']
        launch = json.loads((jobs[0].work_dir / 'launch.json').read_text())
        assert launch['stopped'] and launch['returncode'] is None
        assert len((jobs[0].work_dir / 'record.jsonl').read_text().splitlines()) == 2  # its minutes are known

    def test_what_ended_before_it_is_stopped_has_ended(self, tmp_path):
        training = Training(job(tmp_path, 't4.k3', '1 / 0'), {})
        training.process.wait()
        stop_trainings([training])
        assert training.job.problem == 'ZeroDivisionError: division by zero' and training.job.returncode == 1
        assert read_run(tmp_path / 't4.k3').state == 'failed'


class TestLock:
    def test_a_second_run_of_a_folder_leaves_it_alone_and_says_so(self, tmp_path, capfd):
        first = Training(job(tmp_path, 't4.k3', 'import time; time.sleep(600)'), {})
        try:
            assert read_run(tmp_path / 't4.k3').state == 'running'
            second = job(tmp_path, 't4.k3', 'pass')
            assert run_jobs([second]) == [] and second.action == 'skip'
            assert f'process {first.process.pid} on {socket.gethostname()}' in second.reason
            assert f'skipped t4.k3 seed 0: {second.reason}' in capfd.readouterr().out
        finally:
            stop_trainings([first])
        assert read_run(tmp_path / 't4.k3').state == 'interrupted'

    def test_it_outlives_the_starter_and_dies_with_the_last_process(self, tmp_path):
        """The starter is killed; what it started lives on as a child's child, until that is killed, too."""
        code = f"""
from pathlib import Path
from tests.experiments.test_queue import job
from atss_plugin.experiments.training import Training
grandchild = 'import os, time; print("pid", os.getpid(), flush=True); time.sleep(600)'
child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {{grandchild!r}}])"
Training(job(Path({str(tmp_path)!r}), 't4.k3', child), {{}}).process.wait()
"""
        starter = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code])
        console = tmp_path / 't4.k3/console.log'
        wait_for(lambda: console.is_file() and 'pid' in console.read_text(), seconds=120)
        starter.kill()
        starter.wait()
        launch = json.loads((tmp_path / 't4.k3/launch.json').read_text())
        os.kill(launch['pid'], signal.SIGKILL)
        assert read_run(tmp_path / 't4.k3').state == 'running'
        os.kill(int(console.read_text().split('pid ')[1].split()[0]), signal.SIGKILL)
        wait_for(lambda: read_run(tmp_path / 't4.k3').state == 'interrupted')

    def test_a_recycled_process_id_is_not_the_run(self, tmp_path):
        fake_run(tmp_path / 'a', 'table4/k3.py', iteration=20000, age=60)
        (tmp_path / 'a/console.log').touch()
        launch = dict(host=socket.gethostname(), pid=os.getpid(), returncode=None)
        (tmp_path / 'a/launch.json').write_text(json.dumps(launch))
        assert read_run(tmp_path / 'a').state == 'interrupted'

    @pytest.mark.parametrize(
        'launch, state',
        [
            pytest.param(dict(returncode=1), 'failed', id='failed'),
            pytest.param(dict(returncode=None, host='another'), 'running', id='fresh log on another machine'),
            pytest.param(dict(returncode=None), 'interrupted', id='fresh log on this machine'),
            pytest.param(dict(returncode=None, host='another', stopped=True), 'interrupted', id='stopped there'),
        ],
    )
    def test_without_a_lock(self, tmp_path, launch, state):
        fake_run(tmp_path / 'a', 'table4/k3.py', iteration=20000, age=60)
        (tmp_path / 'a/launch.json').write_text(json.dumps({'host': socket.gethostname(), 'pid': 1, **launch}))
        assert read_run(tmp_path / 'a').state == state

    def test_what_finished_since_it_was_planned_is_not_run_again(self, tmp_path):
        options = {'train_dataloader.batch_size': 16, 'randomness': dict(seed=0)}
        (planned,) = plan_jobs(select_tables(load_tables(), ['t4.k3']), tmp_path, [0], Launch())
        fake_run(planned.work_dir, 'table4/k3.py', changes=options)
        assert run_jobs([planned]) == [] and (planned.action, planned.reason) == ('skip', 'finished')
        assert planned.returncode is None


class TestDivideMachine:
    @pytest.fixture(autouse=True)
    def four_cores(self, monkeypatch):
        monkeypatch.setattr('atss_plugin.experiments.machine.cores', lambda: 4)
        for name in ('OMP_NUM_THREADS', 'OMP_WAIT_POLICY', 'CUDA_VISIBLE_DEVICES'):
            monkeypatch.delenv(name, raising=False)

    def test_cores(self):
        assert divide_machine(1, 1) == [dict(OMP_WAIT_POLICY='PASSIVE')]
        assert divide_machine(2, 1) == [dict(OMP_WAIT_POLICY='PASSIVE', OMP_NUM_THREADS='2')] * 2
        assert divide_machine(8, 1)[7]['OMP_NUM_THREADS'] == '1'

    def test_what_the_user_set_stays(self, monkeypatch):
        monkeypatch.setenv('OMP_NUM_THREADS', '3')
        monkeypatch.setenv('OMP_WAIT_POLICY', 'ACTIVE')
        assert divide_machine(2, 1) == [{}, {}]

    @pytest.mark.parametrize(
        'runs, gpus, slices',
        [
            (2, 1, ['0', '2']),
            (2, 2, ['0,2', 'GPU-a,5']),
            pytest.param(5, 1, ['0', '2', 'GPU-a', '5', '0'], id='shared'),
        ],
    )
    def test_gpus(self, monkeypatch, runs, gpus, slices):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,2,GPU-a,5')
        assert [place['CUDA_VISIBLE_DEVICES'] for place in divide_machine(runs, gpus)] == slices

    def test_too_few_gpus(self, monkeypatch):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2')
        with pytest.raises(UsageError, match='2 runs of 2 GPUs each need 4 GPUs, and 3 are visible'):
            divide_machine(2, 2)


EPOCH_LINE = (
    '11/25 09:25:06 - mmengine - INFO - Epoch(train)  [2][ 50/250]  lr: 2.0e-04  eta: 0:01:02  time: 0.5  '
    'data_time: 0.07  grad_norm: {loss}  loss: {loss}  loss_cls: {loss}\n'
)
ITER_LINE = (
    '11/25 09:25:06 - mmengine - INFO - Iter(train) [ 5{n:02d}00/90000]  base_lr: 1e-02 lr: 1e-02  '
    'eta: 1 day, 2:03:04  time: 0.5  data_time: 0.07  memory: 5000  loss: {loss}  loss_cls: 0.4\n'
)


class TestProgress:
    def read(self, folder, text, **train_cfg):
        (folder / 'console.log').write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_progress(folder / 'console.log', Config(dict(train_cfg=train_cfg)))

    def test_epochs(self, tmp_path):
        text = 'coco/bbox_mAP: 0.3120  coco/bbox_mAP_50: 0.5\n' + EPOCH_LINE.format(loss=1.2)
        assert self.read(tmp_path, text, max_epochs=6) == Progress(300, 1500, '0:01:02', pytest.approx(31.2))

    def test_iterations_and_losses_that_are_not_numbers(self, tmp_path):
        losses = ['nan', '1.5', 'inf', 'nan']
        text = b'\xe9' + ''.join(ITER_LINE.format(n=n, loss=loss) for n, loss in enumerate(losses)).encode()
        assert self.read(tmp_path, text) == Progress(50300, 90000, '1 day, 2:03:04', None, ('inf', 'nan'))

    def test_nothing_yet(self, tmp_path):
        assert self.read(tmp_path, 'System environment:\n') == Progress()


def diverging(folder: Path, records) -> Path:
    """A run whose log ends with some losses."""
    fake_run(folder, 'table4/k3.py', iteration=20000, changes={'randomness': dict(seed=0)})
    scalars = next(folder.glob('*/vis_data/scalars.json'))
    with open(scalars, 'a') as file:
        file.write('\n' + ''.join(json.dumps(dict(loss=loss, iter=20050 + i)) + '\n' for i, loss in enumerate(records)))
    return folder


class TestDiverged:
    def test_the_last_loss_tells(self, tmp_path):
        nan = float('nan')
        assert read_run(diverging(tmp_path / 'a', [1.0, nan])).state == 'diverged'
        assert read_run(diverging(tmp_path / 'b', [nan, 1.0])).state == 'interrupted'  # as mixed precision may

    def test_it_is_not_trained_on(self, tmp_path):
        diverging(tmp_path / 't4.k3/seed0', [float('inf')])
        options = ['train_dataloader.batch_size=2']
        (job,) = plan_jobs(select_tables(load_tables(), ['t4.k3']), tmp_path, [0], Launch(cfg_options=options))
        assert job.action == 'skip' and job.reason.startswith('diverged at iter 20050')

    def test_a_training_that_prints_no_numbers_is_given_up(self, tmp_path, monkeypatch):
        monkeypatch.setattr('atss_plugin.experiments.queue.LOOK', 0.2)
        lines = ''.join(ITER_LINE.format(n=n, loss='nan') for n in range(3))
        (tmp_path / 'lines').write_text(lines)
        endless = f'print(open({str(tmp_path / "lines")!r}).read(), flush=True); import time; time.sleep(600)'
        jobs = [job(tmp_path, 't4.k3', endless, wanted=load_config('table4/k3.py'))]
        assert run_jobs(jobs) == jobs
        assert jobs[0].problem == 'diverged: the loss is nan at iteration 50200'
