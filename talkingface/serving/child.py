"""A process that answers one question at a time, and that can be ended at any moment without harm to the server.

Questions and answers are JSON, pieces of films are bytes: nothing that a child sends is unpickled, for native code that
read somebody's file has run in it.
"""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from talkingface.errors import TalkingFaceError, out_of_memory
from talkingface.workers import WorkerDied, end_processes, start_worker

log = logging.getLogger("talkingface")

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0  # for a child that was asked to stop
_JSON, _BYTES = b"j", b"b"


class TimeLimit(Exception):
    """A child took longer than it may, and was ended."""


class Stopped(Exception):
    """The work was stopped because nobody wants it any more."""


class Refused(Exception):
    """What the child says about its input, in one line for the user; `ours`: the fault is not the user's."""

    def __init__(self, message: str, ours: bool = False) -> None:
        super().__init__(message)
        self.ours = ours


class Line:
    """One end of the connection between server and child."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: dict[str, Any] | bytes) -> None:
        """Send plain data, or a piece of a file."""
        is_bytes = isinstance(message, bytes)
        self._connection.send_bytes(_BYTES + message if is_bytes else _JSON + json.dumps(message).encode())

    def receive(self) -> dict[str, Any] | bytes:
        """Wait for the next message.

        Raises:
            EOFError: the other end is gone.
        """
        message = self._connection.recv_bytes()
        return message[1:] if message[:1] == _BYTES else json.loads(message[1:])

    def waits(self, seconds: float = 0.0) -> bool:
        """Whether a message is there within so many seconds."""
        return self._connection.poll(seconds)

    def go_on(self) -> None:
        """Raise `Stopped` where the server has asked for that; for the child, between two pieces of its work."""
        if self.waits() and self.receive() == {"stop": True}:
            raise Stopped


Answer = Callable[[dict[str, Any], Line], dict[str, Any]]


def run_child(connection: Connection, maker: str, *args: Any) -> None:
    """The whole life of a child: make what answers, then answer until the server is gone.

    Args:
        connection: to the server.
        maker: `module:function` of a function that is called once with `args`.
        *args: plain data.
    """
    start_worker()
    logging.getLogger("talkingface").setLevel("WARNING")
    line = Line(connection)
    try:
        module, _, function = maker.partition(":")
        answer: Answer = getattr(importlib.import_module(module), function)(*args)
        while True:
            question = line.receive()
            if question == {"stop": True}:  # came after the answer to what it was meant for
                continue
            line.send(_answered(answer, question, line))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answered(answer: Answer, question: Any, line: Line) -> dict[str, Any]:
    try:
        return {"done": answer(question, line)}
    except Stopped:
        return {"stopped": True}
    except TalkingFaceError as error:
        return {"refused": str(error), "ours": False}
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        if advice := out_of_memory(error):
            return {"refused": advice, "ours": False}
        log.exception("a generation failed")
        return {"refused": "the server has failed at this input; its log says where", "ours": True}


class Child:
    """The server's side: starts the process when it is needed, asks it, ends it.

    `restarts` counts the processes after the first one, `faults` how often they failed, died or took too long since the
    last answer.

    Args:
        name: for messages.
        maker: `module:function` of the function that makes what answers; the server itself does not import the module,
            and so does without torch and the models.
        *args: for that function, plain data.
    """

    def __init__(self, name: str, maker: str, *args: Any) -> None:
        self.name, self._maker, self._args = name, maker, args
        self.restarts = 0
        self.faults = 0
        self._process: BaseProcess | None = None
        self._line: Line | None = None
        self._one_at_a_time = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.is_alive()

    def ask(
        self,
        question: dict[str, Any],
        seconds: float,
        told: Callable[[dict[str, Any] | bytes], None] | None = None,
        wanted: Callable[[], bool] = lambda: True,
        also: Callable[[Line], None] | None = None,
        look_seconds: float = _POLL_SECONDS,
    ) -> dict[str, Any]:
        """Ask, and wait for the answer.

        Args:
            question: plain data.
            seconds: that the answer may take; then the process is ended.
            told: called with what the child says on the way.
            wanted: asked now and then; once it says no the child is told to stop, and ended if it does not.
            also: called now and then with the line, to send more.
            look_seconds: between two calls of `wanted` and `also` while the child says nothing.

        Raises:
            Refused: the input is no good, or the child failed at it.
            Stopped: nobody wanted it any more.
            TimeLimit: it took too long.
            WorkerDied: the process ended without an answer.
        """
        with self._one_at_a_time:
            line = self._started()
            try:
                line.send(question)
                answer = self._wait(line, seconds, told or _ignore, wanted, also or _ignore, look_seconds)
            except (EOFError, OSError) as error:
                self.faults += 1
                self._end()
                raise WorkerDied(f"the {self.name} process ended without an answer") from error
            except Refused as error:
                if error.ours:  # it may be one that lasts as long as the process, as most errors of CUDA do
                    self.faults += 1
                    self._end()
                raise
            except TimeLimit:  # a device that hangs ends every question like this
                self.faults += 1
                raise
            except Stopped:
                raise
            except BaseException:  # what it still says would be taken for the answer to the next question
                self._end()
                raise
            self.faults = 0
            return answer

    def _wait(
        self,
        line: Line,
        seconds: float,
        told: Callable[[dict[str, Any] | bytes], None],
        wanted: Callable[[], bool],
        also: Callable[[Line], None],
        look_seconds: float,
    ) -> dict[str, Any]:
        deadline, stopping = time.monotonic() + seconds, False
        while True:
            also(line)
            if line.waits(look_seconds):
                message = line.receive()
                if isinstance(message, dict) and (message.keys() & {"done", "stopped", "refused"}):
                    return _result(message)
                told(message)
            if not stopping and not wanted():
                stopping, deadline = True, min(deadline, time.monotonic() + _PATIENCE_SECONDS)
                line.send({"stop": True})
            if time.monotonic() > deadline:
                self._end()
                raise Stopped if stopping else TimeLimit(f"the {self.name} process took more than {seconds:.0f} s")

    def _started(self) -> Line:
        if self._process is not None and self._process.is_alive() and self._line is not None:
            return self._line
        if self._process is not None:
            self.restarts += 1
            self._end()
        context = multiprocessing.get_context("spawn")  # threads run here, which do not survive a fork
        ours, theirs = context.Pipe()
        process = context.Process(
            target=run_child, args=(theirs, self._maker, *self._args), name=self.name, daemon=True
        )
        process.start()
        theirs.close()
        self._process, self._line = process, Line(ours)
        return self._line

    def _end(self) -> None:
        if self._process is not None:
            end_processes([self._process])
            self._line = None  # nothing is said any more to one that the system has not ended yet

    def close(self) -> None:
        """End the process."""
        self._end()


def _ignore(_: Any) -> None:
    """For whoever has nothing to do with it."""


def _result(message: dict[str, Any]) -> dict[str, Any]:
    if "stopped" in message:
        raise Stopped
    if "refused" in message:
        raise Refused(str(message["refused"]), bool(message.get("ours")))
    return message["done"]
