"""Folders of runs: `saved/<Model>-<dataset>/<run>/`, and which of them is meant."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.errors import CheckpointError, ConfigError
from talkingface.files import HOST, write_text

if TYPE_CHECKING:
    from talkingface.config.sections import Config

log = logging.getLogger("talkingface")


@dataclass(frozen=True)
class RunFolder:
    """`saved/<Model>-<dataset>/<run>/`: configuration, logs, checkpoints of every stage, evaluation."""

    path: Path

    def stage(self, name: str) -> Path:
        """Folder of one stage."""
        return self.path / name

    @property
    def status(self) -> str:
        """`running`, `finished` or `new`."""
        file = self.path / "run.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))["status"]
        except (OSError, ValueError, KeyError):
            return "new"

    def set_status(self, status: str) -> None:
        """Record that the run is under way or complete, when, and which process says so."""
        told = {"status": status, "time": time.strftime("%FT%T"), "host": HOST, "process": os.getpid()}
        write_text(self.path / "run.json", json.dumps(told) + "\n")

    @classmethod
    def open(cls, config: Config) -> RunFolder:
        """The run folder meant by `resume` and `run_name`: a new one, the latest unfinished one, or a named one.

        Raises:
            CheckpointError: `resume` names a folder that is not there.
        """
        parent = Path(config.saved_dir) / f"{config.model_name}-{config.dataset}"
        if config.resume == "auto":
            runs = sorted((p for p in parent.glob("*/run.json")), key=lambda p: p.stat().st_mtime, reverse=True)
            for file in runs:
                if cls(file.parent).status == "running":
                    return cls(file.parent)
            log.info("resume=auto: no unfinished run in %s, starting a new one", parent)
        elif config.resume != "none":
            return cls._named(Path(config.resume))
        if config.run_name:
            run = cls(parent / config.run_name)
            if config.train and run.status != "new":
                raise ConfigError(
                    f"{run.path}: a run of this name is there already; go on with --resume={run.path}, or choose"
                    " another --run_name"
                )
            return run
        name = time.strftime("%Y%m%d-%H%M%S")
        path, number = parent / name, 2
        while path.exists():
            path, number = parent / f"{name}-{number}", number + 1
        return cls(path)

    @classmethod
    def _named(cls, path: Path) -> RunFolder:
        """The run folder at `path`, or of the checkpoint `path`."""
        if path.suffix == ".pt" and not path.is_file():
            raise CheckpointError(f"{path}: no such checkpoint to resume")
        run = cls(path.parent.parent if path.suffix == ".pt" else path)
        if run.status == "new":
            raise CheckpointError(
                f"{path}: no run to resume here (there is no run.json); give saved/<Model>-<data>/<run>"
            )
        return run
