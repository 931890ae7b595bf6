"""The ledger's results are shown in the tables and figures apart from the paper's AP."""

import json

import pytest
from matplotlib.figure import Figure

from atss_plugin.cli import main
from atss_plugin.experiments import build_report, load_tables, select_tables
from atss_plugin.experiments.figures import save_figures
from atss_plugin.experiments.ledger import write_ledger
from atss_plugin.experiments.report import report_json, to_markdown
from tests.experiments.helpers import line, lines

LEDGER = [
    *lines(t3__retinanet_atss=(25.0, 26.0), t4__k3=(24.0,)),
    line('t4.k3', 1, status='diverged'),
    line('t4.k5', 0, status='failed'),
]


def cells(text):
    return [[cell.strip() for cell in row.strip('|').split('|')] for row in text.splitlines() if row.startswith('| ')]


def test_mean_deviation_and_seeds_are_next_to_the_papers_ap(tmp_path):
    tables = select_tables(load_tables(), ['t4.k3', 't4.k5', 't4.k7', 't4.k9'])
    report = build_report(tables, tmp_path, LEDGER)
    header, *rows = cells(to_markdown(tables[0], report))
    assert header == ['row', 'k', 'config', 'status', 'seed', 'AP', 'Δ AP', 'miniature']
    assert [(row[5], row[7]) for row in rows] == [
        ('– / 38.0', '24.0 (1, 1 failed)'),
        ('– / 38.8', '– (0, 1 failed)'),
        ('– / 39.1', '–'),
        ('– / 39.3', '25.5 ± 0.7 (2)'),  # of the experiment that Table 3 shows
    ]
    record = json.loads(report_json(report))[3]
    assert record['AP'] is None and record['difference'] is None
    assert record['miniature AP'] == 25.5 and record['miniature AP deviation'] == pytest.approx(0.5**0.5)


def test_a_report_without_results_has_no_such_column(tmp_path):
    tables = select_tables(load_tables(), ['t4.k3', 't4.k7'])
    assert 'miniature' not in to_markdown(tables[0], build_report(tables, tmp_path))
    others = [line('t5.scale5', 0, 25.0)]
    assert 'miniature' not in to_markdown(tables[0], build_report(tables, tmp_path, others))


def test_definitions_beyond_the_paper_are_compared_with_their_baseline_and_by_size(tmp_path):
    tables = select_tables(load_tables(), ['beyond.atss', 'beyond.paa', 'beyond.rfla'])
    ledger = [
        line('t3.retinanet_atss', 0, 25.0, APs=10.0, APm=30.0, APl=41.0),
        line('t3.retinanet_atss', 1, 26.0, APs=12.0, APm=30.0, APl=40.0),
        line('beyond.paa', 0, 25.5, APs=10.0, APm=30.0, APl=41.0),
        line('beyond.paa', 1, 26.7, APs=10.0, APm=30.0, APl=41.0),
        line('beyond.paa', 2, 35.0, APs=10.0, APm=30.0, APl=41.0),  # ATSS has no such seed
        line('t3.retinanet_atss', 0, 50.0, data='other'),  # nothing to compare it with
    ]
    report = build_report(tables, tmp_path, ledger)
    header, atss, paa, rfla = cells(to_markdown(tables[0], report))
    assert header[-5:] == ['miniature', 'miniature Δ', 'miniature APs', 'miniature APm', 'miniature APl']
    assert 'Δ AP' not in header  # there is nothing of the paper to subtract
    assert atss[-5:] == ['25.5 ± 0.7 (2)', '', '11.0 ± 1.4', '30.0 ± 0.0', '40.5 ± 0.7']
    # differences 0.5 and 0.7: their mean, and 12.7 standard errors of 0.1 to either side
    assert paa[-4] == '+0.6 [-0.7, +1.9]' and rfla[-5:] == ['–', '', '–', '–', '–']
    assert report['miniature low'].tolist()[1] == pytest.approx(0.6 - 12.7062 * 0.1, abs=1e-4)
    both = select_tables(load_tables(), ['t3.retinanet_atss', 'beyond.atss', 'beyond.paa'])
    report = build_report(both, tmp_path, ledger)
    assert 'Δ: AP' not in to_markdown(both[0], report[report['table'] == 3])
    single = build_report(tables, tmp_path, ledger[:3])
    assert cells(to_markdown(tables[0], single))[2][-4] == '+0.5'  # one seed has no interval


