"""How every command prints."""

import shutil
from typing import Dict

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable


def progress_bar() -> Progress:
    """Return a progress bar on stderr; stdout is for the result alone."""
    return Progress(
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class PipedConsole(Console):
    """A console that leaves a closed pipe to the command line, which then ends silently."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 -- called where the BrokenPipeError is handled


def wide_console(width: int) -> Console:
    """Return a console at least ``width`` characters wide: a table cut to fit a narrow terminal cannot be read.

    Brackets, as in ``IoU [fcos]``, are no markup.
    """
    return PipedConsole(width=max(shutil.get_terminal_size().columns, width), markup=False, emoji=False)


def tell(text: str) -> None:
    """Print a line for the user on stderr; stdout is for the result alone."""
    Console(stderr=True).print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_whole(table: RichTable) -> None:
    """Print a table without cutting or wrapping a cell."""
    unlimited = wide_console(10_000)
    wide_console(Measurement.get(unlimited, unlimited.options, table).maximum).print(table)


def print_tables(title: str, tables: Dict[str, pd.DataFrame]) -> None:
    """Print tables of words, each under its name."""
    wide_console(0).print(title, style='bold')
    for name, table in tables.items():
        corner = table.index.name or ''
        rich_table = RichTable(corner, *table.columns, title=name, title_justify='left', box=SIMPLE_HEAD)
        for index, line in table.iterrows():
            rich_table.add_row(str(index), *line)
        print_whole(rich_table)


def tables_to_markdown(title: str, tables: Dict[str, pd.DataFrame]) -> str:
    """Return tables of words, each under its name, as one markdown text."""
    parts = [f'{name}:\n\n{table.to_markdown(disable_numparse=True)}' for name, table in tables.items()]
    return '\n\n'.join([f'**{title}**', *parts]) + '\n'
