"""The miniature poses COCO's assignment problem, except where docs/miniature.md says otherwise."""

import json
import math

import pytest

from atss_plugin.analysis.comparison import compare_statistics, to_words
from atss_plugin.cli import main
from tests.conftest import ROOT

COCO549 = ROOT / 'docs' / 'data' / 'stats_coco549.json'
DEFINITIONS = ('ATSS', 'IoU', 'SSC', 'CenterSampling')
# Objects larger than half of COCO's image are cut to the miniature's image, which is smaller.
UNLIKE = {
    ('IoU', 'positives per object of size ≥ 512'),
    ('CenterSampling', 'positives per object of size ≥ 512'),
}


def entry(positives, share, unmatched=0.0):
    return dict(
        assigner='IoU',
        overall={'positives per ground truth': positives, 'without a positive': unmatched},
        levels={'P3': share, 'P4': 1 - share},
        size=[dict(bin='< 32', mean=positives), dict(bin='≥ 512', mean=None)],
    )


def test_what_is_alike():
    reference = dict(assigners=[entry(10.0, 0.5)])
    table = compare_statistics(dict(assigners=[entry(12.0, 0.54), {**entry(1.0, 1.0), 'assigner': 'ATSS'}]), reference)
    assert set(table['assigner']) == {'IoU'}  # what only one of them has is left out
    alike = dict(zip(table['quantity'], table['alike']))
    assert alike.pop('positives per object of size ≥ 512') is False  # which neither of them has
    assert len(alike) == 5 and all(alike.values())
    table = compare_statistics(dict(assigners=[entry(12.1, 0.56, 0.06)]), reference)
    assert not table['alike'].any()
    words = to_words(table).set_index('quantity')
    assert words.loc['share of the positives on P3'].tolist() == ['IoU', '50.0%', '56.0%', 'differs']
    assert words.loc['positives per object'].tolist() == ['IoU', '10.00', '12.10', 'differs']
    assert words.loc['positives per object of size ≥ 512'].tolist() == ['IoU', '–', '–', 'differs']


@pytest.fixture(scope='module')
def miniature(tmp_path_factory):
    """The statistics of the miniature's training images, in full."""
    out = tmp_path_factory.mktemp('stats')
    words = ['stats', 'miniature.py', '--ambiguity-images', '0', '--out', str(out), '--against', str(COCO549)]
    assert main([*words, '--assigner', *DEFINITIONS]) == 0
    return json.loads((out / 'stats.json').read_text())


@pytest.mark.slow
def test_the_miniature_poses_cocos_assignment_problem(miniature):
    table = compare_statistics(miniature, json.loads(COCO549.read_text()))
    assert set(table['assigner']) == set(DEFINITIONS)
    different = table[~table['alike']]
    assert set(zip(different['assigner'], different['quantity'])) == UNLIKE
    assert not any(map(math.isnan, table['here']))


@pytest.mark.slow
def test_the_table_in_the_documentation_is_this_one(miniature):
    table = to_words(compare_statistics(miniature, json.loads(COCO549.read_text())))
    text = (ROOT / 'docs' / 'miniature.md').read_text(encoding='utf-8')
    for line in table.to_markdown(index=False, disable_numparse=True).splitlines():
        assert line in text
