"""Commands in processes of their own whose memory is measured."""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path

from talkingface.cli.commands import main


def run_command(argv: list[str], folder: str, log: str, told: str) -> None:
    """Run a command in `folder`, its output in `log`; ends the process with its exit code.

    The most memory that was resident, in KiB, is written to `told`.
    """
    code = 70
    try:
        os.chdir(folder)
        with Path(log).open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = main(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        Path(told).write_text(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
