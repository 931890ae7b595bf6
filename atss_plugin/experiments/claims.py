"""The paper's claims as they are registered: comparisons of rows, and the margin within which two are equal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

import yaml

from atss_plugin.errors import UsageError

from .config_files import config_root
from .paper import METRICS, Row, load_tables

ABOVE, EQUAL = '>', '='


@dataclass(frozen=True)
class Comparison:
    """Two rows of the paper's tables, and what is claimed of them.

    Attributes:
        row: the first row.
        kind: ``ABOVE`` or ``EQUAL``.
        other: the row that it is above or equal to.
    """

    row: Row
    kind: str
    other: Row

    def __str__(self) -> str:
        return f'{self.row.id} {self.kind} {self.other.id}'


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes:
        number: its number.
        text: the claim in our words.
        section: where the paper makes it.
        quote: a few words of the paper.
        comparisons: the claim is shown if all of them are.
        seeds: how many seeds are to be run; with fewer, a verdict is preliminary.
        pooled: whether the comparisons share the estimate of the deviation.
    """

    number: int
    text: str
    section: str
    quote: str
    comparisons: List[Comparison]
    seeds: int
    pooled: bool = False

    @property
    def experiments(self) -> List[str]:
        """Return the experiments that the claim is about, each once."""
        rows = [row for comparison in self.comparisons for row in (comparison.row, comparison.other)]
        return list(dict.fromkeys(row.experiment for row in rows))


@dataclass(frozen=True)
class Registration:
    """All claims, and how they are judged on one data set.

    Attributes:
        data: the data set.
        metric: one of ``METRICS``.
        confidence: of the intervals.
        margin: of equality, in percent of AP; None until it is set.
        claims: the claims.
    """

    data: str
    metric: str
    confidence: float
    margin: Optional[float]
    claims: List[Claim]


def load_claims(path: Optional[Path] = None, data: Optional[str] = None) -> Registration:
    """Read ``evidence/claims.yml``.

    Args:
        path: the file; that of the config root if not given.
        data: the data set; the one that decides on the claims if not given.

    Raises:
        UsageError: a comparison that is not ``ROW > ROW`` or ``ROW = ROW``, an unknown metric, or a data set without a
            registered margin.
    """
    path = Path(path or config_root() / 'evidence' / 'claims.yml')
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    rows = {row.id: row for table in load_tables() for row in table.rows}
    if content['metric'] not in METRICS:
        raise UsageError(f'{path}: metric {content["metric"]!r} is not one of {", ".join(METRICS)}')
    data, margin = data or content['data'], content['margin']
    if data not in margin['deviation']:
        raise UsageError(f'no margin is registered for {data!r}; data sets are {", ".join(margin["deviation"])}')
    deviation = margin['deviation'][data]
    claims = [
        Claim(
            number=entry['number'],
            text=entry['claim'],
            section=entry['section'],
            quote=entry['quote'],
            comparisons=[_comparison(text, rows, path) for text in entry['comparisons']],
            seeds=entry.get('seeds', {}).get(data, content['seeds']),
            pooled=entry.get('pooled', False),
        )
        for entry in content['claims']
    ]
    return Registration(
        data=data,
        metric=content['metric'],
        confidence=content['confidence'],
        margin=None if deviation is None else min(margin['factor'] * deviation, margin['limit']),
        claims=claims,
    )


def _comparison(text: str, rows: Dict[str, Row], path: Path) -> Comparison:
    words = text.split()
    if len(words) != 3 or words[1] not in (ABOVE, EQUAL) or not {words[0], words[2]} <= set(rows):
        raise UsageError(f'{path}: {text!r} is not `ROW > ROW` or `ROW = ROW` with ids of paper_tables.yml')
    return Comparison(rows[words[0]], words[1], rows[words[2]])
