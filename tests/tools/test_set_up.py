"""What `make` asks of a machine before it installs anything, and what it shows while mmcv is compiled."""

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT


@pytest.fixture
def check_machine(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    import check_machine

    return check_machine


@pytest.fixture
def compile_mmcv(check_machine):
    import compile_mmcv

    return compile_mmcv


def check(folder, **environment):
    command = [sys.executable, ROOT / 'tools' / 'check_machine.py', folder / 'venv']
    return subprocess.run(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def test_no_compiler(tmp_path):
    done = check(tmp_path, PATH=str(tmp_path), CXX='no-such-compiler')
    assert done.returncode == 1
    assert 'cannot be built here' in done.stderr
    assert 'there is no no-such-compiler' in done.stderr and 'apt install g++' in done.stderr


def test_a_compiler_that_fails(tmp_path):
    compiler = tmp_path / 'broken'
    compiler.write_text('#!/bin/sh\necho this compiler is too old; exit 1\n')
    compiler.chmod(0o755)
    done = check(tmp_path, CXX=str(compiler))
    assert done.returncode == 1
    assert 'does not compile C++17' in done.stderr and 'this compiler is too old' in done.stderr


def test_no_headers_of_python(check_machine, tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', sys.executable)
    monkeypatch.setenv('CC', sys.executable)
    monkeypatch.setattr(check_machine.sysconfig, 'get_path', lambda name: str(tmp_path))
    (problem,) = check_machine.compiler_problems()
    assert "Python's headers are missing" in problem and '-dev' in problem


def test_too_little_of_everything(check_machine, tmp_path, monkeypatch):
    monkeypatch.setattr(check_machine, 'compiler_problems', lambda: [])
    monkeypatch.setattr(check_machine, 'available_memory', lambda: 2**30)
    monkeypatch.setattr(check_machine.shutil, 'disk_usage', lambda path: SimpleNamespace(free=3 * 2**30))
    monkeypatch.setattr(check_machine.sys, 'version_info', (3, 9, 1))
    python, disk, memory = check_machine.problems(tmp_path / 'not' / 'there')
    assert 'Python 3.9.1' in python and 'make PYTHON=' in python
    assert '3.0 GiB are free' in disk and 'VENV=' in disk
    assert '1.0 GiB of memory' in memory


def test_an_environment_of_ones_own_may_have_another_python(check_machine, tmp_path, monkeypatch):
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'python').touch()
    monkeypatch.setattr(check_machine, 'compiler_problems', lambda: [])
    monkeypatch.setattr(check_machine, 'available_memory', lambda: None)
    monkeypatch.setattr(check_machine.shutil, 'disk_usage', lambda path: SimpleNamespace(free=2**40))
    monkeypatch.setattr(check_machine.sys, 'version_info', (3, 9, 1))
    assert not list(check_machine.problems(tmp_path))
    (tmp_path / 'constraints.txt').touch()
    assert len(list(check_machine.problems(tmp_path))) == 1


@pytest.mark.parametrize('cores, gib, jobs', [(2, 23, 2), (16, 9, 4), (8, 1, 1), (4, None, 4)])
def test_jobs_fit_the_cores_and_the_memory(check_machine, monkeypatch, cores, gib, jobs):
    monkeypatch.setattr(check_machine, 'cores', lambda: cores)
    monkeypatch.setattr(check_machine, 'available_memory', lambda: gib and gib * 2**30)
    assert check_machine.jobs() == jobs


OUTPUT = """\
  building 'mmcv._ext' extension
  [1/77] c++ -MMD -MF nms.o.d -c nms.cpp
  warning: [-Wunused] is not progress
  [77/77] c++ -MMD -MF pybind.o.d -c pybind.cpp
"""


def test_progress_of_ninja(compile_mmcv, capsys):
    log = io.StringIO()
    compile_mmcv.show(io.StringIO(OUTPUT), log, '2 at a time')
    assert log.getvalue() == OUTPUT
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith('mmcv: 1 of 77 files compiled (2 at a time)')
    assert last.startswith('mmcv: 77 of 77 files compiled') and 'about 0 min to go' in last


def test_progress_in_numbers(compile_mmcv):
    assert compile_mmcv.progress(20, 80, 240, '2 at a time').split('), ')[1].strip() == '4:00 min, about 12 min to go'


def run_fake_pip(compile_mmcv, folder, monkeypatch, script):
    python = folder / 'python'
    python.write_text('#!/bin/sh\n' + script)
    python.chmod(0o755)
    monkeypatch.setattr(compile_mmcv.sys, 'executable', str(python))
    return compile_mmcv.main(['mmcv==2.1.0'])


def test_flags_and_jobs_of_yours_are_respected(compile_mmcv, tmp_path, monkeypatch):
    say = f'echo "$*|$CFLAGS|$MAX_JOBS|$MMCV_WITH_OPS" >> {tmp_path / "said"}\n'
    monkeypatch.delenv('CFLAGS', raising=False)
    monkeypatch.delenv('MAX_JOBS', raising=False)
    monkeypatch.setattr(compile_mmcv, 'jobs', lambda: 3)
    assert run_fake_pip(compile_mmcv, tmp_path, monkeypatch, say) == 0
    monkeypatch.setenv('CFLAGS', '-O1')
    monkeypatch.setenv('MAX_JOBS', '7')
    assert run_fake_pip(compile_mmcv, tmp_path, monkeypatch, say) == 0
    words = '-m pip install --verbose --no-build-isolation mmcv==2.1.0'
    assert (tmp_path / 'said').read_text().splitlines() == [f'{words}|-g0|3|1', f'{words}|-O1|7|1']


def test_a_build_that_fails_shows_its_end(compile_mmcv, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compile_mmcv.tempfile, 'tempdir', str(tmp_path))
    assert run_fake_pip(compile_mmcv, tmp_path, monkeypatch, 'seq 100; echo fatal error; exit 3\n') == 3
    *shown, last = capsys.readouterr().out.splitlines()
    assert len(shown) == 40 and shown[-1] == 'fatal error'
    (log,) = tmp_path.glob('mmcv-*.log')
    assert str(log) in last and len(log.read_text().splitlines()) == 101
