"""The table of other papers' definitions, next to those of the paper."""

import pytest

from atss_plugin.experiments import build_report, config_root, load_beyond, load_tables, plan_jobs, select_tables
from atss_plugin.experiments.figures import save_figures
from atss_plugin.experiments.job import Launch
from atss_plugin.experiments.ledger import expected_hash
from atss_plugin.experiments.report import to_markdown


def test_every_config_has_a_row_and_every_row_a_config():
    (table,) = load_beyond()
    on_disk = {f'beyond/{path.name}' for path in (config_root() / 'beyond').glob('*.py')}
    own = {row.config for row in table.rows if not row.same_as}
    assert own == on_disk and len(on_disk) == 8
    paper = {row.id: row.config for table in load_tables() for row in table.rows}
    assert {row.same_as: row.config for row in table.rows if row.same_as} == {
        name: paper[name] for name in ('t3.retinanet_atss', 't3.fcos_atss')
    }
    assert not any(row.paper for row in table.rows)  # AP of other heads and losses is not compared with


def test_each_is_compared_with_atss_from_the_same_start():
    (table,) = load_beyond()
    starts = {row.id: row.settings['start'] for row in table.rows}
    for row in table.rows:
        assert (row.baseline is None) == (row.same_as is not None)
        assert row.baseline is None or starts[row.baseline] == row.settings['start']


def test_a_baseline_that_does_not_exist_is_named(tmp_path):
    file = tmp_path / 'tables.yml'
    file.write_text('tables: {beyond: {title: t, rows: [{id: a, config: a.py, baseline: b}]}}')
    with pytest.raises(ValueError, match='a is compared with b, which is not a row of its table'):
        load_tables(file)


@pytest.mark.parametrize(
    'words, expected',
    [
        pytest.param([], 49, id='nothing is the paper'),
        pytest.param(['all'], 49, id='all is the paper'),
        pytest.param(['beyond'], 10, id='beyond'),
        pytest.param(['beyond.paa', 't4.k3'], 2, id='rows of both'),
        pytest.param(['all', 'beyond'], 59, id='both'),
    ],
)
def test_selection(words, expected):
    assert sum(len(table.rows) for table in select_tables(load_tables(), words)) == expected


def test_what_is_unknown_is_named():
    with pytest.raises(ValueError, match='beyond.nothing: no such table or row; tables are 1 to 8 and beyond'):
        select_tables(load_tables(), ['beyond.nothing'])


def test_atss_is_trained_once_for_both():
    jobs = plan_jobs(select_tables(load_tables(), ['t3.retinanet_atss', 'beyond.atss']), config_root(), [0], Launch())
    assert [job.row.experiment for job in jobs] == ['t3.retinanet_atss']


def test_in_miniature_they_differ_in_the_assigner_alone():
    words = ['beyond.paa', 'beyond.atss']
    jobs = plan_jobs(select_tables(load_tables(), words), config_root(), [0], Launch(overlay='miniature.py'))
    paa, atss = sorted((job.wanted.to_dict() for job in jobs), key=lambda cfg: 'ATSS' in str(cfg['model']['train_cfg']))
    assert paa['model'].pop('train_cfg')['assigner']['type'] == 'atss_plugin.PAAAssigner'
    assert atss['model'].pop('train_cfg')['assigner']['type'] == 'atss_plugin.ATSSAssigner'
    assert paa['model'] == atss['model'] and paa['optim_wrapper'] == atss['optim_wrapper']
    assert len(expected_hash('miniature', 'beyond.paa')) == 16


def test_report(tmp_path):
    tables = select_tables(load_tables(), ['beyond'])
    report = build_report(tables, tmp_path)
    text = to_markdown(tables[0], report)
    assert text.startswith('### Beyond the paper. ') and text.count('not run') >= 10
    assert [path.name for path in save_figures(tables, report, tmp_path / 'figures')] == ['tablebeyond.png']
