"""What the ledger says about the claims: paired differences with their intervals, verdicts, and a rank correlation.

Legend: n pairs, R rows; AP in percent. Rows of a seed share initial weights and the order of the data, so differences
are taken within a seed, and only between runs that started from the same weights.
"""

from dataclasses import dataclass, field
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pandas as pd
from scipy import stats

from .claims import ABOVE, Claim, Comparison, Registration
from .ledger import FINISHED
from .paper import Table

SHOWN, CONTRADICTED, NOT_DECIDED, NOT_RUN = 'shown', 'contradicted', 'not decided', 'not run'
# Resamples of the rank correlation's bootstrap, and the seed of their choice.
RESAMPLES, BOOTSTRAP_SEED = 9999, 0
MIN_EXPERIMENTS = 10  # fewer ranks say little, and some resamples of them are all one experiment


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass
class Finding:
    """What was found for a comparison.

    Attributes:
        comparison: the comparison.
        paper: both rows in the paper, in percent; NaN where it does not report the metric.
        means: the means of both rows over their pairs; None if there are none.
        ours: our difference; its interval is NaN for a single pair, and it is None without any.
        pairs: start weights ('' for none) and seed of the runs that both rows have.
        margin: of equality; None where none is needed, or none is registered yet.
        verdict: ``SHOWN``, ``CONTRADICTED``, ``NOT_DECIDED`` or ``NOT_RUN``.
        notes: what a reader must know of the data: runs that failed or have no partner, several starts.
    """

    comparison: Comparison
    paper: Tuple[float, float]
    means: Optional[Tuple[float, float]]
    ours: Optional[Interval]
    pairs: List[Tuple[str, int]]
    margin: Optional[float]
    verdict: str
    notes: List[str] = field(default_factory=list)


@dataclass
class ClaimFinding:
    """What was found for a claim."""

    claim: Claim
    verdict: str
    findings: List[Finding]

    @property
    def preliminary(self) -> bool:
        """Whether some comparison has fewer pairs than seeds were registered."""
        return any(len(finding.pairs) < self.claim.seeds for finding in self.findings)


@dataclass
class RankCorrelation:
    """Spearman's correlation of the paper's AP and the mean of ours over the experiments that were run."""

    experiments: int
    interval: Optional[Interval]


def results(lines: Sequence[dict], data: str, metric: str) -> pd.DataFrame:
    """Return the finished runs of a data set: a column for each experiment, NaN where none is.

    There is a row for each start (a hash of the weights, '' for none) and seed.
    """
    finished = [line for line in lines if line['data'] == data and line['status'] == FINISHED]
    frame = pd.DataFrame(finished, columns=['start', 'seed', 'experiment', metric]).fillna({'start': ''})
    return frame.pivot(index=['start', 'seed'], columns='experiment', values=metric).astype(float)


def judge_claims(lines: Sequence[dict], registration: Registration) -> List[ClaimFinding]:
    """Return the findings for every claim.

    Args:
        lines: the ledger.
        registration: the claims.
    """
    frame = results(lines, registration.data, registration.metric)
    ended_early = [line for line in lines if line['data'] == registration.data and line['status'] != FINISHED]
    found = []
    for claim in registration.claims:
        pool = claim.experiments if claim.pooled else []
        findings = [_find(comparison, frame, pool, registration) for comparison in claim.comparisons]
        for finding in findings:
            if 0 < len(finding.pairs) < claim.seeds:
                finding.notes.append(f'{len(finding.pairs)} of {claim.seeds} pairs so far')
            finding.notes += _failures(finding.comparison, ended_early)
        found.append(ClaimFinding(claim, overall([finding.verdict for finding in findings]), findings))
    return found


