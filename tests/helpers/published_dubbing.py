"""LawDNet and its data in their published form, for comparison: what is computed, decoded and parsed more often."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from talkingface.models.lawdnet.networks.generator import LawDNetGenerator
from talkingface.models.lawdnet.networks.warp import LocalAffineWarp

CLIP = 9  # frames of an entry of the published list


def published_generator(
    generator: LawDNetGenerator,
    source: Tensor,
    references: Tensor,
    audio: Tensor,
    warp: Callable[[LocalAffineWarp, Tensor, Tensor], Tensor],
) -> Tensor:
    """Faces (B, 3, H, W) that a generator with all quirks draws, references encoded for every frame, in every round.

    Args:
        generator: with dead layers, which are evaluated here.
        source: (B, 3, H, W).
        references: (B, 15, H, W).
        audio: (B, 29, 5).
        warp: how maps are warped.
    """
    face, maps = generator.source_in_conv(source), generator.ref_in_conv(references)
    code = generator.code(face, maps, audio)
    for layers, law in zip(generator.appearance_conv_list, generator.lawLayer_list):
        moved = warp(law, layers(maps), code)
    return generator.out_conv(torch.cat([face, moved], dim=1))


def decoded(data: bytes, size_hw: tuple[int, int]) -> Tensor:
    """A crop (3, H, W) in [0, 1] of a JPEG file: decoded whole, made float64, then resized."""
    import cv2

    picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    picture = cv2.resize(picture / 255.0, size_hw[::-1])
    return torch.from_numpy(picture).permute(2, 0, 1).float()


def listed(rows: np.ndarray) -> str:
    """Rows (F, 29) in the published list of training data, with the names of their pictures."""
    names = [[f"video/{c:06d}/{c * CLIP + k:06d}.jpg" for k in range(CLIP)] for c in range(len(rows) // CLIP)]
    clips = [
        {"frame_name_list": name, "frame_path_list": name, "deep_speech_list": rows[c * CLIP : (c + 1) * CLIP].tolist()}
        for c, name in enumerate(names)
    ]
    return json.dumps({"video": {"video_clip_num": len(clips), "clip_data_list": clips}})


def parsed(text: str) -> np.ndarray:
    """The rows of such a list."""
    clips = json.loads(text)["video"]["clip_data_list"]
    return np.array([row for clip in clips for row in clip["deep_speech_list"]], np.float32)
