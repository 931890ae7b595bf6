"""Recall over the number of positives, by size and crowdedness."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter

from .misses import GROUPINGS, Misses
from .statistics import BIN_NAMES, BINS
from .style import PALETTE, figure

Z = 1.96  # 95 %
MIN_OBJECTS = 5  # the recall of fewer objects says nothing


def wilson_interval(share: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return Wilson's 95 % interval of shares of ``count`` objects: (2, n), the lower and the upper ends."""
    center = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return np.stack([center - half, center + half])


def save_misses_figure(misses: Misses, title: str, path: Path) -> None:
    """Draw a row for each definition, a column for each grouping; bars are 95 % intervals.

    Groups of fewer than five objects are left out.
    """
    labels = list(misses.learning)
    size = (10.5, 0.7 + 3.0 * len(labels))
    with figure(len(labels), len(GROUPINGS), figsize=size, squeeze=False, sharey=True) as (fig, axes):
        for row, label in zip(axes, labels):
            for panel, grouping in zip(row, GROUPINGS):
                _draw_recall(panel, misses, label, grouping)
            row[0].set_ylabel(f'{label}\nrecall at IoU {misses.iou_thr:g}')
        for panel in axes[-1]:
            panel.set_xlabel('positives of the object (objects in all)')
        fig.suptitle(title, x=0.01, ha='left', fontsize=10.5, fontweight='bold')
        fig.tight_layout(rect=(0, 0, 1, 0.99))
        fig.savefig(path)


def _draw_recall(panel, misses: Misses, label: str, grouping: str) -> None:
    table = misses.recall(label, grouping)
    names = BIN_NAMES[grouping]
    for number, (name, color) in enumerate(zip(names, PALETTE)):
        part = table.loc[name]
        kept = part['ground truths'].to_numpy() >= MIN_OBJECTS
        if not kept.any():
            continue
        place = np.flatnonzero(kept) + 0.08 * (number - (len(names) - 1) / 2)
        share, count = part['recall'].to_numpy(float)[kept], part['ground truths'].to_numpy(float)[kept]
        bars = np.abs(wilson_interval(share, count) - share)
        panel.errorbar(
            place, share, bars, color=color, marker='o', markersize=4, linewidth=1.4, elinewidth=0.9, label=name
        )
    counts = misses.recall(label)['ground truths']
    panel.set_xticks(range(len(counts)), [f'{name}\n({count})' for name, count in counts.items()])
    panel.set_xlim(-0.5, len(counts) - 0.5)
    panel.set_ylim(-0.03, 1.03)
    panel.yaxis.set_major_formatter(PercentFormatter(1))
    panel.set_title(f'by {grouping} ({BINS[grouping][0]})', fontsize=9)
    panel.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1, 1), borderaxespad=0.2)
