"""How every command prints."""

import shutil

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar() -> Progress:
    """Return a progress bar on stderr; stdout is for the result alone."""
    return Progress(
        TextColumn('{task.description}'),
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
    """Return a console at least ``width`` characters wide: a table cut to fit a narrow terminal cannot be read."""
    return PipedConsole(width=max(shutil.get_terminal_size().columns, width))
