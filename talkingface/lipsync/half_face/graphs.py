"""What goes in and out of an exported generator that redraws the lower half of a face."""

from __future__ import annotations

from typing import TYPE_CHECKING

from talkingface.lipsync.expert.graphs import MEL_WINDOW
from talkingface.plugin.graphs import Port

if TYPE_CHECKING:
    from talkingface.lipsync.half_face.config import HalfFaceConfig


def generator_inputs(config: HalfFaceConfig) -> tuple[Port, Port]:
    """Sound and faces, as `HalfFaceNetworks.generator` takes them."""
    side = config.crop.size
    about = "face crop with its lower half (rows from S/2 on) zeroed: channels 0-2; a reference face: channels 3-5"
    return MEL_WINDOW, Port("faces", ("batch", 6, side, side), about, 0.0, 1.0, "BGR")


def drawn_faces(side: int) -> Port:
    """The faces that a generator draws."""
    return Port("drawn", ("batch", 3, side, side), "whole face crop, lower half redrawn", 0.0, 1.0, "BGR")
