"""The command line, ``python -m atss_plugin COMMAND`` (installed as ``atss-plugin COMMAND``).

A module of this subpackage is a subcommand when it has the constants ``NAME`` and ``HELP`` and the functions
``add_arguments(parser)`` and ``run(args) -> int`` (the exit status).
"""

import argparse
import importlib
import os
import pkgutil
import sys
from types import ModuleType
from typing import Dict, Optional, Sequence

from atss_plugin.errors import UsageError

DESCRIPTION = 'See what an assigner does, and run, resume and collect the tables of the ATSS paper.'
# What bad input raises; its message says what to change, so the traceback would only hide it.
USER_ERRORS = (UsageError, OSError, ImportError)


def commands() -> Dict[str, ModuleType]:
    """Return the subcommands of this subpackage by name."""
    modules = [importlib.import_module(f'{__name__}.{info.name}') for info in pkgutil.iter_modules(__path__)]
    return {module.NAME: module for module in modules if hasattr(module, 'NAME')}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line, one subparser per command."""
    parser = argparse.ArgumentParser(prog='atss-plugin', description=DESCRIPTION)
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, module in commands().items():
        subparser = subparsers.add_parser(
            name, help=module.HELP, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(subparser)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; those of the process if not given.

    Returns:
        The exit status: 0, the command's own, 2 after an error in the input, or 130 after Ctrl-C.
    """
    args = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode shows a question mark instead of an error
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='replace')
    try:
        status = commands()[args.command].run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, ``head`` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 0
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        return 130
    except USER_ERRORS as error:
        if args.debug:
            raise
        print(f'error: {error}', file=sys.stderr)
        return 2
