"""How long work takes, learnt from what was done: for `seconds_left` and `Retry-After`."""

from __future__ import annotations

import threading

_WEIGHT = 0.3  # of the last job in the running mean


class Pace:
    """Seconds per frame of each model, as a running mean. Any thread may call."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def learn(self, model: str, frames: int, seconds: float) -> None:
        """A video of so many frames took so long."""
        if frames <= 0:
            return
        with self._lock:
            now, before = seconds / frames, self._seconds.get(model)
            self._seconds[model] = now if before is None else (1 - _WEIGHT) * before + _WEIGHT * now

    def expect(self, model: str, frames: int) -> float | None:
        """Seconds that so many frames take; None as long as nothing is known of the model."""
        with self._lock:
            each = self._seconds.get(model)
        return None if each is None else each * frames