def _find(comparison: Comparison, frame: pd.DataFrame, pool: Sequence[str], registration: Registration) -> Finding:
    row, other = comparison.row.experiment, comparison.other.experiment
    metric = registration.metric
    paper = (comparison.row.paper.get(metric, np.nan), comparison.other.paper.get(metric, np.nan))
    margin = None if comparison.kind == ABOVE else registration.margin
    frame = frame.reindex(columns=dict.fromkeys([*frame.columns, row, other]))
    both = frame[[row, other]].dropna()
    pairs = list(both.index)
    notes = _unpaired(frame[[row, other]], len(pairs))
    if not pairs:
        return Finding(comparison, paper, None, None, pairs, margin, NOT_RUN, notes)
    # a row joins the pool if it has a run for every pair
    complete = [name for name in pool if name in frame and frame.loc[both.index, name].notna().all()]
    block = frame.loc[both.index, list(dict.fromkeys([row, other, *complete]))]
    ours = block_interval(block.to_numpy(), registration.confidence)
    verdict = judge(comparison.kind, ours, margin)
    starts = {start for start, _ in pairs}
    if len(starts) > 1:
        notes.append(f'pairs from {len(starts)} starts')
    if len(pairs) == 1:
        notes.append('one pair: no interval')
    elif comparison.kind != ABOVE and margin is None:
        notes.append('no margin registered')
    means = (float(both[row].mean()), float(both[other].mean()))
    return Finding(comparison, paper, means, ours, pairs, margin, verdict, notes)


def _unpaired(runs: pd.DataFrame, pairs: int) -> List[str]:
    alone = {name: int(runs[name].notna().sum()) - pairs for name in runs}
    return [f'{name}: {count} unpaired run{"s" * (count > 1)} left out' for name, count in alone.items() if count]


def _failures(comparison: Comparison, ended_early: Sequence[dict]) -> List[str]:
    names = (comparison.row.experiment, comparison.other.experiment)
    return [
        f'{line["experiment"]}: seed {line["seed"]} {line["status"]}'
        for line in ended_early
        if line['experiment'] in names
    ]


def block_interval(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Return the difference of the first two rows in a randomised block design, with its t interval.

    AP = row + seed + rest, the rest normal, independent and of one variance. Of two rows this is the t interval of
    paired differences; further rows only help to estimate the variance.

    Args:
        values: (n, R), R >= 2.
        confidence: of the interval.

    Returns:
        The interval; its ends are NaN for a single pair.
    """
    pairs, rows = values.shape
    mean = float((values[:, 0] - values[:, 1]).mean())
    if pairs < 2:
        return Interval(mean, np.nan, np.nan)
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    freedom = (pairs - 1) * (rows - 1)
    scale = np.sqrt(2 * (rest**2).sum() / freedom / pairs)
    half = stats.t.ppf((1 + confidence) / 2, freedom) * scale
    return Interval(mean, mean - float(half), mean + float(half))


def judge(kind: str, interval: Interval, margin: Optional[float]) -> str:
    """Return the verdict on a comparison; comparisons with NaN are never true, so a single pair decides nothing."""
    low, high = interval.low, interval.high
    if kind == ABOVE:
        return SHOWN if low > 0 else CONTRADICTED if high < 0 else NOT_DECIDED
    if margin is None:
        return NOT_DECIDED
    if -margin < low and high < margin:
        return SHOWN
    return CONTRADICTED if low > margin or high < -margin else NOT_DECIDED


def overall(verdicts: Sequence[str]) -> str:
    """Return the verdict on a claim from those on its comparisons: the gravest of them."""
    return next(verdict for verdict in (CONTRADICTED, NOT_RUN, NOT_DECIDED, SHOWN) if verdict in verdicts)


def correlate_ranks(lines: Sequence[dict], tables: Sequence[Table], data: str, metric: str) -> RankCorrelation:
    """Return Spearman's correlation with the paper over the experiments of Tables 1 to 7 that were run.

    The interval is the 95 % percentile interval of a bootstrap over experiments.
    """
    paper = {row.experiment: row.paper[metric] for table in tables for row in table.rows if metric in row.paper}
    ours = results(lines, data, metric).mean()
    names = [name for name in paper if name in ours.index]
    if len(names) < MIN_EXPERIMENTS:
        return RankCorrelation(len(names), None)
    samples = np.array([paper[name] for name in names]), ours[names].to_numpy()
    ends = stats.bootstrap(
        samples,
        _spearman,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method='percentile',
        random_state=np.random.default_rng(BOOTSTRAP_SEED),
    ).confidence_interval
    return RankCorrelation(len(names), Interval(float(_spearman(*samples)), float(ends.low), float(ends.high)))


def _spearman(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return Spearman's correlation of many samples at once: Pearson's of the ranks, ties sharing theirs."""
    first, second = (stats.rankdata(sample, axis=axis) for sample in (first, second))
    first, second = (ranks - ranks.mean(axis, keepdims=True) for ranks in (first, second))
    return (first * second).sum(axis) / np.sqrt((first**2).sum(axis) * (second**2).sum(axis))
