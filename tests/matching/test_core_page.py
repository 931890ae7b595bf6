"""The code of docs/core.md runs where nothing but torch can be imported, and prints what the page says."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PAGE = ROOT / 'docs' / 'core.md'
BLOCKED = 'import sys\nfor name in ("mmcv", "mmdet", "mmengine"):\n    sys.modules[name] = None\n'


@pytest.mark.slow
def test_the_code_of_the_page():
    page = PAGE.read_text(encoding='utf-8')
    (code,) = re.findall(r'^```python\n(.*?)^```', page, flags=re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', BLOCKED + code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert f'This prints `{done.stdout.strip()}`' in page


def test_the_call_of_an_assigner_goes_on_from_there(capsys):
    call = r'^```python\n(from atss_plugin import ATSSAssigner\n.*?)^```'
    page = (ROOT / 'docs' / 'using_an_assigner.md').read_text(encoding='utf-8')
    names = {}
    for text, pattern in ((PAGE.read_text(encoding='utf-8'), r'^```python\n(.*?)^```'), (page, call)):
        (code,) = re.findall(pattern, text, flags=re.DOTALL | re.MULTILINE)
        exec(code, names)
    assert names['result'].gt_inds.equal(names['assignment'].gt_inds[0])
