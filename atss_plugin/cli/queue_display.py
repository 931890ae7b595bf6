"""The display of a queue of runs: a line for every start and end, a bar for each run in progress."""

import time
from typing import Dict

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from atss_plugin.experiments.job import Job
from atss_plugin.experiments.progress import Progress as TrainingProgress
from atss_plugin.experiments.queue import Display
from atss_plugin.experiments.run import CONSOLE_FILE

# A terminal with fewer columns has no space for bars next to the figures.
NARROW = 80


class QueueDisplay(Display):
    """Bars on stderr where it is a terminal (run, iteration, time left, last AP), and lines everywhere.

    Args:
        jobs: all jobs in the queue.
    """

    def __init__(self, jobs) -> None:
        self.console = Console(stderr=True, soft_wrap=True)
        narrow = self.console.width < NARROW
        self.bars = Progress(
            TextColumn('{task.description}', markup=False, table_column=Column(no_wrap=True)),
            *([] if narrow else [BarColumn(bar_width=None, table_column=Column(ratio=1))]),
            TextColumn('{task.fields[iteration]}', table_column=Column(no_wrap=True, justify='right')),
            TextColumn('{task.fields[eta]}', table_column=Column(no_wrap=True, justify='right')),
            TextColumn('{task.fields[ap]}', table_column=Column(no_wrap=True, justify='right')),
            console=self.console,
            expand=not narrow,
            refresh_per_second=2,
        )
        self.tasks: Dict[str, TaskID] = {}
        self.started: Dict[str, float] = {}
        self.aps: Dict[str, float] = {}
        waiting = [job for job in jobs if job.action != 'skip']
        self.line(f'{len(waiting)} runs to do, {len(jobs) - len(waiting)} to skip')

    def __enter__(self) -> 'QueueDisplay':
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *error) -> None:
        self.bars.stop()

    def start(self, job: Job, number: int, total: int) -> None:
        self.line(
            f'[{number}/{total}] {job.action} {job.name} ({job.reason}), console in {job.work_dir}/{CONSOLE_FILE}'
        )
        self.started[job.name] = time.monotonic()
        self.tasks[job.name] = self.bars.add_task(job.name, total=None, iteration='starting', eta='', ap='')

    def update(self, job: Job, progress: TrainingProgress) -> None:
        if progress.ap is not None:
            self.aps[job.name] = progress.ap
        if progress.length:
            self.bars.update(
                self.tasks[job.name],
                completed=progress.iteration,
                total=progress.length,
                iteration=f'{progress.iteration}/{progress.length}',
                eta=progress.eta,
                ap=self._ap(job),
            )

    def end(self, job: Job) -> None:
        if job.name in self.tasks:
            self.bars.remove_task(self.tasks.pop(job.name))
            minutes, seconds = divmod(int(time.monotonic() - self.started[job.name]), 60)
            how = f'failed: {job.problem}' if job.problem else f'finished {self._ap(job)}'.rstrip()
            self.line(f'{job.name} {how} after {minutes} min {seconds} s')
        else:
            self.line(f'{job.name} ' + (f'skipped: {job.reason}' if job.action == 'skip' else f'failed: {job.problem}'))

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def _ap(self, job: Job) -> str:
        return f'AP {self.aps[job.name]:.1f}' if job.name in self.aps else ''
