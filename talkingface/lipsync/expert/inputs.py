"""What a lip-sync expert reads of a clip: the mel, and how faces are cut for it.

Models that are trained against an expert read the same.
"""

from __future__ import annotations

from typing import Any

from talkingface.faces.crop import CropConfig
from talkingface.sound.mel import MelConfig

MEL = "mel@reflect"
"""Artefact of the spectrogram; as a published expert learnt it, from librosa before 0.9, its ends are reflected."""

MEL_CONFIG = MelConfig(pad_mode="reflect")

CROP = CropConfig(size=96, margin_mode="relative", margin=0.05, box="fixed", rule="mesh")
"""Of experts trained here, unless their `model.crop` says otherwise."""

PUBLISHED_CROP = CROP.model_copy(update={"margin": 0.0, "box": "frame"})
"""Of published experts, which learnt from the detector's boxes as they are; with another detector than s3fd the box
differs."""

PUBLISHED_SETTINGS = {f"crop.{name}": getattr(PUBLISHED_CROP, name) for name in ("margin", "box", "rule")}
"""The same as settings of a model that is to read published weights."""


def expert_artefacts(crop: CropConfig) -> tuple[str, ...]:
    """What preprocessing makes of every clip; the landmarks are for scoring."""
    return ("audio", MEL, "landmarks", crop.artefact)


def expert_steps(crop: CropConfig) -> dict[str, dict[str, Any]]:
    """Parameters of the steps that make them."""
    return {crop.artefact: crop.model_dump(), MEL: {"pad_mode": MEL_CONFIG.pad_mode}}
