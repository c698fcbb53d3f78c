"""Disks of some kilobytes, for what happens when they are full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# What every child begins with: `small(size)` mounts another disk on `root`, `grow(size)` makes it larger.
HEAD = """
import subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
root = Path(sys.argv[2])

def _mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", root], check=True)

def small(size):
    subprocess.run(["umount", root], stderr=subprocess.DEVNULL)
    _mount(f"size={size}k")

def grow(size):
    _mount(f"remount,size={size}k")

def tell(*values):
    print(*values, file=sys.stderr)

def left():
    names = (".talkingface-", ".making-", ".at-work")
    return [path.name for path in root.rglob(".*") if path.name.startswith(names)]
"""


def may_mount() -> bool:
    """Whether this system lets us make a small disk, in a name space of our own."""
    if not all(map(shutil.which, ("unshare", "mount"))):
        return False
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


def run_on_small_disks(code: str, root: Path, *arguments: object, plugins: Sequence[str] = ()) -> list[str]:
    """What `code` says on stderr, line by line, in a process that may mount small disks on `root`."""
    if not may_mount():
        pytest.skip("no small disk can be mounted here")
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "TALKINGFACE_PLUGINS": ",".join(plugins)}
    command = ["unshare", "-rm", sys.executable, "-c", HEAD + code, str(TESTS), str(root), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()


def errors_of(lines: list[str]) -> list[str]:
    """The one line of every command that failed."""
    return [line for line in lines if line.startswith("error: ")]
