"""The list of jobs in an SQLite file: it outlives the server, however that ends."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from talkingface.errors import DataError, OutputError
from talkingface.serving.job import ENDED, Job, State

MOST_ENDS = 5
"""Of servers, in the middle of one job, after which it is not begun again."""

_VERSION = 1
_COLUMNS = tuple(entry.name for entry in fields(Job))
_TABLE = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, model TEXT NOT NULL, source TEXT NOT NULL,
    audio TEXT NOT NULL, frames INTEGER NOT NULL, visible_mark INTEGER NOT NULL, mute INTEGER NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, began REAL, ended REAL, deaths INTEGER NOT NULL, error TEXT NOT NULL
);
CREATE INDEX by_state ON jobs (state, number);
"""


class QueueFull(Exception):
    """As many jobs wait as may."""


class JobStore:
    """All jobs, each change on the disk before the call comes back. Any thread may call.

    Args:
        path: the file; it is made where it is missing.

    Raises:
        DataError: the file is damaged, or of another version.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._named():
            # One connection for all threads, one at a time: it is asked for rows, not for work.
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._file.row_factory = sqlite3.Row
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._set_up()

    def _set_up(self) -> None:
        version = self._file.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._file.executescript(f"BEGIN; {_TABLE} PRAGMA user_version={_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise DataError(f"{self.path}: a list of jobs of version {version}, {_VERSION} is read; move the file away")

    def close(self) -> None:
        """Close the file; nothing may be asked afterwards."""
        with self._lock:
            self._file.close()

    def add(self, job: Job, most_waiting: int) -> None:
        """Put a job at the end of the queue.

        Raises:
            QueueFull: `most_waiting` jobs wait already.
        """
        names, places = ", ".join(_COLUMNS), ", ".join(f":{name}" for name in _COLUMNS)
        with self._change() as file:
            if _count(file, "queued") >= most_waiting:
                raise QueueFull
            file.execute(f"INSERT INTO jobs ({names}) VALUES ({places})", asdict(job))

    def find(self, job_id: str) -> Job | None:
        """A job by its name."""
        rows = self._rows("SELECT * FROM jobs WHERE id = ?", job_id)
        return rows[0] if rows else None

    def claim(self) -> Job | None:
        """Take the job that has waited longest and call it running; None where none waits."""
        with self._change() as file:
            row = file.execute("SELECT id FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1").fetchone()
            if row is None:
                return None
            file.execute("UPDATE jobs SET state = 'running', began = ? WHERE id = ?", (time.time(), row["id"]))
            return _job(file.execute("SELECT * FROM jobs WHERE id = ?", (row["id"],)).fetchone())

    def end(self, job_id: str, state: State, error: str = "") -> bool:
        """Call a job done, failed or cancelled; False where it has ended before."""
        with self._change() as file:
            changed = file.execute(
                "UPDATE jobs SET state = ?, error = ?, ended = ? WHERE id = ? AND state IN ('queued', 'running')",
                (state, error, time.time(), job_id),
            )
            return changed.rowcount > 0

    def put_back(self, job_id: str, died: bool = False) -> bool:
        """Let a running job wait again, at its old place; False where it has ended before.

        Args:
            job_id: its name.
            died: its worker process ended without an answer.
        """
        with self._change() as file:
            changed = file.execute(
                "UPDATE jobs SET state = 'queued', began = NULL, deaths = deaths + ?"
                " WHERE id = ? AND state = 'running'",
                (int(died), job_id),
            )
            return changed.rowcount > 0

    def recover(self) -> int:
        """Let what a server before was working on wait again; how many these were.

        A server that was ended so many times over one job was ended by it, as where a container goes down as a whole
        when its memory is used up; the next one would be, too.
        """
        with self._change() as file:
            ended = f"the server was ended {MOST_ENDS} times while it worked on this (out of memory?)"
            file.execute(
                "UPDATE jobs SET state = 'failed', error = ?, ended = ? WHERE state = 'running' AND deaths + 1 >= ?",
                (ended, time.time(), MOST_ENDS),
            )
            again = "UPDATE jobs SET state = 'queued', began = NULL, deaths = deaths + 1 WHERE state = 'running'"
            return file.execute(again).rowcount

    def ahead(self, job_id: str) -> list[Job]:
        """Jobs that wait before this one, the first to come first."""
        return self._rows(
            "SELECT * FROM jobs WHERE state = 'queued' AND number < (SELECT number FROM jobs WHERE id = ?)"
            " ORDER BY number",
            job_id,
        )

    def in_state(self, *states: State, before: float | None = None) -> list[Job]:
        """Jobs in any of these states, the oldest first; with `before` only those that ended before that time."""
        marks = ", ".join("?" * len(states))
        ended = "" if before is None else " AND ended < ?"
        given: Sequence[Any] = states if before is None else (*states, before)
        return self._rows(f"SELECT * FROM jobs WHERE state IN ({marks}){ended} ORDER BY number", *given)

    def expire(self, job_id: str) -> None:
        """Say that the result of a job that was done is no longer there."""
        with self._change() as file:
            file.execute("UPDATE jobs SET state = 'expired' WHERE id = ? AND state = 'done'", (job_id,))

    def forget(self, before: float) -> None:
        """Remove the rows of what ended before a time."""
        marks = ", ".join("?" * len(ENDED))
        with self._change() as file:
            file.execute(f"DELETE FROM jobs WHERE state IN ({marks}) AND ended < ?", (*ENDED, before))

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._named(), self._lock:
            rows = self._file.execute("SELECT state, COUNT(*) AS many FROM jobs GROUP BY state").fetchall()
        return {row["state"]: row["many"] for row in rows}

    def _rows(self, query: str, *values: Any) -> list[Job]:
        with self._named(), self._lock:
            return [_job(row) for row in self._file.execute(query, values).fetchall()]

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Within: a transaction, which is on the disk at the end and undone after an error."""
        with self._named(), self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OutputError(f"{self.path}: cannot be written ({error}); is the disk full?") from error
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self.path}: no list of jobs ({error}); move the file away") from error


def _count(file: sqlite3.Connection, state: State) -> int:
    return file.execute("SELECT COUNT(*) FROM jobs WHERE state = ?", (state,)).fetchone()[0]


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in _COLUMNS}
    return Job(**{**values, "visible_mark": bool(row["visible_mark"]), "mute": bool(row["mute"])})
