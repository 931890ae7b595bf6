"""Runs as the tasks of one Slurm job array, through submitit: each ends, is requeued and resumes by itself."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from atss_plugin.errors import UsageError

from .job import Job, Launch, plan_jobs
from .machine import divide_machine
from .paper import load_tables, select_tables
from .queue import run_jobs
from .run import FRESH, read_run

# How often a task may reach the time limit: twice what a run of a fortnight on one GPU needs with a limit of a day.
MAX_TIMEOUTS = 28
# Seconds between two looks at a run that seems to go on.
LOOK_AGAIN = 60


@dataclass(frozen=True)
class ArrayTask:
    """One run of a queue; submitit writes it to a file and calls it on a node.

    Every call looks at the work directory first, so a task that was requeued resumes its run. A node that was lost
    leaves a log that looks alive for ``FRESH`` seconds: so long a task waits.

    Attributes:
        row: id of the row.
        seed: the run's seed.
        work_dirs: where runs are kept.
        launch: how the run is started on the node.
    """

    row: str
    seed: int
    work_dirs: Path
    launch: Launch

    def __call__(self) -> str:
        """Train or resume, and return the state in words.

        Raises:
            RuntimeError: the run failed, or is going on elsewhere.
        """
        (job,) = plan_jobs(select_tables(load_tables(), [self.row]), self.work_dirs, [self.seed], self.launch)
        waited = 0
        while _goes_on(job):
            if waited > FRESH:
                raise RuntimeError(f'{job.name}: {job.reason}, which is not this task')
            time.sleep(LOOK_AGAIN)
            waited += LOOK_AGAIN
        job.decide()
        if run_jobs([job], divide_machine(1, self.launch.gpus)):
            raise RuntimeError(f'{job.name}: {job.problem}')
        return job.reason if job.action == 'skip' else 'finished'

    def checkpoint(self):
        """Return what to submit again when Slurm announces the time limit: the same task."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _goes_on(job: Job) -> bool:
    run = read_run(job.work_dir)
    return run is not None and run.state == 'running'


def submit_array(jobs: List[Job], work_dirs: Path, launch: Launch, cluster: str = 'slurm', **parameters) -> List:
    """Submit the jobs that are not skipped.

    Args:
        jobs: as planned.
        work_dirs: where runs are kept; submitit's files go to ``slurm/`` in it.
        launch: how each is started on its node.
        cluster: ``slurm``, or ``local`` for processes of this machine.
        parameters: submitit's, such as ``slurm_partition``.

    Returns:
        submitit's jobs.

    Raises:
        UsageError: submitit or Slurm is not installed.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise UsageError('--array needs submitit: pip install submitit') from error
    tasks = [ArrayTask(job.row.id, job.seed, work_dirs, launch) for job in jobs if job.action != 'skip']
    if not tasks:
        return []
    own = dict(slurm_max_num_timeout=MAX_TIMEOUTS) if cluster == 'slurm' else {}
    try:
        executor = submitit.AutoExecutor(folder=work_dirs / 'slurm', cluster=cluster, **own)
    except RuntimeError as error:  # no sbatch
        raise UsageError(f'--launcher slurm --array: {error}') from error
    executor.update_parameters(**parameters)
    with executor.batch():
        return [executor.submit(task) for task in tasks]


def slurm_parameters(partition: str, gpus: int, minutes: int, parallel: Optional[int], more: dict) -> dict:
    """Return, by submitit's names, what an array asks Slurm for: a node and ``gpus`` GPUs for each task."""
    parameters = dict(name='atss_plugin', nodes=1, tasks_per_node=1, timeout_min=minutes, slurm_partition=partition)
    if gpus:
        parameters['gpus_per_node'] = gpus
    if parallel:
        parameters['slurm_array_parallelism'] = parallel
    # a task whose node fails begins again elsewhere, too
    parameters['slurm_additional_parameters'] = dict(requeue=True, **more)
    return parameters
