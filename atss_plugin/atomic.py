"""Writing a file whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to; the file takes the place of ``target`` at the end, or is removed after an error."""
    temporary = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
