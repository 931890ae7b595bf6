"""A config that cannot be read: one line that names the file and the line, in every command that reads one."""

import warnings

import pytest

from atss_plugin.cli import main
from atss_plugin.errors import UsageError
from atss_plugin.experiments import load_config

CONFIGS = {
    'syntax.py': 'a = 1\nmodel = dict(\n',
    'raises.py': 'a = 1\n\nb = 1 / 0\n',
    'inherits_syntax.py': "_base_ = './syntax.py'\n",
    'inherits_raising.py': "b = 2\n_base_ = './raises.py'\n",
    'cut_off.json': '{"model": ',
    'latin.py': 'name = "\xe9"\n',
    'part.py': 'optimizer = 3\n',
}
CASES = [
    pytest.param('syntax.py', r'syntax\.py, line 2', id='syntax'),
    pytest.param('raises.py', r'raises\.py, line 3: ZeroDivisionError: division by zero', id='raises'),
    pytest.param('inherits_syntax.py', r'syntax\.py, line 2', id='inherits bad syntax'),
    pytest.param('inherits_raising.py', r'raises\.py, line 3: ZeroDivisionError', id='inherits what raises'),
    pytest.param('cut_off.json', r'cut_off\.json, line 1: JSONDecodeError', id='json'),
    pytest.param('latin.py', r'latin\.py: UnicodeDecodeError', id='not UTF-8'),
    pytest.param('part.py', r'part\.py has no model', id='no model'),
]


@pytest.fixture
def folder(tmp_path):
    for name, text in CONFIGS.items():
        (tmp_path / name).write_bytes(text.encode('latin-1'))
    return tmp_path


@pytest.mark.parametrize('name, message', CASES)
def test_the_file_and_the_line_are_named(folder, name, message):
    with pytest.raises(UsageError, match=message):
        load_config(str(folder / name))


@pytest.mark.parametrize('words', [['flops', '{}'], ['stats', '{}'], ['assign', '{}', '--out', 'nowhere']], ids=str)
def test_every_command_says_it_in_one_line(folder, words, capsys):
    assert main([word.format(folder / 'inherits_raising.py') for word in words]) == 2
    printed = capsys.readouterr().err
    assert printed.count('\n') == 1 and 'raises.py, line 3: ZeroDivisionError' in printed


def test_options_that_do_not_fit():
    with pytest.raises(UsageError, match='--cfg-options do not fit atss_r50_fpn_1x.py: .*depth'):
        load_config('atss_r50_fpn_1x.py', {'model.backbone.depth.x': 1})


def test_no_file_is_left_open():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        load_config('miniature.py')
    assert not [warning for warning in seen if issubclass(warning.category, ResourceWarning)]
