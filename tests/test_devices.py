"""Where a run computes."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from talkingface.devices import resolve_inference_precision, resolve_precision
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
