"""Count the parameters and FLOPs of a detector, in total and by part, without a data set or weights.

One multiply-add counts as one FLOP, as in mmdet's tables; decoding and NMS are not counted.

examples:
  atss-plugin flops atss_r50_fpn_1x.py
  atss-plugin flops mmdet::atss/atss_r50_fpn_1x_coco.py --shape 640 640 --json
"""

import json

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from atss_plugin.analysis.complexity import complexity
from atss_plugin.errors import UsageError
from atss_plugin.experiments import load_config
from atss_plugin.experiments.job import parse_cfg_options

from .console import wide_console

NAME = 'flops'
HELP = 'count parameters and FLOPs'


def add_arguments(parser) -> None:
    parser.add_argument('config', metavar='CONFIG', help="any mmdet config; mmdet::NAME.py for mmdet's own")
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        default=[800, 1333],
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the input before padding (default: 800 1333)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes to the config')


def run(args) -> int:
    if min(args.shape) < 1:
        raise UsageError(f'--shape {args.shape[0]} {args.shape[1]}: height and width must be positive')
    cfg = load_config(args.config, parse_cfg_options(args.cfg_options))
    parts = complexity(cfg, *args.shape)
    if args.json:
        counts = {part: dict(parameters=parameters, flops=flops) for part, (parameters, flops) in parts.items()}
        print(json.dumps(dict(config=args.config, shape=args.shape, **counts), indent=1))
        return 0
    console = wide_console(0)
    console.print(f'{args.config} at {args.shape[0]} × {args.shape[1]}')
    table = RichTable('', 'parameters', 'FLOPs', box=SIMPLE_HEAD)
    for part, (parameters, flops) in parts.items():
        table.add_row(
            part, f'{parameters / 1e6:.2f} M', f'{flops / 1e9:.1f} G', style='bold' if part == 'model' else ''
        )
    console.print(table)
    return 0
