"""A figure a table: AP over what the table varies, the paper's and ours."""

from pathlib import Path
from typing import List

import pandas as pd

from atss_plugin.analysis.style import GREY, PALETTE, figure

from .paper import Row, Table
from .report import CHANGED, SMOKE, TRAINED

# The tables that vary one quantity, in the order of its values.
CURVES = {
    'k': 'k, candidates per pyramid level',
    'scale': 'anchor scale (side / stride)',
    'ratio': 'anchor aspect ratio',
}
OURS = PALETTE[0]
UNLIKE = PALETTE[1]


def save_figures(tables: List[Table], report: pd.DataFrame, folder: Path) -> List[Path]:
    """Draws every table.

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
        else:
            _draw_rows(table, lines, path)
        paths.append(path)
    return paths


def _groups(lines: pd.DataFrame):
    """Return the runs that a figure shows: those that are the experiment, and those that are not, apart."""
    yield 'trained', OURS, lines[(lines['status'] == TRAINED) & lines['AP'].notna()]
    yield 'trained on other terms', UNLIKE, lines[lines['status'].isin([SMOKE, CHANGED]) & lines['AP'].notna()]


def _describe(axes, table: Table, has_runs: bool) -> None:
    axes.set_title(f'Table {table.number}. {table.title}', pad=26)
    axes.legend(loc='lower left', bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, handletextpad=0.4)
    if not has_runs:
        axes.annotate('nothing trained yet', (1, 1.01), xycoords='axes fraction', ha='right', va='bottom', color=GREY)


def _draw_curve(table: Table, lines: pd.DataFrame, quantity: str, path: Path) -> None:
    with figure(figsize=(6.4, 3.8)) as (fig, axes):
        places = {row.id: place for place, row in enumerate(table.rows)}
        paper = [row.paper['AP'] for row in table.rows]
        axes.plot(range(len(paper)), paper, 'o-', color=GREY, markerfacecolor='white', label='paper')
        for place, value in enumerate(paper):
            axes.annotate(f'{value:.1f}', (place, value), (0, 7), textcoords='offset points', ha='center', color=GREY)
        for name, color, runs in _groups(lines):
            if len(runs):
                axes.plot(runs['row'].map(places), runs['AP'], 'o', color=color, label=name)
                means = runs.groupby(runs['row'].map(places))['AP'].mean()
                axes.plot(means.index, means, '-', color=color, alpha=0.5)
        axes.set_xticks(range(len(paper)), [str(row.settings[quantity]) for row in table.rows])
        axes.set_xlabel(CURVES[quantity])
        axes.set_ylabel('AP (%)')
        axes.margins(y=0.25)
        _describe(axes, table, has_runs=lines['AP'].notna().any())
        fig.savefig(path, bbox_inches='tight')


def _draw_rows(table: Table, lines: pd.DataFrame, path: Path) -> None:
    with figure(figsize=(7.2, 1.3 + 0.36 * len(table.rows))) as (fig, axes):
        places = {row.id: -place for place, row in enumerate(table.rows)}
        paper = [row.paper['AP'] for row in table.rows]
        axes.plot(paper, list(places.values()), 'o', color=GREY, markerfacecolor='white', label='paper')
        for value, place in zip(paper, places.values()):
            axes.annotate(f'{value:.1f}', (value, place), (0, 6), textcoords='offset points', ha='center', color=GREY)
        for name, color, runs in _groups(lines):
            if len(runs):
                axes.plot(runs['AP'], runs['row'].map(places), 'o', color=color, label=name)
        axes.set_yticks(list(places.values()), [_label(row) for row in table.rows])
        axes.tick_params(axis='y', length=0)
        axes.grid(axis='y', visible=False)
        axes.set_ylim(min(places.values()) - 0.5, 0.7)
        axes.margins(x=0.12)
        axes.set_xlabel('AP (%) on test-dev; ours on val2017' if table.number == 8 else 'AP (%)')
        _describe(axes, table, has_runs=lines['AP'].notna().any())
        fig.savefig(path, bbox_inches='tight')


def _label(row: Row) -> str:
    """Return a row in words: the values of its settings, of which ticks are named and the rest left out."""
    name = row.id.split('.', 1)[1].replace('_', ' ')
    words = [str(value) for value in row.settings.values() if isinstance(value, str)]
    return ', '.join(words) if words else name
