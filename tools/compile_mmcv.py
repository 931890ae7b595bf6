"""Run ``pip install`` for an mmcv that has to be compiled, and show its progress.

    python tools/compile_mmcv.py WORDS OF PIP INSTALL

pip prints nothing for the minutes that mmcv's files take; here its full output goes to a file, and the number of files
compiled so far is shown in one line.  Without debugging symbols they take half the time.  Your own CFLAGS and MAX_JOBS
are respected.  Standard library only.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from typing import IO, Iterable, Optional, Tuple

from check_machine import jobs

FILES_DONE = re.compile(r'\s*\[(\d+)/(\d+)\]')  # as ninja counts
LINES_SHOWN = 40  # of a build that failed
INTERVAL = 30  # seconds between lines where the output is not a terminal


def main(words: Iterable[str]) -> int:
    """Install, and return pip's exit status."""
    environment = {'MMCV_WITH_OPS': '1', 'CFLAGS': '-g0', 'MAX_JOBS': str(jobs()), **os.environ}
    command = [sys.executable, '-m', 'pip', 'install', '--verbose', '--no-build-isolation', *words]
    with tempfile.NamedTemporaryFile('w', prefix='mmcv-', suffix='.log', delete=False) as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='replace',
        )
        assert process.stdout is not None
        show(process.stdout, log, f'{environment["MAX_JOBS"]} at a time')
        status = process.wait()
    if status:
        with open(log.name) as file:
            sys.stdout.writelines(file.readlines()[-LINES_SHOWN:])
        print(f'pip could not install mmcv (exit status {status}); the whole output is in {log.name}')
    else:
        os.remove(log.name)
    return status


def show(output: Iterable[str], log: IO[str], how: str) -> None:
    """Copy the output to the log and keep a line up to date: files done, files in all, time left."""
    start, shown, terminal = time.monotonic(), float('-inf'), sys.stdout.isatty()
    last = None
    for line in output:
        log.write(line)
        files = files_done(line)
        if files is None:
            continue
        last, now = files, time.monotonic()
        if terminal or now - shown >= INTERVAL or files[0] == files[1]:
            print(progress(*files, now - start, how), end='\r' if terminal else '\n', flush=True)
            shown = now
    if last is not None and terminal:
        print()


def files_done(line: str) -> Optional[Tuple[int, int]]:
    """Return (files compiled, files in all) if the line says so."""
    match = FILES_DONE.match(line)
    return (int(match[1]), int(match[2])) if match else None


def progress(done: int, total: int, seconds: float, how: str) -> str:
    """Return the line that is shown."""
    left = seconds / done * (total - done) / 60
    minutes, seconds = divmod(int(seconds), 60)
    return f'mmcv: {done} of {total} files compiled ({how}), {minutes}:{seconds:02d} min, about {left:.0f} min to go   '


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
