"""A machine's GPUs or cores, divided among runs."""

import os
from typing import Dict, List

import torch

from atss_plugin.errors import UsageError

# Threads that wait do not spin: with other work on the same cores, spinning takes time that the others need.
PATIENT = dict(OMP_WAIT_POLICY='PASSIVE')


def divide_machine(runs: int, gpus_per_run: int) -> List[Dict[str, str]]:
    """Return the environment of each of the runs that share the machine.

    GPUs are those that this process sees; where there are fewer than runs of one GPU each, runs share them in
    turn.  What the user has set (``OMP_NUM_THREADS``, ``OMP_WAIT_POLICY``) stays.

    Raises:
        UsageError: not enough GPUs for runs of several GPUs.
    """
    gpus = visible_gpus()
    if gpus and gpus_per_run > 1 and runs * gpus_per_run > len(gpus):
        raise UsageError(
            f'{runs} runs of {gpus_per_run} GPUs each need {runs * gpus_per_run} GPUs, and {len(gpus)} are visible: '
            'choose smaller --jobs or --gpus'
        )
    environments = []
    for run in range(runs):
        environment = dict(PATIENT)
        if runs > 1:
            environment['OMP_NUM_THREADS'] = str(max(1, cores() // (runs * max(1, gpus_per_run))))
        environment = {name: value for name, value in environment.items() if name not in os.environ}
        if gpus and runs > 1 and gpus_per_run:
            own = [gpus[(run * gpus_per_run + i) % len(gpus)] for i in range(gpus_per_run)]
            environment['CUDA_VISIBLE_DEVICES'] = ','.join(own)
        environments.append(environment)
    return environments


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def visible_gpus() -> List[str]:
    """Return the names by which ``CUDA_VISIBLE_DEVICES`` knows the GPUs that this process may use."""
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    if named is not None:
        return [name.strip() for name in named.split(',') if name.strip() not in ('', '-1')]
    return [str(index) for index in range(torch.cuda.device_count())]
