"""Check whether this machine can build the environment of the Makefile, and say what to install if it cannot.

    python tools/check_machine.py VENV

Standard library only: it runs before anything is installed.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Iterator, Optional

MIN_PYTHON = (3, 11)  # requirements/constraints.txt has numpy 2.4, which needs at least this
GIB = 2**30
DISK_GIB = 4  # with torch's CPU build; its CUDA build has about 6 GiB more
MEMORY_GIB = 2  # per job of the compiler

# Compiles where the compiler knows C++17 and its library, and Python's headers are installed.
PROGRAM = '#include <Python.h>\n#include <optional>\nstd::optional<int> value;\n'


def problems(venv: Path) -> Iterator[str]:
    """Return what is missing, one sentence each."""
    found = '.'.join(map(str, sys.version_info[:3]))
    pinned = (venv / 'constraints.txt').exists() or not (venv / 'bin' / 'python').exists()
    if pinned and sys.version_info < MIN_PYTHON:
        yield (
            f'{sys.executable} is Python {found}; the pinned environment needs 3.11. Install it (Debian, Ubuntu: '
            'apt install python3.11 python3.11-venv python3.11-dev) or name it: make PYTHON=/path/to/python3.11'
        )
    if not (venv / 'bin' / 'python').exists() and not _has_module('ensurepip'):
        yield f'{sys.executable} cannot make environments. Debian, Ubuntu: apt install python3-venv'
    yield from compiler_problems()
    place = next(folder for folder in (venv, *venv.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < DISK_GIB * GIB:
        yield f'{free / GIB:.1f} GiB are free in {place}, but {DISK_GIB} are needed: name another place, VENV=...'
    memory = available_memory()
    if memory is not None and memory < MEMORY_GIB * GIB:
        yield f'{memory / GIB:.1f} GiB of memory are available, the compiler needs {MEMORY_GIB}: close other programs'


def compiler_problems() -> Iterator[str]:
    """Return why mmcv's operators cannot be compiled here."""
    compiler = shlex.split(os.environ.get('CXX', 'c++'))
    linker = shlex.split(os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc')
    missing = [words[0] for words in (compiler, linker) if shutil.which(words[0]) is None]
    if missing:
        yield (
            f'there is no {" and no ".join(missing)}, a C++ compiler to build mmcv with. Debian, Ubuntu: '
            'apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install; conda: conda install gxx'
        )
        return
    include = Path(sysconfig.get_path('include'))
    if not (include / 'Python.h').is_file():
        yield (
            f"Python's headers are missing ({include / 'Python.h'}). Debian, Ubuntu: "
            f'apt install python{sys.version_info[0]}.{sys.version_info[1]}-dev; Fedora: dnf install python3-devel'
        )
        return
    done = subprocess.run(
        [*compiler, '-std=c++17', '-fsyntax-only', f'-I{include}', '-x', 'c++', '-'],
        input=PROGRAM,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        yield f'{compiler[0]} does not compile C++17 (mmcv needs it; g++ does since 9):\n{done.stdout.strip()}'


def available_memory() -> Optional[int]:
    """Return the bytes that programs may still take, bounded by the container's limit; None where it is unknown."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:  # not Linux
        return None
    memory = next((int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable')), None)
    group = Path('/sys/fs/cgroup')
    try:
        limit = int((group / 'memory.max').read_text()) - int((group / 'memory.current').read_text())
    except (OSError, ValueError):  # no container, or "max"
        return memory
    return limit if memory is None else min(memory, limit)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def jobs() -> int:
    """Return how many files to compile at a time: one per core, or fewer if memory is short."""
    memory = available_memory()
    return max(1, cores() if memory is None else min(cores(), memory // (MEMORY_GIB * GIB)))


def _has_module(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


if __name__ == '__main__':
    answers = list(problems(Path(sys.argv[1]).resolve()))
    if answers:
        sys.exit('\n'.join(['The environment cannot be built here:', *(f'- {answer}' for answer in answers)]))
