"""One job's processes, from their start to their end."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Dict, List

from atss_plugin.atomic import replacing

from .config_files import PACKAGE
from .job import START_LINE, Job
from .progress import Progress, read_progress
from .record import record_end, record_start
from .run import CONSOLE_FILE, LAUNCH_FILE, read_run

# Seconds between the request to end and the end by force.
GRACE = 10
# How many times in a row a loss that is not a number is logged before the training is given up.
HOPELESS = 3
# A disk with less than this many bytes left is full.
FULL = 2**20


class NothingToDoError(Exception):
    """The run is already going on, or has come to its end."""


class Training:
    """A job that was started.

    Its processes write to the console file themselves.  That file is locked through the same file handle that they
    inherit, so the lock holds until the last of them is gone, and no longer, whatever ends this process.

    Args:
        job: what to start; it is decided anew, since somebody else may have run it since it was planned.
        environment: variables for the processes, over those of this process.

    Raises:
        NothingToDoError: the run is already going on, or has come to its end meanwhile; ``job`` says so.
        UsageError: the work directory holds a run of another configuration.
        OSError: the work directory cannot be written to.
    """

    def __init__(self, job: Job, environment: Dict[str, str]) -> None:
        self.job = job
        job.work_dir.mkdir(parents=True, exist_ok=True)
        with open(job.work_dir / CONSOLE_FILE, 'ab') as console:
            locked = _lock(console)
            job.decide(locked_by_us=locked)
            if not locked and job.action != 'skip':
                job.action, job.reason = 'skip', 'running'
            if job.action == 'skip':
                raise NothingToDoError(job.reason)
            if job.merged is not None:
                with replacing(job.work_dir / Path(job.row.config).name) as path:
                    path.write_text(job.merged.pretty_text, encoding='utf-8')
            if job.resume_from is not None:  # mmengine looks for it here
                with replacing(job.work_dir / 'last_checkpoint') as path:
                    path.write_text(str(job.resume_from), encoding='utf-8')
            self.launch: Dict[str, Any] = dict(
                host=socket.gethostname(),
                started=time.strftime('%Y-%m-%d %H:%M:%S'),
                command=job.command_line(),
                returncode=None,
            )
            variables = _environment(environment)
            record_start(job, variables)
            console.write(f'{START_LINE}{self.launch["started"]}\n'.encode())
            console.flush()
            self.process = subprocess.Popen(
                [sys.executable, '-m', *job.words()],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others in order
            )
        self.launch['pid'] = self.process.pid
        self._record(ended=False)

    def progress(self) -> Progress:
        """Return how far it has got."""
        return read_progress(self.job.work_dir / CONSOLE_FILE, self.job.wanted)

    def ended(self) -> bool:
        """Return whether it has ended, well or not; the job and the work directory then say so."""
        if self.process.poll() is None:
            return False
        self.signal(signal.SIGTERM)  # those of its processes that outlived the first
        self.job.returncode = self.launch['returncode'] = self.process.returncode
        self._record(ended=True)
        try:
            self.job.problem = self.job.problem or self._problem()
        except OSError as error:
            self.job.problem = str(error)
        return True

    def give_up_if_hopeless(self, progress: Progress) -> None:
        """End a training whose loss stays NaN or infinite: it does not recover from that."""
        if len(progress.not_finite) >= HOPELESS:
            self.job.problem = f'diverged: the loss is {progress.not_finite[-1]} at iteration {progress.iteration}'
            self.signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it by force unless it ends soon; the work directory then says that it was interrupted."""
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.launch['stopped'] = True
        self._record(ended=True)

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):  # all gone
            pass

    def _record(self, ended: bool) -> None:
        """Write what is known; a full disk does not end the queue."""
        try:
            with replacing(self.job.work_dir / LAUNCH_FILE) as path:
                path.write_text(json.dumps(self.launch, indent=1), encoding='utf-8')
            if ended:
                record_end(self.job)
        except OSError:
            pass

    def _problem(self) -> str:
        run, code = read_run(self.job.work_dir, locked_by_us=True), self.process.returncode
        if run is not None and run.state == 'diverged':
            return f'diverged: the loss is not a number at {run.unit} {run.progress}'
        if code == 0:
            return ''
        default = f'exit status {code}' if code > 0 else f'killed by {signal.Signals(-code).name}'
        if shutil.disk_usage(self.job.work_dir).free < FULL:  # the error itself may not have fitted on it
            default += ', and its disk is full'
        return self.job.error() or default


def stop_trainings(trainings: List[Training]) -> None:
    """End all of them that have not ended by themselves."""
    trainings = [training for training in trainings if not training.ended()]
    for training in trainings:
        training.job.problem = 'stopped'
        training.signal(signal.SIGTERM)
    for training in trainings:
        training.stop()


def _lock(console: BinaryIO) -> bool:
    """Lock a file, and return whether that succeeded: False if another process holds the lock."""
    for _ in range(10):  # a process that only checks the lock holds it for an instant
        try:
            fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:  # a file system without locks
            return True
    return False


def _environment(more: Dict[str, str]) -> Dict[str, str]:
    # A checkout that is not installed is found by the training process as well.
    paths = [str(PACKAGE.parent), os.environ.get('PYTHONPATH', '')]
    return dict(os.environ, **more, PYTHONPATH=os.pathsep.join(filter(None, paths)))
