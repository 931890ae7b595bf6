"""Two data sets side by side: does one pose the same assignment problem as the other?"""

import math
from typing import Dict, Iterator, Tuple

import pandas as pd

# What counts as alike: shares and thresholds that differ by at most this much, and numbers of positives that differ by
# at most this fraction of the reference's.
POINTS = 0.05
RELATIVE = 0.2
COLUMNS = ['assigner', 'quantity', 'reference', 'here', 'alike']


def compare_statistics(here: dict, reference: dict) -> pd.DataFrame:
    """Compare what the same sample definitions do over two data sets.

    Args:
        here: what ``atss-plugin stats --json`` gave for one of them.
        reference: what it gave for the other.

    Returns:
        One line per quantity of a sample definition that both have: the columns of ``COLUMNS``. A quantity that has
        no value here, such as the positives of objects of a size that does not occur, is not alike.
    """
    references = {entry['assigner']: entry for entry in reference['assigners']}
    lines = []
    for entry in here['assigners']:
        if entry['assigner'] in references:
            values = dict(_quantities(entry))
            for name, expected in _quantities(references[entry['assigner']]):
                value = values.get(name, math.nan)
                lines.append((entry['assigner'], name, expected, value, _alike(name, value, expected)))
    return pd.DataFrame(lines, columns=COLUMNS)


def to_words(table: pd.DataFrame) -> pd.DataFrame:
    """Return a comparison as words, with what is not alike marked."""

    def word(name: str, value: float) -> str:
        if math.isnan(value):
            return '–'
        return f'{value:.1%}' if name.startswith(('share', 'without')) else f'{value:.2f}'

    return pd.DataFrame(
        {
            'assigner': table['assigner'],
            'quantity': table['quantity'],
            'reference': list(map(word, table['quantity'], table['reference'])),
            'here': list(map(word, table['quantity'], table['here'])),
            '': ['' if alike else 'differs' for alike in table['alike']],
        }
    )


def _quantities(entry: Dict) -> Iterator[Tuple[str, float]]:
    overall = entry['overall']
    for level, share in entry['levels'].items():
        yield f'share of the positives on {level}', share
    yield 'positives per object', overall['positives per ground truth']
    for line in entry['size']:
        yield f'positives per object of size {line["bin"]}', math.nan if line['mean'] is None else line['mean']
    yield 'without a positive', overall['without a positive']
    for name in ('p10', 'median', 'p90'):
        if f'threshold {name}' in overall:
            yield f'threshold, {name}', overall[f'threshold {name}']


def _alike(name: str, value: float, expected: float) -> bool:
    return abs(value - expected) <= (RELATIVE * expected if name.startswith('positives') else POINTS)
