"""Where a run computes."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MAPPED = """
import ctypes, sys, torch
from talkingface.devices import keep_freed_memory

NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info

def mapped():
    before = mallinfo().hblkhd
    held = torch.ones(5 * 2**20)  # 20 MiB
    return mallinfo().hblkhd - before

if "keep" in sys.argv:
    keep_freed_memory()
print(mapped())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone")
def test_large_tensors_come_from_memory_that_is_kept_instead_of_fresh_pages():
    run = [sys.executable, "-c", MAPPED]
    usual, kept = (
        int(subprocess.run([*run, *words], capture_output=True, text=True, check=True).stdout)
        for words in ([], ["keep"])
    )
    assert usual >= 20 * 2**20
    assert kept == 0
