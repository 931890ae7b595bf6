"""Run all cases and print a table: ``python -m benchmarks [--coco FILE] [--crowd FILE] [--json FILE]``."""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch
from mmdet import __version__ as mmdet_version
from rich.console import Console
from rich.table import Table

from . import operations, scenes, training_step
from .cases import all_cases
from .run import run


def main() -> None:
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__)
    parser.add_argument('--coco', help='COCO annotation file: adds a batch of its images')
    parser.add_argument('--crowd', help='COCO annotation file: adds its most crowded image')
    parser.add_argument('--only', default='', help='run the cases whose name contains this')
    parser.add_argument('--seconds', type=float, default=4.0, help='most time for a case (default: 4)')
    parser.add_argument('--threads', type=int, default=2, help='threads of PyTorch (default: 2)')
    parser.add_argument('--operations', action='store_true', help='count operations instead of measuring time')
    parser.add_argument('--step', action='store_true', help='time the parts of a training step, and prediction')
    parser.add_argument('--device', default='cpu', help='cpu, or cuda for the first GPU (default: cpu)')
    parser.add_argument('--json', help='also write the figures to this file')
    args = parser.parse_args()
    if args.operations:
        operations.report()
        return
    if args.step:
        torch.set_num_threads(args.threads)
        scenes.use(args.device)
        training_step.report()
        return
    torch.set_num_threads(1)  # a second thread of this process would spin beside the cases, and take a core from them
    names = [make().name for make in all_cases(args.coco, args.crowd)]
    rows = []
    for index, name in enumerate(names):
        if args.only in name:
            # A process for each case, in which ours and mmdet's take turns: in a common one the figures of small cases
            # depend on the state in which earlier cases have left the memory allocator.
            with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
                rows.append(process.submit(run, args, index).result())
            Console(stderr=True).print(f'{name}: {rows[-1]["ratio"]:.1f}x')
    show(rows, args)
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(rows, file, indent=1)


def show(rows: list, args: argparse.Namespace) -> None:
    where = f'{args.threads} threads' if args.device == 'cpu' else torch.cuda.get_device_name(args.device)
    table = Table(title=f'Against mmdet {mmdet_version}, torch {torch.__version__}, {where}; results equal')
    for column in ('case', 'ours', 'mmdet', 'faster', 'lowest - highest', 'goal', 'memory: ours', 'mmdet', 'less'):
        table.add_column(column, justify='left' if column == 'case' else 'right')
    for row in rows:
        memory = ('', '', '')
        if 'ours_bytes' in row:
            ours, peer = row['ours_bytes'], row['peer_bytes']
            memory = (f'{ours / 2**20:.1f} MiB', f'{peer / 2**20:.1f} MiB', f'{peer / ours:.0f}x')
        table.add_row(
            row['case'],
            f'{row["ours"] * 1e3:.2f} ms',
            f'{row["peer"] * 1e3:.1f} ms',
            f'{row["ratio"]:.1f}x',
            f'{row["low"]:.1f} - {row["high"]:.1f}',
            f'{row["goal"]:g}x' if row['goal'] else '',
            *memory,
        )
    Console(width=150).print(table)


if __name__ == '__main__':
    main()
