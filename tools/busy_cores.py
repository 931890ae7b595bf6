"""Seconds per training iteration of the miniature, by how its threads wait, on idle and busy cores.

python tools/busy_cores.py [--others N] [--iterations N]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    'default': {},
    'OMP_WAIT_POLICY=PASSIVE': dict(OMP_WAIT_POLICY='PASSIVE'),
    'OMP_NUM_THREADS=1': dict(OMP_NUM_THREADS='1'),
}


def train(iterations: int) -> float:
    """Return the mean seconds of an iteration after two that are not counted."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg = Config.fromfile(ROOT / 'configs' / 'miniature.py')
    cfg.train_dataloader.dataset.num_images = cfg.train_dataloader.batch_size * (iterations + 2)
    cfg.log_level = 'ERROR'
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        runner = Runner.from_cfg(cfg)
        optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
        for i, data in enumerate(runner.build_dataloader(cfg.train_dataloader)):
            if i == 2:
                start = time.perf_counter()
            runner.model.train_step(data, optim_wrapper)
        return (time.perf_counter() - start) / iterations


def measure(setting: dict, iterations: int) -> float:
    """Return what :func:`train` takes in a process with these variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith('OMP_')}
    environment.update(setting, PYTHONPATH=os.pathsep.join([str(ROOT), environment.get('PYTHONPATH', '')]))
    command = [sys.executable, '-W', 'ignore', __file__, '--worker', '--iterations', str(iterations)]
    return float(subprocess.check_output(command, env=environment).split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--others', type=int, default=1, help='other busy processes (default: %(default)s)')
    parser.add_argument('--iterations', type=int, default=20)
    parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(train(args.iterations))
        return
    print(f'{os.cpu_count()} cores, load average before {os.getloadavg()[0]:.1f}', flush=True)
    for others in (0, args.others):
        busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(others)]
        try:
            for name, setting in SETTINGS.items():
                print(f'{others} other busy processes, {name}: {measure(setting, args.iterations):.2f} s', flush=True)
        finally:
            for process in busy:
                process.kill()


if __name__ == '__main__':
    main()
