"""The command line: the table of commands, and what happens to their errors.

A command is one entry here and one function in its own module, which reads the command line, calls the library, prints
and returns the exit code. Modules of commands are imported for every command, so they import what loads torch only
where they use it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from talkingface.cli.arguments import Command, parse
from talkingface.cli.benchmark import BENCHMARK
from talkingface.cli.compare import COMPARE
from talkingface.cli.data import CONVERT_DATA, DEMO_DATA
from talkingface.cli.deepspeech import CONVERT_DEEPSPEECH
from talkingface.cli.doctor import DOCTOR
from talkingface.cli.evaluate import EVALUATE
from talkingface.cli.expert import CHECK_EXPERT
from talkingface.cli.export import EXPORT
from talkingface.cli.generate import GENERATE
from talkingface.cli.names import LIST
from talkingface.cli.publish import PUBLISH
from talkingface.cli.puppet import PUPPET
from talkingface.cli.run import PREPROCESS, RUN, TRAIN
from talkingface.cli.serve import SERVE
from talkingface.cli.sweep import SWEEP
from talkingface.cli.weights import IMPORT, WEIGHTS
from talkingface.errors import TalkingFaceError, out_of_memory, printable
from talkingface.packages import import_failure
from talkingface.version import __version__

COMMANDS: dict[str, Command] = {
    "run": RUN,
    "preprocess": PREPROCESS,
    "train": TRAIN,
    "evaluate": EVALUATE,
    "sweep": SWEEP,
    "compare": COMPARE,
    "weights": WEIGHTS,
    "generate": GENERATE,
    "serve": SERVE,
    "export": EXPORT,
    "publish": PUBLISH,
    "demo-data": DEMO_DATA,
    "import": IMPORT,
    "list": LIST,
    "check-expert": CHECK_EXPERT,
    "doctor": DOCTOR,
    "convert-data": CONVERT_DATA,
    "puppet": PUPPET,
    "convert-deepspeech": CONVERT_DEEPSPEECH,
    "benchmark": BENCHMARK,
}

DEFAULT = "run"
"""The command where none is named."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 a check failed (self-test, `doctor`, `check-expert`), 2 an error the user can mend; 128
        and the number of the signal after one that ends programs: 130 Ctrl-C, 143 SIGTERM, 129 a closed terminal.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    _print_any_name()
    before = _end_as_by_ctrl_c()
    try:
        with contextlib.redirect_stdout(_Shown(sys.stdout)):
            return _run(argv)
    except TalkingFaceError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        kept, number = COMMANDS[_command(argv)].kept, getattr(interrupt, "signal", signal.SIGINT)
        what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print(f"{what}; {kept}" if kept else what, file=sys.stderr)
        return 128 + number
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; silence the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if advice := out_of_memory(error) or import_failure(error):
            print(f"error: {advice}", file=sys.stderr)
            return 2
        if not isinstance(error, OSError) or error.errno is None:
            raise
        what = f"{error.filename}: " if error.filename else ""
        print(f"error: {printable(what)}{os.strerror(error.errno)}", file=sys.stderr)
        return 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(argv: Sequence[str]) -> int:
    if argv == ["--version"]:
        print(f"talkingface {__version__}")
        return 0
    arguments = parse(argv, COMMANDS, DEFAULT)
    if arguments["help"] or not argv:
        print(help_text(argv[0] if argv and not argv[0].startswith("-") else None))
        return 0
    _set_up_logging(str(arguments.overrides.get("log_level", "info")))
    code = COMMANDS[arguments.command].run(arguments) or 0
    sys.stdout.flush()  # what waits there may not fit on the disk
    return code


class _Shown:
    """Standard output on which names cannot steer the terminal; in all else it is the stream that it stands for."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, with escapes for what would not be seen."""
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _ToStderr(logging.StreamHandler):
    """Writes to what standard error is at the moment, which callers and tests may exchange."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """Standard error."""
        return sys.stderr


class _ShownLines(logging.Formatter):
    """Log lines in which names cannot steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(super().format(record))


class _Ended(KeyboardInterrupt):
    """A signal that ends programs, other than Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


def _end_as_by_ctrl_c() -> dict[int, Any]:
    """Let SIGTERM (Slurm, Docker) and SIGHUP (a closed terminal) unwind the program, so that nothing is left half made.

    Returns:
        The handlers of before, by signal. A signal that is ignored, as by `nohup`, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}  # only there may handlers be set

    def end(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: cleaning up is not to be interrupted
        raise _Ended(number)

    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    default = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    return {number: signal.signal(number, end) for number in default}


def _command(argv: Sequence[str]) -> str:
    return argv[0] if argv and argv[0] in COMMANDS else DEFAULT


def _print_any_name() -> None:
    """Let a file name that the terminal cannot show be printed with escapes; stderr does so anyway."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def help_text(command: str | None = None) -> str:
    """The overview, or one command's options."""
    if command is None or command not in COMMANDS:
        rows = "\n".join(f"  {name:<19} {known.line}" for name, known in COMMANDS.items())
        return (
            "usage: python run_talkingface.py [command] --model=NAME --dataset=NAME [--any.key=value ...]\n\n"
            f"commands:\n{rows}\n\n"
            "Any configuration key can follow, as --key=value or --key value: --stage=landmark --seed=1\n"
            "--stages.render.batch_size=4 --train=False --evaluate_model_file=FILE --resume=auto. See\n"
            "properties/overall.yaml for all keys, `COMMAND --help` for the options of one command, and --version.\n\n"
            "try now: python run_talkingface.py --model=IPLAP --dataset=demo"
        )
    chosen = COMMANDS[command]
    rows = []
    for option in chosen.options:
        default = f" [{option.default}]" if option.default is not None and not option.flag else ""
        rows.append(f"  --{option.name + ('' if option.flag else '=...'):<20} {option.help}{default}")
    if chosen.takes_keys:
        rows.append("  --any.key=value        a configuration key, see properties/overall.yaml")
    return f"{command}: {chosen.line}\n\n" + "\n".join(rows)


def _set_up_logging(level: str) -> None:
    logger = logging.getLogger("talkingface")
    if not logger.handlers:
        handler = _ToStderr()
        handler.setFormatter(_ShownLines("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(level.upper() if level in ("debug", "info", "warning", "error") else "INFO")
