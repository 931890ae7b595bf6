"""What is in work directories is data: it may be cut off, foreign or hostile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atss_plugin.cli import main
from atss_plugin.errors import UsageError
from atss_plugin.experiments import build_report, load_config, load_tables, plan_jobs, read_run, select_tables
from atss_plugin.experiments.config_text import NotPlainError, read_plain_config
from atss_plugin.experiments.job import Launch
from tests.experiments.test_experiments import METRICS, fake_run, write_checkpoint

OPTIONS = {'train_dataloader.batch_size': 16, 'randomness': dict(seed=0)}


def plan(folder: Path):
    (job,) = plan_jobs(select_tables(load_tables(), ['t4.k3']), folder, [0], Launch())
    return job


def cut(path: Path) -> None:
    """What a full disk or a kill leaves of a file."""
    path.write_bytes(path.read_bytes()[:-40])


class TestKilled:
    """A process may be killed at any point between two lines of mmengine's."""

    def test_while_the_config_is_written(self, tmp_path):
        folder = fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', iteration=300, changes=OPTIONS)
        cut(folder / 'k3.py')
        (folder / 'launch.json').write_text(json.dumps(dict(returncode=None)))
        assert read_run(folder).config is None
        assert plan(tmp_path).action == 'train'

    def test_while_a_checkpoint_is_written(self, tmp_path):
        folder = fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', iteration=52345, changes=OPTIONS)
        write_checkpoint(folder / 'iter_55000.pth')
        cut(folder / 'iter_55000.pth')  # the note of the last one names it, as after a crash of the machine
        job = plan(tmp_path)
        assert job.action == 'resume' and job.resume_from == folder / 'iter_50000.pth'

    def test_between_a_checkpoint_and_the_note_that_it_is_the_last(self, tmp_path):
        folder = fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', iteration=52345, changes=OPTIONS)
        write_checkpoint(folder / 'iter_55000.pth')
        (folder / 'last_checkpoint').write_text('')
        assert plan(tmp_path).resume_from == folder / 'iter_55000.pth'

    def test_while_the_first_checkpoint_is_written(self, tmp_path):
        folder = fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', iteration=5000, changes=OPTIONS, metrics=None)
        cut(folder / 'iter_5000.pth')
        assert read_run(folder).progress == 4999  # as the log says
        assert plan(tmp_path).action == 'train'

    def test_before_the_last_validation(self, tmp_path):
        """All iterations are done, but their AP is not known: the run resumes from the checkpoint before."""
        folder = fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', changes=OPTIONS, metrics=None)
        write_checkpoint(folder / 'iter_85000.pth')
        assert read_run(folder).state == 'interrupted'
        job = plan(tmp_path)
        assert job.action == 'resume' and job.resume_from == folder / 'iter_85000.pth'

    def test_a_record_that_was_cut(self, tmp_path):
        folder = fake_run(tmp_path / 'a', 'table4/k3.py', iteration=20000)
        (folder / 'launch.json').write_text('{"host": "a", "pi')
        assert read_run(folder).launch is None and read_run(folder).state == 'interrupted'


HOSTILE = [
    pytest.param('import os\nos.system("touch {proof}")', id='import'),
    pytest.param('x = __import__("os").system("touch {proof}")', id='call'),
    pytest.param('x = dict(a=[open("{proof}", "w")])', id='call within'),
    pytest.param('x = dict(**open("{proof}", "w"))', id='keywords'),
    pytest.param('_base_ = "evil.py"\nexec(open("evil.py").read())', id='exec'),
    pytest.param("x = f\"{{open('{proof}', 'w')}}\"", id='f-string'),
    pytest.param('x = [open("{proof}", "w") for _ in range(1)]', id='comprehension'),
]


class TestNothingIsExecuted:
    @pytest.mark.parametrize('text', HOSTILE)
    def test_a_foreign_config(self, tmp_path, text, capsys):
        folder = fake_run(tmp_path / 'w/t4.k3/seed0', 'table4/k3.py')
        proof = tmp_path / 'proof'
        (folder / 'k3.py').write_text(text.format(proof=proof))
        with pytest.raises(NotPlainError, match='k3.py, line [12]: '):
            read_plain_config(folder / 'k3.py')
        assert main(['tables', 't4.k3', '--work-dirs', str(tmp_path / 'w')]) == 0
        assert not proof.exists()

    @pytest.mark.parametrize('config', ['table4/k3.py', 'table7/imprs_a9.py', 'table8/atss_r101_fpn_dcn_2x.py'])
    def test_what_mmengine_writes_is_read_as_it_was(self, tmp_path, config):
        cfg = load_config(config, {'odd': {'a b': [(1,), -1.5, None, float('inf'), "it's\n", 1e-5, (), True]}})
        cfg.dump(tmp_path / 'config.py')
        assert read_plain_config(tmp_path / 'config.py')._cfg_dict.to_dict() == cfg._cfg_dict.to_dict()

    def test_odd_values_in_a_foreign_log(self, tmp_path):
        folder = fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', metrics={**METRICS, 'mAP_s': 'text', 'mAP': None})
        with open(next(folder.glob('*/vis_data/scalars.json')), 'a') as file:
            file.write('\n[1]\n"loss"\n{"loss": "text"}\n')
        build_report(select_tables(load_tables(), ['t4.k3']), tmp_path)


class TestCommandLine:
    def test_only_errors_for_users_are_short(self, monkeypatch, capsys):
        def fail(error):
            def run(args):
                raise error

            return run

        monkeypatch.setattr('atss_plugin.cli.tables.run', fail(UsageError('say what to change')))
        assert main(['tables']) == 2
        assert capsys.readouterr().err == 'error: say what to change\n'
        monkeypatch.setattr('atss_plugin.cli.tables.run', fail(ValueError('a defect of ours')))
        with pytest.raises(ValueError, match='a defect of ours'):
            main(['tables'])

    @pytest.mark.slow
    def test_odd_surroundings(self, tmp_path):
        """Without HOME, with a terminal of ASCII, a folder of another alphabet, and a reader that leaves early."""
        folder = tmp_path / 'мои опыты é'
        fake_run(folder / 't4.k3/seed0', 'table4/k3.py')
        environment = {key: value for key, value in os.environ.items() if key != 'HOME'}
        environment.update(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0', COLUMNS='40')
        command = [sys.executable, '-W', 'ignore', '-m', 'atss_plugin', 'tables', '--work-dirs', str(folder)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout.read(300).startswith(b'Table 1')
        process.stdout.close()
        assert process.stderr.read() == b''
        assert process.wait() == 0
