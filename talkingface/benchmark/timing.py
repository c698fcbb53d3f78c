"""How fast a piece of work is."""

from __future__ import annotations

import time
from collections.abc import Callable


def rate(work: Callable[[], int], seconds: float, after: Callable[[], None] = lambda: None) -> float:
    """Units of work per second; `work` returns the units it did. The first call warms up and does not count."""
    work()
    after()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        done += work()
    after()
    return done / (time.perf_counter() - started)
