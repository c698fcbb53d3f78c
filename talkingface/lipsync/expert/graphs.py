"""What goes in and out of an exported lip-sync expert."""

from __future__ import annotations

from typing import TYPE_CHECKING

from talkingface.plugin.graphs import Graph, Port

if TYPE_CHECKING:
    from talkingface.faces.crop import CropConfig
    from talkingface.networks.sync_expert import SyncExpert

MEL_WINDOW = Port("mel", ("batch", 1, 80, 16), "log-mel of 0.2 s: bands, columns (80 per second)", -4.0, 4.0)
"""The sound of a frame, or of the expert's five frames."""


def expert_graph(expert: SyncExpert, crop: CropConfig) -> Graph:
    """Embeddings of sounds and mouths; in sync where their cosine is near 1."""
    height, width = expert.size
    mouths = "lower halves of consecutive face crops, frame after frame on the channels"
    faces = Port("faces", ("batch", 3 * expert.frames, height, width), mouths, 0.0, 1.0, "BGR")
    vector = ("batch", expert.audio_encoder[-1].conv_block[0].out_channels)
    return Graph(
        "sync_expert",
        inputs=(MEL_WINDOW, faces),
        outputs=(
            Port("sound", vector, "embedding of the sound, of length 1", 0.0, 1.0),
            Port("mouth", vector, "embedding of the mouths, of length 1", 0.0, 1.0),
        ),
        crop=crop.model_dump(),
        result=lambda *outputs: outputs,
    )
