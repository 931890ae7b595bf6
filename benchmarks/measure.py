"""Time and memory of two ways to do the same thing, side by side in one process."""

import statistics
import time
import tracemalloc
from typing import Callable, List, NamedTuple

import torch

BLOCK = 0.02
"""Seconds that one does the same thing before it is the other's turn, at least."""


class Comparison(NamedTuple):
    """Medians of interleaved blocks.

    Attributes:
        ours, peer (float): seconds.
        ratio (float): how many times faster ours is: the median of the ratios of neighbouring blocks.
        low, high (float): the smallest and the largest of those ratios.
    """

    ours: float
    peer: float
    ratio: float
    low: float
    high: float


def compare(ours: Callable, peer: Callable, seconds: float = 4.0, rounds: int = 25) -> Comparison:
    """Run both in turn, a block of one and then a block of the other that takes about as long."""
    peer_once = min(_time(peer, 1) for _ in range(3))
    peer_repeat = max(1, round(BLOCK / peer_once))
    block = peer_once * peer_repeat
    ours_repeat = max(1, round(block / min(_time(ours, 1) for _ in range(5))))
    rounds = max(5, min(rounds, int(seconds / (2 * block))))
    mine: List[float] = []
    theirs: List[float] = []
    for _ in range(rounds):
        mine.append(_time(ours, min(ours_repeat, 200)))
        theirs.append(_time(peer, peer_repeat))
    ratios = [t / m for m, t in zip(mine, theirs)]
    return Comparison(
        statistics.median(mine), statistics.median(theirs), statistics.median(ratios), min(ratios), max(ratios)
    )


def _time(run: Callable, repeat: int) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(repeat):
        run()
    wait()
    return (time.perf_counter() - start) / repeat


def wait() -> None:
    """Let a GPU finish what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_memory(run: Callable) -> int:
    """Return the most bytes that ``run`` holds at a time in tensors and arrays of its own.

    The peak of PyTorch's allocations (its profiler) plus that of Python and NumPy (tracemalloc), as if simultaneous.
    On a GPU, the peak of what PyTorch allocated there.
    """
    run()
    if torch.cuda.is_initialized():
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - held
    tracemalloc.start()
    run()
    _, host = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak + host
