"""LawDNet and DINet beside their published form, in pairs in one process: the table of docs/benchmarks.md.

PYTHONPATH=.:tests python tests/benchmark/dubbing_pairs.py [PART ...]
"""

from __future__ import annotations

import ctypes
import gc
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from helpers.clips import portrait
from helpers.dubbing_clips import make_clip
from helpers.pairs import tell
from helpers.published_dubbing import decoded, listed, parsed, published_generator
from helpers.published_warp import published_form
from talkingface.benchmark.timing import Pair, paired
from talkingface.clips.crop_pictures import decode, encode_jpeg
from talkingface.models.dinet.networks.generator import DINetGenerator
from talkingface.models.lawdnet.networks.generator import LawDNetGenerator
from talkingface.models.lawdnet.networks.quirks import Quirks
from talkingface.models.lawdnet.networks.warp import LocalAffineWarp
from talkingface.networks.dubbing.geometry import mouth_crop

Form = Callable[[LocalAffineWarp, torch.Tensor, torch.Tensor], torch.Tensor]

SECONDS = 8.0  # for each pair
FRAMES = 9999  # of the rows that are read
SMALL = (104, 80)  # the crop of a mouth of 64 px


def warp(size: tuple[int, int] = (104, 80)) -> Pair:
    """A warp of 256 channels forward and backward, at the maps of 416x320; also its largest memory."""
    network, code = LocalAffineWarp(256, 256, Quirks.of("published")), torch.randn(1, 256)
    maps = torch.rand(1, 256, *size, requires_grad=True)
    slow, fast = (partial(_there_and_back, form, maps, code) for form in (partial(published_form, network), network))
    print(f"  largest memory {peak_mib(slow):.0f} -> {peak_mib(fast):.0f} MiB")
    return paired(slow, fast, SECONDS)


def warp_forward(size: tuple[int, int] = (104, 80)) -> Pair:
    """The same without the way back."""
    network, code = LocalAffineWarp(256, 256, Quirks.of("published")).requires_grad_(False), torch.randn(1, 256)
    slow, fast = (
        partial(form, torch.rand(1, 256, *size), code) for form in (partial(published_form, network), network)
    )
    print(f"  largest memory {peak_mib(slow):.0f} -> {peak_mib(fast):.0f} MiB")
    return paired(slow, fast, SECONDS)


def small_warp() -> Pair:
    """Forward and backward at the maps of 104x80, smaller than the field."""
    return warp((26, 20))


def generator() -> Pair:
    """A frame of 416x320: every round evaluated and references encoded with it, against neither; both warp as ours."""
    return _frame(LocalAffineWarp.forward)


def generator_and_warp() -> Pair:
    """The same with the published warp, too."""
    return _frame(published_form)


def both_with_published_warp() -> Pair:
    """Skipping and keeping alone: both ways warp as published."""
    return _frame(published_form, ours=published_form)


def small_generator() -> Pair:
    """A frame of 104x80 as published, against ours."""
    return _frame(published_form, mouth=64)


def decoding() -> Pair:
    """A crop of 832x640 for mouths of 64 px: decoded whole and resized in float64, or no larger than needed."""
    size, data = (832, 640), _crop_file((832, 640), published=True)
    return paired(lambda: decoded(data, SMALL), lambda: _ours(data, size), 5.0)


def decoding_stored() -> Pair:
    """The same against a crop as this toolkit stores it, 468x360, with whole colours."""
    size, data = (468, 360), _crop_file((468, 360))
    theirs = _crop_file((832, 640), published=True)
    return paired(lambda: decoded(theirs, SMALL), lambda: _ours(data, size), 5.0)


def rows() -> Pair:
    """Rows of features of 400 s: parsed from the published list, against an array read with its clip's description."""
    values = np.random.default_rng(0).normal(size=(FRAMES, 29)).astype(np.float32)
    text = listed(values)
    with tempfile.TemporaryDirectory() as name:
        clip = make_clip(Path(name), count=FRAMES // 2)
        key = next(key for key in clip.meta["steps"] if key.startswith("features@"))
        np.save(clip.path / f"{key}.npy", values)
        print(f"  {len(text) / 1e6:.1f} MB of text, {values.nbytes / 1e6:.1f} MB of numbers")
        theirs, ours = (peak_mib(way) for way in (lambda: parsed(text), lambda: clip.features(key)))
        print(f"  largest memory {theirs:.1f} -> {ours:.1f} MiB")
        return paired(lambda: parsed(text), lambda: clip.features(key), 5.0)


def frames() -> Pair:
    """Seconds per frame of 416x320 with references kept, float32: DINet, then LawDNet with its norm."""
    known = []
    for kind in (DINetGenerator, LawDNetGenerator):
        network, (source, references, audio) = kind().eval().requires_grad_(False), _inputs(256)
        known.append(partial(network, source, network.encode(references), audio))
    return paired(*known, SECONDS)


def _inputs(mouth: int) -> tuple[torch.Tensor, ...]:
    crop = mouth_crop(mouth)
    shapes = ((3, crop.height, crop.width), (15, crop.height, crop.width), (29, 5))
    return tuple(torch.rand(1, *shape) for shape in shapes)


def _frame(theirs: Form, ours: Form | None = None, mouth: int = 256) -> Pair:
    network, inputs = LawDNetGenerator(compat="published").eval().requires_grad_(False), _inputs(mouth)
    source, references, audio = inputs
    known, last = network.encode(references), network.lawLayer_list[-1]
    slow = partial(published_generator, network, *inputs, theirs)
    wanted = slow()
    if ours is not None:
        last.forward = partial(ours, last)
    fast = partial(network, source, known, audio)
    print(f"  largest difference {float((wanted - fast()).abs().max()):.1e}")
    return paired(slow, fast, SECONDS)


def _crop_file(size_hw: tuple[int, int], published: bool = False) -> bytes:
    """A face as JPEG of that size; published ones have halved colours."""
    cv2.setNumThreads(1)
    picture = cv2.resize(portrait()[20:, 20:180], size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes() if published else encode_jpeg(picture)
    print(f"  {len(data) / 1000:.0f} kB")
    return data


def _ours(data: bytes, size_hw: tuple[int, int]) -> torch.Tensor:
    return torch.from_numpy(decode(data, "jpeg", size_hw, SMALL)).permute(2, 0, 1).float() / 255


def _there_and_back(form: Callable[..., torch.Tensor], maps: torch.Tensor, code: torch.Tensor) -> None:
    form(maps, code).sum().backward()


def peak_mib(work: Callable[[], object]) -> float:
    """Largest memory of this process while it works, beyond what it had before, in MiB; on Linux."""
    work()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


PARTS = {
    part.__name__: part
    for part in (
        warp,
        small_warp,
        warp_forward,
        generator,
        both_with_published_warp,
        generator_and_warp,
        small_generator,
        decoding,
        decoding_stored,
        rows,
        frames,
    )
}

if __name__ == "__main__":
    tell(PARTS)
