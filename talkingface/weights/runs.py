"""Folders of runs: `saved/<Model>-<dataset>/<run>/`, and which of them is meant."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.errors import CheckpointError, ConfigError, DataError
from talkingface.files import output_error, write_text
from talkingface.stored.jsons import read_json
from talkingface.weights.lock import FolderLock, TakenError

if TYPE_CHECKING:
    from talkingface.config.sections import Config

log = logging.getLogger("talkingface")
RECORD = "run.json"


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
        try:
            return str(read_json(self.path / RECORD)["status"])
        except (OSError, DataError, KeyError, TypeError):
            return "new"

    def set_status(self, status: str, licence: str | None = None) -> None:
        """Record that the run is under way or complete.

        Args:
            status: see above.
            licence: what limits the use of its checkpoints; None: what was recorded before stays.
        """
        facts = {"status": status, "time": time.strftime("%FT%T")}
        licence = self.licence if licence is None else licence
        facts |= {"licence": licence} if licence else {}
        write_text(self.path / RECORD, json.dumps(facts) + "\n")

    @property
    def licence(self) -> str:
        """What limits the use of its checkpoints; empty where nothing is known."""
        try:
            return str(read_json(self.path / RECORD).get("licence") or "")
        except (OSError, DataError, AttributeError):
            return ""

    def forget_untrained(self, stages: Iterable[str]) -> None:
        """Remove what a start has written that failed before the first record of a step; there is nothing to go on.

        Args:
            stages: names of the run's stages, whose folders go too; whatever else lies there is somebody else's.
        """
        log_file = self.path / "log.jsonl"
        if any(self.path.rglob("*.pt")) or (log_file.is_file() and log_file.stat().st_size):
            return
        for name in ("config.yaml", RECORD, "log.jsonl", "tensorboard", "wandb.json", *stages):
            path = self.path / name
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    @classmethod
    @contextmanager
    def claimed(cls, config: Config) -> Iterator[RunFolder]:
        """The run folder that `open` finds, for this process alone: nobody else trains there meanwhile.

        A folder that was made here, and into which nothing was written, is gone afterwards.

        Raises:
            CheckpointError: `resume` names a folder that is not there, or somebody else trains in this one.
            OutputError: it cannot be written.
        """
        run, lock, made = cls._lock(config)
        try:
            yield run
        finally:
            lock.withdraw() if made else lock.release()

    @classmethod
    def _lock(cls, config: Config) -> tuple[RunFolder, FolderLock, bool]:
        """Find and lock a folder; two that start at once see each other's here, and look again."""
        taken: set[Path] = set()
        while True:
            run = cls.open(config, taken)
            made = not run.path.exists()
            try:
                run.path.mkdir(parents=True, exist_ok=not made)
                lock = FolderLock.take(run.path)
            except FileExistsError:
                continue  # made by another process since `open`
            except OSError as error:
                raise output_error(run.path, error) from error
            except TakenError as error:
                if config.resume != "auto":
                    advice = "wait until it has ended, or end it" if config.resume != "none" else "choose another name"
                    raise CheckpointError(f"{run.path}: {error}; {advice}") from None
                log.warning("resume=auto: %s is passed over: %s", run.path, error)
                taken.add(run.path)
                continue
            if lock.current and (made or cls.open(config, taken).path == run.path):
                return run, lock, made
            lock.release()  # finished, or removed, between the look and the lock

    @classmethod
    def open(cls, config: Config, without: Collection[Path] = ()) -> RunFolder:
        """The run folder meant by `resume` and `run_name`: a new one, the latest unfinished one, or a named one.

        Args:
            config: the configuration.
            without: folders that `resume=auto` does not consider.

        Raises:
            CheckpointError: `resume` names a folder that is not there.
            ConfigError: there is a run of this name.
        """
        parent = Path(config.saved_dir) / f"{config.model_name}-{config.dataset}"
        if config.resume == "auto":
            for run in newest_first(parent):
                if run.path not in without and run.status == "running":
                    return run
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


def newest_first(parent: Path) -> list[RunFolder]:
    """The runs in `saved/<Model>-<dataset>`, the one written to last first; others may come and go meanwhile."""
    found: list[tuple[float, str]] = []
    for record in parent.glob(f"*/{RECORD}"):
        with suppress(OSError):
            found.append((record.stat().st_mtime, str(record.parent)))
    return [RunFolder(Path(folder)) for _, folder in sorted(found, reverse=True)]


def latest_run(config: Config) -> Path:
    """Folder of the run that a command means which names none: `run_name`, else the newest of model and data set.

    Raises:
        CheckpointError: there is none.
    """
    parent = Path(config.saved_dir) / f"{config.model_name}-{config.dataset}"
    runs = newest_first(parent)
    if config.run_name and (parent / config.run_name).is_dir():
        return parent / config.run_name
    if not runs:
        raise CheckpointError(f"{parent}: no trained run here; name one with --checkpoint=RUN_FOLDER_OR_FILE")
    return runs[0].path


def note_licence(checkpoint: Path, licence: str) -> None:
    """Write beside an imported checkpoint what limits its use, for those who do not read all of it.

    Raises:
        OutputError: it cannot be written.
    """
    note = checkpoint.with_name(f"{checkpoint.name}.json")
    if licence:
        write_text(note, json.dumps({"licence": licence}) + "\n")
    else:
        note.unlink(missing_ok=True)


def noted_licence(checkpoint: Path) -> str:
    """What `note_licence` wrote; empty where there is nothing."""
    try:
        return str(read_json(checkpoint.with_name(f"{checkpoint.name}.json")).get("licence") or "")
    except (DataError, AttributeError):
        return ""
