"""A figure per table: AP over what the table varies, the paper's and ours."""

from pathlib import Path
from typing import Dict, List

import pandas as pd

from atss_plugin.analysis.style import GREY, PALETTE, figure

from .paper import Row, Table
from .report import CHANGED, SIZES, SMOKE, TRAINED, compared_data, is_own, ledger_data

# The tables that vary one quantity, ordered by its values.
CURVES = {
    'k': 'k, candidates per pyramid level',
    'scale': 'anchor scale (side / stride)',
    'ratio': 'anchor aspect ratio',
}
# Keeps a number on top of a line readable.
BEHIND = dict(facecolor='white', edgecolor='none', pad=0.5, alpha=0.8)
OURS = PALETTE[0]
UNLIKE = PALETTE[1]
# One for each data set of the ledger.
LEDGER = PALETTE[2:6]


def save_figures(tables: List[Table], report: pd.DataFrame, folder: Path) -> List[Path]:
    """Draw every table: the paper's AP and ours in one panel, results on other data sets in panels of their own.

    Args:
        tables: the tables.
        report: as :func:`build_report` gives it for them.
        folder: receives ``table1.png`` and so on.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in tables:
        lines = report[report['table'] == table.number]
        path = folder / f'table{table.number}.png'
        quantity = next((key for key in CURVES if key in table.rows[0].settings), None)
        if quantity:
            _draw_curve(table, lines, quantity, path)
        elif is_own(lines) and lines['AP'].isna().all() and compared_data(lines):
            _draw_by_size(table, lines, path)
        else:
            _draw_rows(table, lines, path)
        paths.append(path)
    return paths


def _groups(lines: pd.DataFrame):
    """Return the runs that a figure shows, in two groups: those that are the experiment, and those that are not."""
    yield 'trained', OURS, lines[(lines['status'] == TRAINED) & lines['AP'].notna()]
    yield 'trained on other terms', UNLIKE, lines[lines['status'].isin([SMOKE, CHANGED]) & lines['AP'].notna()]


def _ledger_groups(lines: pd.DataFrame):
    """Return data sets of the ledger with a colour and a line for each row that has a result.

    Those on which a single experiment was run are left out if there are others.
    """
    for data, color in zip(compared_data(lines) or ledger_data(lines), LEDGER):
        yield data, color, lines[lines[f'{data} AP'].notna()].drop_duplicates('row')


def _describe(axes, table: Table, has_runs: bool) -> None:
    axes.set_title(table.heading, pad=26)
    axes.legend(loc='lower left', bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, handletextpad=0.4)
    if not has_runs:
        axes.annotate('not trained on COCO', (1, 1.01), xycoords='axes fraction', ha='right', va='bottom', color=GREY)


def _draw_curve(table: Table, lines: pd.DataFrame, quantity: str, path: Path) -> None:
    panels = list(_ledger_groups(lines))
    with figure(1, 1 + len(panels), figsize=(6.4 + 4.6 * len(panels), 3.8), squeeze=False) as (fig, grid):
        axes = grid[0, 0]
        places = {row.id: place for place, row in enumerate(table.rows)}
        paper = [row.paper['AP'] for row in table.rows]
        axes.plot(range(len(paper)), paper, 'o-', color=GREY, markerfacecolor='white', label='paper')
        for place, value in enumerate(paper):
            axes.annotate(
                f'{value:.1f}', (place, value), (0, 7), textcoords='offset points', ha='center', color=GREY, bbox=BEHIND
            )
        for name, color, runs in _groups(lines):
            if len(runs):
                axes.plot(runs['row'].map(places), runs['AP'], 'o', color=color, label=name)
                means = runs.groupby(runs['row'].map(places))['AP'].mean()
                axes.plot(means.index, means, '-', color=color, alpha=0.5)
        axes.set_ylabel('AP (%)')
        _describe(axes, table, has_runs=lines['AP'].notna().any())
        for panel, (data, color, means) in zip(grid[0, 1:], panels):
            where = means['row'].map(places)
            panel.errorbar(where, means[f'{data} AP'], means[f'{data} AP deviation'], fmt='o-', capsize=3, color=color)
            _describe_panel(panel, data, means)
            panel.set_ylabel(f'AP on the {data} (%)')
        for panel in grid[0]:
            panel.set_xticks(range(len(paper)), [str(row.settings[quantity]) for row in table.rows])
            panel.set_xlim(-0.5, len(paper) - 0.5)
            panel.set_xlabel(CURVES[quantity])
            panel.margins(y=0.25)
        fig.tight_layout()
        fig.savefig(path, bbox_inches='tight')


def _describe_panel(axes, data: str, means: pd.DataFrame) -> None:
    low, high = means[f'{data} seeds'].min(), means[f'{data} seeds'].max()
    seeds = f'{low:.0f}' if low == high else f'{low:.0f} to {high:.0f}'
    seeds += ' seed' if high == 1 else ' seeds'
    axes.set_title(f'{data}: mean and standard deviation, {seeds}', pad=8, fontweight='normal')


def _draw_rows(table: Table, lines: pd.DataFrame, path: Path) -> None:
    panels = list(_ledger_groups(lines))
    size = (7.2 + 4.6 * len(panels), 1.3 + 0.36 * len(table.rows))
    with figure(1, 1 + len(panels), figsize=size, squeeze=False, sharey=True) as (fig, grid):
        axes = grid[0, 0]
        places = {row.id: -place for place, row in enumerate(table.rows)}
        paper = {places[row.id]: row.paper['AP'] for row in table.rows if 'AP' in row.paper}
        axes.plot(list(paper.values()), list(paper), 'o', color=GREY, markerfacecolor='white', label='paper')
        for place, value in paper.items():
            axes.annotate(f'{value:.1f}', (value, place), (0, 6), textcoords='offset points', ha='center', color=GREY)
        for name, color, runs in _groups(lines):
            if len(runs):
                axes.plot(runs['AP'], runs['row'].map(places), 'o', color=color, label=name)
        axes.set_yticks(list(places.values()), [_label(row) for row in table.rows])
        axes.set_ylim(min(places.values()) - 0.5, 0.7)
        axes.set_xlabel('AP (%) on test-dev; ours on val2017' if table.number == 8 else 'AP (%)')
        _describe(axes, table, has_runs=lines['AP'].notna().any())
        for panel, (data, color, means) in zip(grid[0, 1:], panels):
            _draw_means(panel, data, 'AP', means, places, color)
            _describe_panel(panel, data, means)
        for panel in grid[0]:
            _style_rows(panel)
        fig.tight_layout()
        fig.savefig(path, bbox_inches='tight')


def _draw_means(axes, data: str, metric: str, means: pd.DataFrame, places: Dict[str, int], color: str) -> None:
    """Draw mean and deviation of a metric on one data set of the ledger, a row per place."""
    where, deviation = means['row'].map(places), means[f'{data} {metric} deviation']
    axes.errorbar(means[f'{data} {metric}'], where, xerr=deviation, fmt='o', capsize=3, color=color)
    axes.set_xlabel(f'{metric} on the {data} (%)')


def _style_rows(axes) -> None:
    axes.tick_params(axis='y', length=0)
    axes.grid(axis='y', visible=False)
    axes.margins(x=0.12)


def _draw_by_size(table: Table, lines: pd.DataFrame, path: Path) -> None:
    """Draw a table that the paper does not have: AP on each data set of the ledger, of all objects and by size."""
    groups = list(_ledger_groups(lines))
    size = (2.0 + 3.0 * (1 + len(SIZES)), (1.0 + 0.34 * len(table.rows)) * len(groups))
    places = {row.id: -place for place, row in enumerate(table.rows)}
    with figure(len(groups), 1 + len(SIZES), figsize=size, squeeze=False, sharey=True) as (fig, grid):
        for panels, (data, color, means) in zip(grid, groups):
            for panel, (metric, objects) in zip(panels, {'AP': 'all objects', **SIZES}.items()):
                _draw_means(panel, data, metric, means, places, color)
                panel.set_title(objects, fontweight='normal')
                _style_rows(panel)
            panels[0].set_yticks(list(places.values()), [_label(row) for row in table.rows])
            panels[0].set_ylim(min(places.values()) - 0.5, 0.5)
        fig.suptitle(f'{table.heading}: mean and standard deviation', x=0.01, ha='left', fontweight='bold')
        fig.tight_layout()
        fig.savefig(path, bbox_inches='tight')


def _label(row: Row) -> str:
    """Return a row in words: those among its settings, or its id if there are none."""
    name = row.id.split('.', 1)[1].replace('_', ' ')
    words = [str(value) for value in row.settings.values() if isinstance(value, str)]
    return ', '.join(words) if words else name
