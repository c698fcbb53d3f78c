"""How fast a piece of work is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")


def rate(work: Callable[[], int], seconds: float, after: Callable[[], None] = lambda: None) -> float:
    """Units of work per second; `work` returns the units it did. The first call warms up and does not count."""
    work()
    after()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        done += work()
    after()
    return done / (time.perf_counter() - started)


class Timing(NamedTuple):
    """Least wall and CPU seconds of a piece of work."""

    wall: float
    cpu: float


def best(work: Callable[[], Result], seconds: float) -> tuple[Result, Timing]:
    """What a piece of work gives, and its least times while it is repeated for `seconds`, at least once.

    The first call warms up and does not count.
    """
    result, wall, cpu = work(), math.inf, math.inf
    begun = time.perf_counter()
    while not math.isfinite(wall) or time.perf_counter() - begun < seconds:
        started = time.perf_counter(), time.process_time()
        result = work()
        wall, cpu = min(wall, time.perf_counter() - started[0]), min(cpu, time.process_time() - started[1])
    return result, Timing(wall, cpu)


class Pair(NamedTuple):
    """Least CPU seconds of two ways to do one piece of work."""

    slow: float
    fast: float

    @property
    def times(self) -> float:
        """By how much the second is faster."""
        return self.slow / self.fast


def paired(slow: Callable[[], object], fast: Callable[[], object], seconds: float, warm: bool = True) -> Pair:
    """Both ways by turns in this process, for `seconds`, each at least once.

    Other work on the machine then falls on both alike; CPU time, since a busy machine spares nobody.

    Args:
        slow: the way that things are compared with.
        fast: the other one.
        seconds: of wall time, for both together.
        warm: leave out the first turn.
    """
    ways, least = (slow, fast), [math.inf, math.inf]
    if warm:
        for way in ways:
            way()
    begun = time.perf_counter()
    while not math.isfinite(least[1]) or time.perf_counter() - begun < seconds:
        for k, way in enumerate(ways):
            started = time.process_time()
            way()
            least[k] = min(least[k], time.process_time() - started)
    return Pair(*least)
