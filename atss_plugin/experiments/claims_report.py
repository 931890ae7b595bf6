"""The findings on the claims in words: as a table, as markdown between the markers of a document, as JSON."""

import json
import math
from typing import List, Optional, Sequence

import pandas as pd

from atss_plugin.errors import UsageError

from .claims import EQUAL
from .ledger import ENDED
from .verdicts import (
    CONTRADICTED,
    MIN_EXPERIMENTS,
    NOT_DECIDED,
    NOT_RUN,
    SHOWN,
    ClaimFinding,
    Finding,
    Interval,
    RankCorrelation,
)

BEGIN, END = '<!-- atss-plugin claims: begin -->', '<!-- atss-plugin claims: end -->'
VERDICTS = (SHOWN, NOT_DECIDED, CONTRADICTED, NOT_RUN)
SO_FAR = ' so far'  # of a verdict on fewer pairs than seeds were registered


def summarise(lines: Sequence[dict], found: Sequence[ClaimFinding], data: str) -> str:
    """Return the number of runs and of claims by verdict, in words."""
    runs = [line for line in lines if line['data'] == data]
    if not runs:
        return f'No run on the data set {data} is in the ledger: no claim has been tested.'
    statuses = [line['status'] for line in runs]
    ended = ', '.join(f'{statuses.count(status)} {status}' for status in ENDED if status in statuses)
    commits = ', '.join(sorted({str(line['commit']) for line in runs}))
    verdicts = [_verdict(claim) for claim in found]
    names = [name for verdict in VERDICTS for name in (verdict, verdict + SO_FAR)]
    counts = ', '.join(f'{verdicts.count(name)} {name}' for name in names if name in (*VERDICTS, *verdicts))
    return f'Runs on the data set {data}: {ended}; commit {commits}. Of {len(found)} claims: {counts}.'


def tabulate(found: Sequence[ClaimFinding]) -> pd.DataFrame:
    """Return a line for each claim and, below it, one for each of its comparisons, all strings."""
    lines = []
    for claim in found:
        lines.append(
            {
                'claim': f'{claim.claim.number}. {claim.claim.text}',
                'verdict': _verdict(claim),
                'notes': f'{claim.claim.section}: "{claim.claim.quote}"',
            }
        )
        lines += [_line(finding) for finding in claim.findings]
    columns = ['claim', 'paper', 'ours', 'interval', 'margin', 'pairs', 'verdict', 'notes']
    return pd.DataFrame(lines, columns=columns).fillna('')


def _verdict(claim: ClaimFinding) -> str:
    return claim.verdict + SO_FAR if claim.preliminary and claim.verdict != NOT_RUN else claim.verdict


def _line(finding: Finding) -> dict:
    equal = finding.comparison.kind == EQUAL
    margin = '–' if finding.margin is None else f'±{finding.margin:.2f}'
    return {
        'claim': str(finding.comparison),
        'paper': _difference(*finding.paper, digits=1),
        'ours': _difference(*finding.means, digits=2) if finding.means else '–',
        'interval': _ends(finding.ours, signed=True),
        'margin': margin if equal else '0',
        'pairs': str(len(finding.pairs)),
        'verdict': finding.verdict,
        'notes': '; '.join(finding.notes),
    }


def _difference(first: float, second: float, digits: int) -> str:
    if math.isnan(first - second):  # the paper does not report it
        return '–'
    return f'{first:.{digits}f} - {second:.{digits}f} = {_signed(first - second, digits)}'


def _signed(value: float, digits: int) -> str:
    return f'{round(value, digits) + 0.0:+.{digits}f}'  # + 0.0: no negative zero


def _ends(interval: Optional[Interval], signed: bool = False) -> str:
    if interval is None or math.isnan(interval.low):
        return '–'
    low, high = (_signed(end, 2) if signed else f'{end:.2f}' for end in interval[1:])
    return f'[{low}, {high}]'


def tell_correlation(correlation: RankCorrelation, total: int) -> str:
    """Return the rank correlation in a sentence."""
    run = f'{correlation.experiments} of {total} experiments'
    if correlation.interval is None:
        return f"Rank correlation with the paper's AP: told from {MIN_EXPERIMENTS} experiments on ({run} were run)."
    return (
        f"Rank correlation with the paper's AP (Spearman, {run}): {correlation.interval.mean:.2f}, 95 % interval "
        f'{_ends(correlation.interval)}.'
    )


def to_markdown(summary: str, table: pd.DataFrame, correlation: str) -> str:
    """Return all findings as markdown: the claims with their verdicts, then all comparisons below their claims."""
    table = table.rename(columns={'claim': 'claim, and what is compared', 'interval': '95 % interval'})
    bold = table['pairs'] == ''
    claims = table.loc[bold, [table.columns[0], 'verdict']].to_numpy()
    verdicts = '\n'.join(f'{claim}: **{verdict}**' for claim, verdict in claims)
    for column in (table.columns[0], 'verdict'):
        table[column] = [f'**{text}**' if strong else text for text, strong in zip(table[column], bold)]
    # one space around each cell: a new width would change every line of a committed table
    rows = [table.columns, [':--'] * len(table.columns), *table.to_numpy()]
    text = '\n'.join(f'| {" | ".join(row)} |' for row in rows)
    return f'{summary}\n\n{verdicts}\n\n{text}\n\n{correlation}\n'


def to_json(found: Sequence[ClaimFinding], correlation: RankCorrelation, data: str) -> str:
    """Return all findings as JSON, unrounded."""
    claims = [
        dict(
            number=entry.claim.number,
            claim=entry.claim.text,
            section=entry.claim.section,
            quote=entry.claim.quote,
            verdict=entry.verdict,
            preliminary=entry.preliminary,
            comparisons=[_record(finding) for finding in entry.findings],
        )
        for entry in found
    ]
    ranks = dict(experiments=correlation.experiments, spearman=_interval(correlation.interval))
    return json.dumps(dict(data=data, claims=claims, rank_correlation=ranks), indent=1)


def _record(finding: Finding) -> dict:
    return dict(
        comparison=str(finding.comparison),
        paper=finding.paper,
        means=finding.means,
        ours=_interval(finding.ours),
        pairs=[dict(start=start or None, seed=seed) for start, seed in finding.pairs],
        margin=finding.margin,
        verdict=finding.verdict,
        notes=finding.notes,
    )


def _interval(interval: Optional[Interval]) -> Optional[dict]:
    if interval is None:
        return None
    return {name: None if math.isnan(value) else value for name, value in interval._asdict().items()}


def replace_block(text: str, block: str) -> str:
    """Return a document with the block between its markers replaced.

    Raises:
        UsageError: the document lacks a marker.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f'no block to replace: write the lines {BEGIN} and {END} into the document')
    return f'{before}{begin}\n{block.strip()}\n{end}{after}'


def block_of(text: str) -> str:
    """Return what stands between the markers of a document."""
    lines: List[str] = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    return '\n'.join(lines)
