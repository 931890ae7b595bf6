"""Verdicts on the claims, from ledgers whose verdicts are worked out by hand."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from atss_plugin.cli import main
from atss_plugin.experiments import load_tables
from atss_plugin.experiments.claims import ABOVE, EQUAL, load_claims
from atss_plugin.experiments.claims_report import block_of, tabulate
from atss_plugin.experiments.ledger import read_ledger, write_ledger
from atss_plugin.experiments.verdicts import (
    Interval,
    block_interval,
    correlate_ranks,
    judge,
    judge_claims,
    overall,
)
from tests.conftest import ROOT
from tests.experiments.helpers import line, lines

DATA = load_claims().data  # on which the paper's claims are judged

REGISTERED = """
data: miniature
metric: AP
confidence: 0.95
seeds: 3
margin:
  factor: 2
  limit: 10
  deviation: {{miniature: {deviation}}}
claims:
  - number: 1
    claim: some claim
    section: Section 0
    quote: some words
    pooled: {pooled}
    comparisons: {comparisons}
"""


def register(tmp_path, *comparisons, deviation=0.5, pooled='no'):
    path = tmp_path / 'claims.yml'
    path.write_text(
        REGISTERED.format(
            deviation='null' if deviation is None else deviation, pooled=pooled, comparisons=json.dumps(comparisons)
        )
    )
    return load_claims(path)


def findings(tmp_path, ledger, *comparisons, **kwargs):
    (claim,) = judge_claims(ledger, register(tmp_path, *comparisons, **kwargs))
    return claim


# Three differences d have the interval mean +- 4.3027 * s / sqrt(3): 4.3027 is the quantile of Student's t with two
# degrees of freedom, so s = 0.1 gives +- 0.2484.
HALF = 4.302653 * 0.1 / math.sqrt(3)


@pytest.mark.parametrize(
    'differences, mean, verdict',
    [
        pytest.param((0.2, 0.3, 0.4), 0.3, 'shown', id='above'),
        pytest.param((0.1, 0.2, 0.3), 0.2, 'not decided', id='the interval holds 0'),
        pytest.param((-0.2, -0.3, -0.4), -0.3, 'contradicted', id='below'),
    ],
)
def test_a_difference(tmp_path, differences, mean, verdict):
    # what a seed adds to both rows does not matter
    ledger = lines(t4__k3=(20.0, 22.0, 27.0), t4__k5=[a + b for a, b in zip((20.0, 22.0, 27.0), differences)])
    claim = findings(tmp_path, ledger, 't4.k5 > t4.k3')
    (found,) = claim.findings
    assert found.ours == pytest.approx((mean, mean - HALF, mean + HALF), abs=1e-6)
    assert found.verdict == claim.verdict == verdict
    assert (found.pairs, found.notes, found.margin) == ([('', 0), ('', 1), ('', 2)], [], None)
    assert found.paper == (38.8, 38.0) and found.means == pytest.approx((23 + mean, 23))


@pytest.mark.parametrize(
    'differences, margin, verdict',
    [
        pytest.param((0.0, 0.1, 0.2), 0.4, 'shown', id='inside: -0.15 to 0.35'),
        pytest.param((0.2, 0.3, 0.4), 0.6, 'shown', id='inside though 0 is not: 0.05 to 0.55'),
        pytest.param((0.0, 0.1, 0.2), 0.3, 'not decided', id='across an end'),
        pytest.param((-0.2, -0.3, -0.4), 0.3, 'not decided', id='across the lower end'),
        pytest.param((0.2, 0.3, 0.4), 0.04, 'contradicted', id='above'),
        pytest.param((-0.2, -0.3, -0.4), 0.04, 'contradicted', id='below'),
    ],
)
def test_an_equality(tmp_path, differences, margin, verdict):
    ledger = lines(t4__k3=(20.0, 22.0, 27.0), t4__k5=[a + b for a, b in zip((20.0, 22.0, 27.0), differences)])
    # the margin is the registered factor, 2, times the deviation
    (found,) = findings(tmp_path, ledger, 't4.k5 = t4.k3', deviation=margin / 2).findings
    assert found.margin == pytest.approx(margin) and found.verdict == verdict


def test_nothing_is_equal_without_a_margin(tmp_path):
    ledger = lines(t4__k3=(20.0, 20.0, 20.0), t4__k5=(20.0, 20.0, 20.0))
    (found,) = findings(tmp_path, ledger, 't4.k5 = t4.k3', deviation=None).findings
    assert found.verdict == 'not decided' and found.notes == ['no margin registered']
    assert found.ours == (0, 0, 0)


def test_a_margin_never_exceeds_the_limit(tmp_path):
    assert register(tmp_path, 't4.k5 = t4.k3', deviation=4).margin == 8
    assert register(tmp_path, 't4.k5 = t4.k3', deviation=6).margin == 10


def test_the_photographs_have_three_seeds_and_the_miniature_five():
    seeds = {data: [claim.seeds for claim in load_claims(data=data).claims] for data in (DATA, 'bccd', 'aquarium')}
    assert seeds == {DATA: [5] * 5 + [3] * 5, 'bccd': [3] * 10, 'aquarium': [3] * 10}


def test_unpaired_seeds_are_left_out_and_told(tmp_path):
    ledger = lines(t4__k3=(20.0, 20.0, 20.0, None), t4__k5=(None, 20.3, 20.4, 99.0))
    (found,) = findings(tmp_path, ledger, 't4.k5 > t4.k3').findings
    assert found.pairs == [('', 1), ('', 2)] and found.ours.mean == pytest.approx(0.35)
    # t with one degree of freedom: 12.706 * 0.0707 / sqrt(2)
    assert found.ours.high - found.ours.mean == pytest.approx(12.7062 * 0.1 / 2, abs=1e-5)
    assert found.notes == ['t4.k5: 1 unpaired run left out', 't4.k3: 1 unpaired run left out', '2 of 3 pairs so far']


def test_runs_from_other_weights_are_no_pair(tmp_path):
    ledger = [
        line('t4.k3', 0, 20.0, start='a'),
        line('t4.k5', 0, 20.3, start='a'),
        line('t4.k3', 0, 40.0, start='b'),
        line('t4.k3', 1, 50.0, start='a'),
        line('t4.k5', 1, 60.4, start='b'),
        line('t4.k3', 1, 60.0, start='b'),
    ]
    (found,) = findings(tmp_path, ledger, 't4.k5 > t4.k3').findings
    assert found.pairs == [('a', 0), ('b', 1)] and found.ours.mean == pytest.approx(0.35)
    assert found.notes == ['t4.k3: 2 unpaired runs left out', 'pairs from 2 starts', '2 of 3 pairs so far']
    (found,) = findings(tmp_path, ledger[2:4] + ledger[4:5], 't4.k5 > t4.k3').findings
    assert found.verdict == 'not run'


def test_failed_runs_are_reported_and_have_no_result(tmp_path):
    ledger = [
        *lines(t4__k3=(20.0, 20.0, 20.0), t4__k5=(20.2, 20.3)),
        line('t4.k5', 2, status='diverged'),
        line('t4.k7', 0, status='failed'),
    ]
    (found,) = findings(tmp_path, ledger, 't4.k5 > t4.k3').findings
    assert found.pairs == [('', 0), ('', 1)]
    assert found.notes == ['t4.k3: 1 unpaired run left out', '2 of 3 pairs so far', 't4.k5: seed 2 diverged']


def test_other_data_sets_are_apart(tmp_path):
    ledger = [line('t4.k5', 0, 30.0, data='bccd'), *lines(t4__k3=(20.0,))]
    (found,) = findings(tmp_path, ledger, 't4.k5 > t4.k3').findings
    assert found.verdict == 'not run' and found.ours is None


def test_one_seed_decides_nothing(tmp_path):
    (found,) = findings(tmp_path, lines(t4__k3=(20.0,), t4__k5=(25.0,)), 't4.k5 > t4.k3').findings
    assert found.verdict == 'not decided' and found.notes == ['one pair: no interval', '1 of 3 pairs so far']
    assert found.ours.mean == 5 and math.isnan(found.ours.low)


def test_a_row_that_is_the_same_experiment_shares_its_runs(tmp_path):
    ledger = lines(t3__retinanet_atss=(21.0, 21.1), t4__k3=(20.0, 20.0))
    (found,) = findings(tmp_path, ledger, 't4.k9 > t4.k3').findings
    assert found.pairs == [('', 0), ('', 1)] and str(found.comparison) == 't4.k9 > t4.k3'


@pytest.mark.parametrize(
    'verdicts, expected',
    [
        pytest.param(['shown', 'shown'], 'shown', id='all'),
        pytest.param(['shown', 'not decided'], 'not decided', id='one is open'),
        pytest.param(['shown', 'not run', 'not decided'], 'not run', id='one is missing'),
        pytest.param(['not run', 'contradicted', 'shown'], 'contradicted', id='one is wrong'),
    ],
)
def test_a_claim_of_several_comparisons(verdicts, expected):
    assert overall(verdicts) == expected


def test_a_pair_has_scipys_t_interval_and_the_textbooks():
    first, second = np.random.default_rng(0).normal(size=(2, 7))
    ours = block_interval(np.stack([first, second], 1))
    scipys = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert ours == pytest.approx((np.mean(first - second), scipys.low, scipys.high))
    # 2.446912: Student's t with six degrees of freedom, two-sided 95 %
    half = 2.446912 * math.sqrt(sum((d - ours.mean) ** 2 for d in first - second) / 6) / math.sqrt(7)
    assert ours.high - ours.mean == pytest.approx(half, rel=1e-6)


def test_further_rows_estimate_the_deviation_as_least_squares_does():
    values = np.random.default_rng(1).normal(size=(4, 3))
    seeds, rows = values.shape
    # AP = row + seed: indicators of every row, and of every seed but the first
    design = np.zeros((seeds, rows, rows + seeds - 1))
    for seed in range(seeds):
        for row in range(rows):
            design[seed, row, row] = 1
            if seed:
                design[seed, row, rows + seed - 1] = 1
    design, target = design.reshape(seeds * rows, -1), values.reshape(-1)
    solution, squares, *_ = np.linalg.lstsq(design, target, rcond=None)
    contrast = np.eye(design.shape[1])[0] - np.eye(design.shape[1])[1]
    variance = squares[0] / 6 * (contrast @ np.linalg.inv(design.T @ design) @ contrast)
    half = 2.446912 * math.sqrt(variance)  # (4 - 1) (3 - 1) = 6 degrees of freedom
    expected = contrast @ solution
    assert block_interval(values) == pytest.approx((expected, expected - half, expected + half), rel=1e-6)


def test_pooled_claims_use_their_rows_that_have_the_seeds(tmp_path):
    values = dict(t4__k3=(20.0, 20.5, 21.0), t4__k5=(20.4, 21.1, 21.3), t4__k7=(20.1, 20.2, 21.2), t4__k11=(30.0,))
    claim = findings(tmp_path, lines(**values), 't4.k5 > t4.k3', 't4.k7 > t4.k3', 't4.k11 > t4.k3', pooled='yes')
    block = np.array([values['t4__k5'], values['t4__k3'], values['t4__k7']]).T
    assert claim.findings[0].ours == pytest.approx(block_interval(block))
    alone = findings(tmp_path, lines(**values), 't4.k5 > t4.k3', 't4.k7 > t4.k3').findings[0]
    assert alone.ours == pytest.approx(block_interval(block[:, :2])) and alone.ours != claim.findings[0].ours
    assert claim.findings[2].pairs == [('', 0)]


def test_intervals_cover_what_they_promise():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        # seeds differ by 3, the rest by 1; the true difference is 0.5
        values = rng.normal(scale=3, size=(3, 1)) + rng.normal(size=(3, 4)) + np.array([0.5, 0, 2, -1])
        interval = block_interval(values)
        covered += interval.low < 0.5 < interval.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)  # three standard errors


def test_boundaries_decide_nothing():
    assert judge(ABOVE, Interval(1, 0, 2), None) == 'not decided'
    assert judge(EQUAL, Interval(0, -1, 1), 1) == 'not decided'
    assert judge(EQUAL, Interval(2, 1, 3), 1) == 'not decided'


def test_rank_correlation_is_scipys_and_its_interval_holds_it():
    rng = np.random.default_rng(0)
    tables = [table for table in load_tables() if table.number < 8]
    paper = {row.experiment: row.paper['AP'] for table in tables for row in table.rows}
    values = {name: ap / 2 + rng.normal(size=2) / 2 for name, ap in paper.items()}
    ledger = [line(name, seed, float(ap)) for name, both in values.items() for seed, ap in enumerate(both)]
    found = correlate_ranks(ledger, tables, 'miniature', 'AP')
    assert found.experiments == 33
    expected = stats.spearmanr(list(paper.values()), [both.mean() for both in values.values()]).statistic
    assert found.interval.mean == pytest.approx(expected)
    assert -1 < found.interval.low < expected < found.interval.high < 1
    # Fisher's interval, an approximation of another kind: atanh(r) +- 1.96 sqrt(1.06 / (n - 3))
    half = 1.96 * math.sqrt(1.06 / 30)
    assert found.interval.low == pytest.approx(math.tanh(math.atanh(expected) - half), abs=0.15)
    assert found.interval.high == pytest.approx(math.tanh(math.atanh(expected) + half), abs=0.1)


def test_rank_correlation_of_few_experiments_is_not_run():
    ledger = lines(t4__k3=(1.0,), t4__k5=(2.0,), t4__k7=(3.0,), t4__k11=(4.0,))
    found = correlate_ranks(ledger, load_tables(), 'miniature', 'AP')
    assert (found.experiments, found.interval) == (4, None)


def test_the_registered_claims_are_the_papers():
    registration = load_claims()
    assert [claim.number for claim in registration.claims] == list(range(1, 11))
    for claim in registration.claims:
        for comparison in claim.comparisons:
            difference = comparison.row.paper['AP'] - comparison.other.paper['AP']
            # what the paper calls better is better in its tables, what it calls the same differs by 0.4 at most
            assert difference > 0 if comparison.kind == ABOVE else abs(difference) <= 0.4 + 1e-9
    known = {row.experiment for table in load_tables() if table.number < 8 for row in table.rows}
    judged = {name for claim in registration.claims for name in claim.experiments}
    assert known - judged == {'t4.k5', 't4.k19'}  # neither flat nor said to drop


@pytest.mark.parametrize('text', ['t4.k3 >= t4.k5', 't4.k3 > t4.k4', 't4.k3'])
def test_a_comparison_that_cannot_be_read_is_an_error(tmp_path, text):
    with pytest.raises(ValueError, match='is not `ROW > ROW` or `ROW = ROW`'):
        register(tmp_path, text)


def test_the_command(tmp_path, capsys):
    write_ledger(
        [
            *lines(DATA, t1__retinanet_scalar=(20.0, 20.5, 21.0), t2__ssc_box=(20.9, 21.5, 22.1)),
            line('t4.k3', 0, status='failed', data=DATA),
            line('beyond.paa', 0, 21.0, data=DATA),  # no claim of the paper's
        ],
        tmp_path / 'runs.jsonl',
    )
    words = ['claims', '--ledger', str(tmp_path / 'runs.jsonl')]
    assert main([*words, '--json']) == 0
    claims = {claim['number']: claim for claim in json.loads(capsys.readouterr().out)['claims']}
    first, second = claims[2]['comparisons']
    assert first['verdict'] == 'shown' and first['ours']['mean'] == pytest.approx(1.0)
    assert second['verdict'] == claims[2]['verdict'] == 'not run'

    assert main([*words, '--markdown']) == 0
    text = capsys.readouterr().out
    row = next(part for part in text.splitlines() if part.startswith('| t2.ssc_box > t2.iou_box'))
    assert [cell.strip() for cell in row.strip('|').split('|')] == [
        't2.ssc_box > t2.iou_box',
        '37.8 - 37.0 = +0.8',
        '21.50 - 20.50 = +1.00',
        '[+0.75, +1.25]',
        '0',
        '3',
        'shown',
        '3 of 5 pairs so far',
    ]
    verdict = '2. The spatial and scale constraint is above IoU, from a box and from a point: **not run**'
    assert verdict in text.splitlines() and '10 not run' in text
    assert 'Runs on the data set miniature_warm: 6 finished, 1 failed; commit c0ffee.' in text
    assert main(words) == 0
    assert '[+0.75, +1.25]' in capsys.readouterr().out
    assert main([*words, '--data', 'elsewhere']) == 2
    assert 'data sets are miniature_warm' in capsys.readouterr().err


def test_another_metric_explains_and_is_not_judged(tmp_path, capsys):
    values = dict(APl=(30.0, 31.0, 32.0)), dict(APl=(29.0, 30.0, 31.0))
    ledger = [
        line(name, seed, 20.0, data=DATA, APl=ap)
        for name, metrics in zip(('t3.retinanet_atss', 't1.retinanet_scalar'), values)
        for seed, ap in enumerate(metrics['APl'])
    ]
    write_ledger(ledger, tmp_path / 'runs.jsonl')
    assert main(['claims', '--ledger', str(tmp_path / 'runs.jsonl'), '--metric', 'APl']) == 0
    text = capsys.readouterr().out
    assert '31.00 - 30.00 = +1.00' in text and '51.3 - 48.6 = +2.7' in text
    assert 'nan -' not in text and 'shown' not in text and 'Verdicts are on AP alone' in text


def test_a_verdict_on_fewer_seeds_than_registered_is_preliminary(tmp_path):
    def told(*aps):
        claim = findings(tmp_path, lines(t4__k7=aps, t4__k5=[ap - 1 - ap / 100 for ap in aps]), 't4.k7 > t4.k5')
        return claim.verdict, tabulate([claim])['verdict'].tolist(), tabulate([claim])['notes'][1]

    assert told(20.0, 21.0) == ('shown', ['shown so far', 'shown'], '2 of 3 pairs so far')
    assert told(20.0, 21.0, 22.0) == ('shown', ['shown', 'shown'], '')


def test_the_block_of_a_document_is_renewed_and_the_rest_kept(tmp_path, capsys):
    document = tmp_path / 'evidence.md'
    document.write_text('before\n<!-- atss-plugin claims: begin -->\nstale\n<!-- atss-plugin claims: end -->\nafter\n')
    write_ledger(lines(DATA, t4__k3=(20.0,)), tmp_path / 'runs.jsonl')
    words = ['claims', '--ledger', str(tmp_path / 'runs.jsonl')]
    assert main([*words, '--into', str(document)]) == 0
    text = document.read_text()
    assert text.startswith('before\n<!--') and text.endswith('-->\nafter\n')
    assert 'stale' not in text and 'miniature_warm: 1 finished;' in text
    assert main([*words, '--into', str(document)]) == 0 and document.read_text() == text
    document.write_text('no markers')
    assert main([*words, '--into', str(document)]) == 2 and document.read_text() == 'no markers'


def test_the_committed_ledger_can_be_read():
    read_ledger()


def test_the_verdicts_in_the_documentation_are_those_of_the_ledger(capsys):
    document = ROOT / 'docs' / 'evidence.md'
    assert main(['claims', '--markdown']) == 0
    assert block_of(document.read_text(encoding='utf-8')) == capsys.readouterr().out.strip(), (
        'out of date: atss-plugin claims --into docs/evidence.md'
    )


@pytest.mark.parametrize('data, column', [(DATA, 3), ('bccd', 4)])
def test_the_table_of_photographs_has_the_differences_of_the_ledger(data, column, capsys):
    def rows(text, start):
        return [[cell.strip() for cell in row.split('|')[1:-1]] for row in text.splitlines() if row.startswith(start)]

    document = (ROOT / 'docs' / 'evidence.md').read_text(encoding='utf-8')
    told = rows(
        document.partition('### On photographs')[2].partition('## Verdicts')[0], ('| 1', '| 2', '| 3', '| 4', '| 5')
    )
    assert main(['claims', '--data', data, '--markdown']) == 0
    printed = rows(capsys.readouterr().out, '| t')[: len(told)]
    assert len(told) == len(printed) == 14
    for row, (_, paper, ours, interval, _, _, verdict, _) in zip(told, printed):
        difference = ours.rpartition('= ')[2]
        if verdict in ('shown', 'contradicted'):
            difference = f'**{difference}**'
        assert row[column] == f'{difference} {interval}'
        assert row[2] == paper.rpartition('= ')[2]


def test_the_margin_is_three_deviations_of_the_committed_atss_row():
    registration = load_claims()
    runs = [line for line in read_ledger() if line['data'] == DATA and line['experiment'] == 't3.retinanet_atss']
    # the first start's, which were run before any other row
    reached = [run['AP'] for run in runs if run['start'] == 'b08bda0247d4' and run['seed'] < 5]
    assert len(reached) == 5 and registration.margin == pytest.approx(3 * np.std(reached, ddof=1), abs=3e-4)
