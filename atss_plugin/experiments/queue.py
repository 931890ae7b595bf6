"""Many runs, some at a time: a run that fails stops no other."""

import signal
import time
from collections import deque
from contextlib import contextmanager
from threading import Event
from typing import Dict, Iterator, List, Optional, Sequence

from atss_plugin.errors import UsageError

from .job import Job
from .progress import Progress
from .training import NothingToDoError, Training, stop_trainings

# Seconds between two checks of the processes, and of how far they have got.
POLL, LOOK = 0.2, 2.0


class Display:
    """What is shown while a queue runs: a line for every start and every end."""

    def start(self, job: Job, number: int, total: int) -> None:
        """Report that a job starts, the ``number``-th of ``total``."""
        self.line(f'[{number}/{total}] {job.action} {job.name}: {job.command_line()}')

    def update(self, job: Job, progress: Progress) -> None:
        """Report how far a job has got."""

    def end(self, job: Job) -> None:
        """Report that a job ended or was not started after all."""
        if job.action == 'skip':
            self.line(f'skipped {job.name}: {job.reason}')
        else:
            self.line(f'{"FAILED" if job.problem else "finished"} {job.name}{": " * bool(job.problem)}{job.problem}')

    def line(self, text: str) -> None:
        """Show a line."""
        print(text, flush=True)


def run_jobs(
    jobs: List[Job],
    environments: Sequence[Dict[str, str]] = ({},),
    display: Optional[Display] = None,
    stop: Optional[Event] = None,
) -> List[Job]:
    """Run the jobs that are not skipped, as many at a time as there are environments.

    Whatever ends this function early stops the runs that it started; their checkpoints stay.

    Args:
        jobs: as planned; their ``returncode`` and ``problem`` are filled in.
        environments: the variables of each slot in which a run can take place.
        display: shows what happens.
        stop: ends the queue when it is set.

    Returns:
        The jobs that failed, or were stopped.
    """
    display = display or Display()
    waiting = deque(job for job in jobs if job.action != 'skip')
    total = len(waiting)
    running: Dict[int, Training] = {}
    looked = 0.0
    try:
        while (waiting or running) and not (stop and stop.is_set()):
            for place, environment in enumerate(environments):
                while place not in running and waiting:
                    job = waiting.popleft()
                    if _start(job, environment, place, running):
                        display.start(job, total - len(waiting), total)
                    else:
                        display.end(job)
            time.sleep(POLL)
            if time.monotonic() - looked > LOOK:
                looked = time.monotonic()
                for training in running.values():
                    _look(training, display)
            for place, training in list(running.items()):
                if training.ended():
                    del running[place]
                    display.end(training.job)
    finally:
        stop_trainings(list(running.values()))
    return [job for job in jobs if job.problem]


@contextmanager
def stopping_on_signals() -> Iterator[Event]:
    """Yield an event for :func:`run_jobs` that Ctrl-C, a request to end and the loss of the terminal set."""
    stop, before = Event(), {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup lets SIGHUP be
            before[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(job: Job, environment: Dict[str, str], place: int, running: Dict[int, Training]) -> bool:
    """Start a job in a slot; return False if there is nothing to do or it cannot be started, which the job says."""
    try:
        running[place] = Training(job, environment)
    except NothingToDoError:
        return False
    except (OSError, UsageError) as error:  # a read-only folder, a full disk, a folder that changed meanwhile
        job.problem = str(error)
        return False
    return True


def _look(training: Training, display: Display) -> None:
    try:
        progress = training.progress()
    except OSError:
        return
    display.update(training.job, progress)
    training.give_up_if_hopeless(progress)
