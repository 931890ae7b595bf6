"""Time and memory of two ways to do the same thing, side by side in one process."""
import statistics
import time
from typing import Callable, List, NamedTuple

import torch


class Comparison(NamedTuple):
    """Medians of interleaved runs.

    Attributes:
        ours, peer (float): seconds.
        ratio (float): how many times faster ours is: the median of the ratios of neighbouring runs.
        low, high (float): the smallest and the largest of those ratios.
    """
    ours: float
    peer: float
    ratio: float
    low: float
    high: float


def compare(ours: Callable, peer: Callable, seconds: float = 4.0, rounds: int = 25) -> Comparison:
    """Run both in turn, ours several times a round so that both take comparable time."""
    ours(), peer()
    peer_once = _time(peer, 1)
    repeat = max(1, min(50, int(peer_once / max(_time(ours, 1), 1e-6) / 4)))
    rounds = max(5, min(rounds, int(seconds / max(peer_once * 1.25, 1e-6))))
    mine: List[float] = []
    theirs: List[float] = []
    for _ in range(rounds):
        mine.append(_time(ours, repeat))
        theirs.append(_time(peer, 1))
    ratios = [t / m for m, t in zip(mine, theirs)]
    return Comparison(statistics.median(mine), statistics.median(theirs), statistics.median(ratios), min(ratios),
                      max(ratios))


def _time(run: Callable, repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        run()
    return (time.perf_counter() - start) / repeat


def peak_memory(run: Callable) -> int:
    """Bytes that ``run`` holds at most at a time in tensors of its own, from the profiler's record of allocations."""
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