def test_runs_from_other_weights_are_apart(tmp_path):
    tables = select_tables(load_tables(), ['t4.k3', 't4.k9'])
    ledger = [
        line('t4.k3', 0, 30.0, start='second start'),
        line('t3.retinanet_atss', 0, 25.0, start='first start'),
        line('t3.retinanet_atss', 1, 26.0, start='first start'),
    ]
    header, k3, k9 = cells(to_markdown(tables[0], build_report(tables, tmp_path, ledger)))
    assert header[-2:] == ['miniature@second', 'miniature']
    assert (k3[-2:], k9[-2:]) == (['30.0 (1)', '–'], ['–', '25.5 ± 0.7 (2)'])


def test_data_sets_are_apart(tmp_path):
    tables = select_tables(load_tables(), ['t4.k3'])
    report = build_report(tables, tmp_path, [*LEDGER, line('t4.k3', 0, 50.0, data='bccd')])
    header, row = cells(to_markdown(tables[0], report))
    assert header[-2:] == ['miniature', 'bccd'] and row[-2:] == ['24.0 (1, 1 failed)', '50.0 (1)']


@pytest.mark.parametrize('words', [['4'], ['3']], ids=['curve', 'rows'])
def test_figures_have_a_panel_for_them(tmp_path, monkeypatch, words):
    drawn = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, path, **kwargs: drawn.append(figure))
    tables = select_tables(load_tables(), words)
    save_figures(tables, build_report(tables, tmp_path, LEDGER), tmp_path)
    save_figures(tables, build_report(tables, tmp_path), tmp_path)
    both, alone = drawn
    assert len(alone.axes) == 1 and len(both.axes) == 2
    paper, ours = both.axes
    values = {round(value, 6) for curve in ours.lines for value in (*curve.get_xdata(), *curve.get_ydata())}
    assert 25.5 in values and 39.3 not in values
    values = {round(value, 6) for curve in paper.lines for value in (*curve.get_xdata(), *curve.get_ydata())}
    assert 39.3 in values and 25.5 not in values
    assert 'miniature' in ours.get_title(loc='left') and 'Table' in paper.get_title(loc='left')


def test_a_figure_of_definitions_beyond_the_paper_has_a_panel_per_size(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, path, **kwargs: drawn.append(figure))
    tables = select_tables(load_tables(), ['beyond.atss', 'beyond.paa'])
    ledger = [
        line('t3.retinanet_atss', 0, 25.0, APs=10.0, APm=30.0, APl=41.0),
        line('beyond.paa', 0, 26.0, APs=12.0, APm=31.0, APl=40.0),
        line('beyond.paa', 0, 70.0, APs=70.0, APm=70.0, APl=70.0, data='other'),  # nothing to compare it with
    ]
    save_figures(tables, build_report(tables, tmp_path, ledger), tmp_path)
    panels = {axes.get_title(loc='left'): axes for axes in drawn[0].axes}
    values = {name: {float(x) for curve in axes.lines for x in curve.get_xdata()} for name, axes in panels.items()}
    assert {name: sorted(x for x in found if x == x) for name, found in values.items()} == {
        'all objects': [25.0, 26.0],
        'small': [10.0, 12.0],
        'medium': [30.0, 31.0],
        'large': [40.0, 41.0],
    }


def test_the_command_reads_the_ledger(tmp_path, capsys):
    write_ledger(LEDGER, tmp_path / 'runs.jsonl')
    words = ['tables', 't4.k9', '--work-dirs', str(tmp_path), '--ledger', str(tmp_path / 'runs.jsonl')]
    assert main([*words, '--figures', str(tmp_path / 'figures')]) == 0
    assert '25.5 ± 0.7 (2)' in capsys.readouterr().out
    assert (tmp_path / 'figures/table4.png').read_bytes().startswith(b'\x89PNG')


def test_the_command_shows_the_data_sets_that_are_asked_for(tmp_path, capsys):
    ledger = tmp_path / 'runs.jsonl'
    write_ledger([line('t4.k3', 0, 24.0), line('t4.k3', 0, 50.0, data='bccd')], ledger)
    words = ['tables', 't4.k3', '--work-dirs', str(tmp_path), '--ledger', str(ledger), '--data']
    assert main([*words, 'bccd']) == 0
    out = capsys.readouterr().out
    assert '50.0 (1)' in out and '24.0' not in out
    assert main([*words, 'bccd', 'aquarium']) == 2
    assert 'no run on aquarium; it has bccd, miniature' in capsys.readouterr().err
