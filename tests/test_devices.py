"""Where a run computes."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from talkingface import devices
from talkingface.devices import limit_threads, resolve_inference_precision, resolve_precision, take_threads_of
from talkingface.models.iplap.config import IPLAPConfig
from talkingface.models.wav2lip.config import Wav2LipConfig
from talkingface.plugin.contract import TalkingFaceModel

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


def processor(monkeypatch, *abilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(abilities, True), raising=False)
    return torch.device("cpu")


@pytest.mark.parametrize(
    ("abilities", "training", "drawing"),
    [
        (("avx512_bf16", "amx_tile", "amx_bf16"), "bf16", "bf16"),
        (("avx512_bf16",), "bf16", "32"),  # bf16 without matrix units draws slower than float32
        ((), "32", "32"),
    ],
)
def test_bf16_auto_goes_by_the_processor(monkeypatch, abilities, training, drawing):
    cpu = processor(monkeypatch, *abilities)
    assert resolve_precision("bf16-auto", cpu) == training
    assert resolve_inference_precision("bf16-auto", cpu) == drawing
    for wanted in ("32", "bf16"):
        assert resolve_inference_precision(wanted, cpu) == wanted


@pytest.mark.parametrize(("generation", "drawing"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "32")])
def test_bf16_auto_goes_by_the_generation_of_a_gpu(monkeypatch, generation, drawing):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert resolve_inference_precision("bf16-auto", torch.device("cuda")) == drawing


@pytest.mark.parametrize("config", [IPLAPConfig(), Wav2LipConfig()])
def test_a_model_says_how_precisely_it_draws(monkeypatch, config):
    """`bf16-auto` unless something else is asked for."""
    model = TalkingFaceModel()
    assert model.inference_precision == "32"
    model.config = config
    for abilities, precision in ((("amx_bf16",), "bf16"), ((), "32")):
        processor(monkeypatch, *abilities)
        assert model.inference_precision == precision
    asked = config.inference.model_copy(update={"precision": "bf16"})
    model.config = config.model_copy(update={"inference": asked})
    assert model.inference_precision == "bf16"


@pytest.fixture
def threads(monkeypatch):
    """What torch is set to, of 4 at the beginning on 4 cores; nobody has fixed their number."""
    known = [4]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "own_cores", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(torch, "get_num_threads", lambda: known[-1])
    monkeypatch.setattr(torch, "set_num_threads", known.append)
    return known


@pytest.mark.parametrize(("busy", "left"), [(0.0, 4), (0.4, 4), (1.0, 3), (2.6, 1), (7.0, 1)])
def test_threads_leave_busy_cores_to_others(threads, monkeypatch, busy, left):
    monkeypatch.setattr(devices, "cores_in_use", lambda: busy)
    limit_threads(None)
    assert threads[-1] == left
    limit_threads(2)
    assert threads[-1] == 2


def test_a_number_of_threads_in_the_environment_stays(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr(devices, "cores_in_use", lambda: 3.0)
    limit_threads(None)
    take_threads_of(2, None)
    assert threads == [4]


def test_a_resumed_run_takes_its_own_number_of_threads_unless_asked(threads):
    take_threads_of(None, None)
    take_threads_of(-7, None)
    take_threads_of(2, 3)
    assert threads == [4]
    take_threads_of(1, None)
    take_threads_of(64, None)
    assert threads[-2:] == [1, 4]


def test_own_work_does_not_count_as_that_of_others(monkeypatch, tmp_path):
    ticks = devices.os.sysconf("SC_CLK_TCK") if hasattr(devices.os, "sysconf") else 100
    file = tmp_path / "stat"
    ours = f"cpu2 {3 * ticks} {ticks} {ticks} {90 * ticks} {ticks} 0 0 {ticks} 0 0\n"
    file.write_text(f"cpu  {99 * ticks} 0 0 0 0 0 0 0 0 0\ncpu0 {9 * ticks} 0 0 0 0 0 0 0 0 0\n{ours}intr 1 2 3\n")
    monkeypatch.setattr(devices, "_STAT", file)
    monkeypatch.setattr(devices, "own_cores", lambda: {2})  # what others do on cores that are not ours is their affair
    assert devices._busy_seconds() == 6
    clocks = {"monotonic": [0.0, 2.0], "process_time": [5.0, 6.5]}
    clock = SimpleNamespace(sleep=lambda _: None, **{name: iter(values).__next__ for name, values in clocks.items()})
    monkeypatch.setattr(devices, "time", clock)
    monkeypatch.setattr(devices, "_busy_seconds", iter([10.0, 13.5]).__next__)
    assert devices.cores_in_use(0.0) == 1.0
    monkeypatch.setattr(devices, "_STAT", tmp_path / "absent")
    assert devices.cores_in_use(0.0) == 0.0
