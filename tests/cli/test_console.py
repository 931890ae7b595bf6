"""Tables on the terminal: nothing is cut, and brackets stay."""

import pandas as pd
import pytest

from atss_plugin.cli import main
from atss_plugin.cli.console import print_tables


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv('COLUMNS', '40')


def test_brackets_are_no_markup(capsys):
    cells = pd.DataFrame({'IoU [fcos]': ['[-0.2, 0.1]']}, index=['ATSS by predictions [bold], all options'])
    print_tables('Images [train]', {'Totals [all]': cells})
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 7  # no cell is wrapped
    for text in ('Images [train]', 'Totals [all]', 'IoU [fcos]', '[-0.2, 0.1]', 'predictions [bold], all'):
        assert text in printed


def test_the_widest_table_is_printed_whole(capsys):
    assert main(['tables', '7', '8']) == 0
    printed = capsys.readouterr().out
    assert '…' not in printed
    assert 'table8/atss_x101_32x8d_fpn_dcn_2x_ms.py' in printed and '– / 62.4' in printed
