"""Convert one of the eight checkpoints that the authors of ATSS published into mmdet's form.

The file need not be trusted: nothing in it is executed. The command says which of the eight it is, and which config
evaluates it. A file that is something else, or a config that does not fit it, is refused and nothing written.
"""

import argparse

from atss_plugin.checkpoints import convert_checkpoint

NAME = 'convert-checkpoint'
HELP = "convert a checkpoint of the authors into mmdet's form"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument('source', metavar='IN.pth', help="the authors' checkpoint")
    parser.add_argument('target', metavar='OUT.pth', help='the checkpoint to write')
    parser.add_argument('--config', help='check first that the result fits the model of this config')


def run(args: argparse.Namespace) -> int:
    """Convert; errors are those of ``atss_plugin.checkpoints.convert_checkpoint``."""
    model = convert_checkpoint(args.source, args.target, args.config)
    print(f'{args.source} is {model.name}; wrote {args.target}, for configs/official/{model.name}.py')
    return 0
