"""The picture of :class:`AssignmentStatistics`: several sample definitions over one data set."""

from pathlib import Path
from typing import List

import numpy as np
import pandas as pd

from .statistics import BINS, AssignmentStatistics
from .style import GREY, PALETTE, figure

# The paper, Section 4.1: "about 0.2 * kL" positives per object, k = 9 candidates on L = 5 levels.
SHARE_OF_CANDIDATES = 0.2
SIZE_BINS_A_OCTAVE = 2


def save_statistics_figure(statistics: List[AssignmentStatistics], title: str, path: Path, expected: float = 0) -> None:
    """Draw what sample definitions do over a data set.

    Args:
        statistics: one per sample definition.
        title: what it was computed on.
        path: the picture.
        expected: positives per object according to the paper's claim, drawn as a line; 0 draws none.
    """
    with figure(2, 3, figsize=(13.6, 7.6)) as (fig, axes):
        _draw_sizes(axes[0, 0], statistics, expected)
        _draw_means(axes[0, 1], statistics, 'aspect', 'by elongation')
        _draw_means(axes[0, 2], statistics, 'crowdedness', 'by crowdedness')
        _draw_unmatched(axes[1, 0], statistics)
        _draw_levels(axes[1, 1], statistics)
        _draw_thresholds(axes[1, 2], statistics)
        handles, labels = axes[0, 1].get_legend_handles_labels()
        fig.suptitle(title, x=0.012, y=0.995, ha='left', va='top', fontsize=11, fontweight='bold')
        fig.legend(handles, labels, loc='upper left', bbox_to_anchor=(0.005, 0.967), ncols=min(len(labels), 6))
        fig.tight_layout(rect=(0, 0, 1, 0.925), h_pad=2.2, w_pad=2.2)
        fig.savefig(path)


def _draw_sizes(axes, statistics: List[AssignmentStatistics], expected: float) -> None:
    top = 1
    for color, entry in zip(_colors(), statistics):
        octaves = (np.log2(entry.frame['size']) * SIZE_BINS_A_OCTAVE).round() / SIZE_BINS_A_OCTAVE
        # the mean of very few ground truths would look like the mean of many
        few = min(10, len(octaves) // 50)
        groups = entry.frame['positives'].groupby(2 ** octaves[octaves.groupby(octaves).transform('size') > few])
        low, mean, high = groups.quantile(0.1), groups.mean(), groups.quantile(0.9)
        axes.fill_between(mean.index, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(mean.index, mean, color=color, label=entry.label)
        top = max(top, high.max() if len(high) else 1)
    if expected:
        axes.axhline(expected, color=GREY, linestyle='--', linewidth=1)
        axes.annotate(
            f'0.2 kL\n= {expected:g}',
            (1.01, expected),
            xycoords=('axes fraction', 'data'),
            va='center',
            color=GREY,
            fontsize=8,
        )
    axes.set_xscale('log', base=2)
    axes.set_ylim(0, top * 1.08)
    axes.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
    axes.set_xlabel('√area of the ground truth, px of the input')
    axes.set_ylabel('positives per ground truth')
    axes.set_title('Positives by size (mean, 10–90 %)')


def _draw_means(axes, statistics: List[AssignmentStatistics], grouping: str, words: str) -> None:
    for color, entry in zip(_colors(), statistics):
        bins = entry.by(grouping)
        axes.plot(range(len(bins)), bins['mean'], 'o-', color=color, markersize=4, label=entry.label)
    _name_bins(axes, bins, grouping)
    axes.set_ylim(0)
    axes.set_ylabel('positives per ground truth (mean)')
    axes.set_title(f'Positives {words}')


def _draw_unmatched(axes, statistics: List[AssignmentStatistics]) -> None:
    width = 0.8 / len(statistics)
    for place, (color, entry) in enumerate(zip(_colors(), statistics)):
        bins = entry.by('size')
        offsets = np.arange(len(bins)) + (place - (len(statistics) - 1) / 2) * width
        axes.bar(offsets, 100 * bins['unmatched'].fillna(0), width * 0.92, color=color)
    _name_bins(axes, bins, 'size')
    axes.grid(axis='x', visible=False)
    axes.set_ylabel('% of ground truths')
    axes.set_title('Ground truths without a positive')


def _draw_levels(axes, statistics: List[AssignmentStatistics]) -> None:
    width = 0.8 / len(statistics)
    for place, (color, entry) in enumerate(zip(_colors(), statistics)):
        share = entry.level_share()
        offsets = np.arange(len(share)) + (place - (len(statistics) - 1) / 2) * width
        axes.bar(offsets, 100 * share, width * 0.92, color=color)
    axes.set_xticks(range(len(statistics[0].levels)), statistics[0].levels)
    axes.grid(axis='x', visible=False)
    axes.set_ylabel('% of positives')
    axes.set_title('Positives by pyramid level')


def _draw_thresholds(axes, statistics: List[AssignmentStatistics]) -> None:
    drawn = [(color, entry) for color, entry in zip(_colors(), statistics) if 'threshold' in entry.frame]
    axes.set_title('IoU thresholds that ATSS computes')
    axes.set_xlabel('mean + std of the candidates')
    if not drawn:
        axes.annotate(
            'none of these\ncomputes thresholds',
            (0.5, 0.5),
            xycoords='axes fraction',
            ha='center',
            va='center',
            color=GREY,
        )
        axes.set_xticks([])
        axes.set_yticks([])
        return
    for color, entry in drawn:
        threshold = entry.frame['threshold']
        axes.hist(
            threshold,
            bins=np.linspace(0, 1, 51),
            color=color,
            alpha=0.75 if len(drawn) == 1 else 0.45,
            weights=np.full(len(threshold), 100 / max(len(threshold), 1)),
        )
        median = threshold.median()
        axes.axvline(median, color=color, linewidth=1.2)
        if len(drawn) == 1:
            axes.annotate(
                f'median {median:.2f}',
                (median, 1),
                xycoords=('data', 'axes fraction'),
                xytext=(-4, -2),
                textcoords='offset points',
                ha='right',
                va='top',
                color=color,
            )
    axes.set_xlim(0, 0.8)
    axes.set_ylabel('% of ground truths')


def _colors():
    return (*PALETTE, *PALETTE)


def _name_bins(axes, bins: pd.DataFrame, grouping: str) -> None:
    axes.set_xticks(range(len(bins)), list(bins.index), fontsize=8)
    axes.set_xlabel(BINS[grouping][0])
