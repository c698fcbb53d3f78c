"""The best validation values of a stage, and when to stop waiting for better ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from talkingface.config.sections import StageConfig
from talkingface.errors import ConfigError

log = logging.getLogger("talkingface")


class BestSoFar:
    """Best values by name, and how long the monitored one has not improved. Part of the checkpoint.

    Args:
        stage: the stage; its `monitor`, `mode` and `patience` count.

    Attributes:
        values: the lowest of every `val/NAME`, and the best monitored value; the highest of the others as
            `highest/NAME`, and the latest as `last/NAME`. Read by steps as `ctx.best`.
        waited: validations since the monitored value improved.
    """

    def __init__(self, stage: StageConfig) -> None:
        self.stage = stage
        self.values: dict[str, float] = {}
        self.waited = 0

    def note(self, values: Mapping[str, float]) -> bool:
        """Take in the values of one validation; True when the monitored one improved.

        Raises:
            ConfigError: there are values of the monitored kind, but not this one.
        """
        for name, value in values.items():
            if name.startswith("val/") and name != self.stage.monitor and math.isfinite(value):
                self._keep(name, value)
        if self.stage.monitor not in values:
            self._check_monitor(values)
            return False
        improved = self._is_better(values[self.stage.monitor])
        self.waited = 0 if improved else self.waited + 1
        if improved:
            self.values[self.stage.monitor] = values[self.stage.monitor]
        return improved

    def _keep(self, name: str, value: float) -> None:
        highest, last = (f"{kind}/{name.removeprefix('val/')}" for kind in ("highest", "last"))
        self.values[name] = min(value, self.values.get(name, math.inf))
        self.values[highest] = max(value, self.values.get(highest, -math.inf))
        self.values[last] = value

    def _check_monitor(self, values: Mapping[str, float]) -> None:
        """A validation without videos has no `eval/` values; one that has some of them must have the right one."""
        monitor = self.stage.monitor
        kind = monitor.split("/")[0] + "/"
        if any(name.startswith(kind) for name in values):
            raise ConfigError(
                f"stage '{self.stage.name}': monitor '{monitor}' is not among the values: {', '.join(values)}"
            )

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        sign = 1 if self.stage.mode == "min" else -1
        best = self.values.get(self.stage.monitor)
        return best is None or sign * value < sign * best

    def out_of_patience(self) -> bool:
        """Whether the stage should stop early; says so."""
        if self.stage.patience is None or self.waited < self.stage.patience:
            return False
        log.info(
            "stage %s: stops early, %s has not improved for %d validations",
            self.stage.name,
            self.stage.monitor,
            self.waited,
        )
        return True
