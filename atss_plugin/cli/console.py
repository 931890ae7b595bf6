"""What every command prints with."""

import shutil

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar() -> Progress:
    """Return a bar on stderr, so that stdout holds nothing but the result."""
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
    """A console that leaves a closed pipe to the command line, which ends in silence."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 -- called where the BrokenPipeError is handled


def wide_console(width: int) -> Console:
    """Return a console of at least so many characters: a table that is cut to a narrow terminal cannot be read."""
    return PipedConsole(width=max(shutil.get_terminal_size().columns, width))
