"""What goes in and out of the exported networks of DINet and LawDNet.

The generator is split as generation calls it: references are encoded once per video (`encode`), mouths are drawn from
what that gives (`forward`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from talkingface.lipsync.dubbing.generate import crops_of
from talkingface.networks.dubbing.encoders import AUDIO_ROWS, REFERENCES, STRIDE
from talkingface.networks.dubbing.generator import References
from talkingface.networks.dubbing.sync_expert import ROWS, SHRINK
from talkingface.plugin.graphs import Graph, Port
from talkingface.sound.front_ends import front_end_kind

if TYPE_CHECKING:
    from talkingface.lipsync.dubbing.config import DubbingCropConfig
    from talkingface.lipsync.dubbing.networks import DubbingNetworks
    from talkingface.networks.dubbing.sync_expert import MouthSyncExpert
    from talkingface.sound.choice import FrontEndConfig


def generator_graphs(model: DubbingNetworks) -> tuple[Graph, Graph]:
    """The generator, at the size at which the model draws."""
    crop, cut = model.drawn, crops_of(model).model_dump()
    height, width = crop.height, crop.width
    five = "five reference face crops of a video, frame after frame on the channels"
    references = Port("references", (1, 3 * REFERENCES, height, width), five, 0.0, 1.0, "RGB")
    known = _reference_ports(model, height // STRIDE, width // STRIDE)
    inputs = (
        Port("source", ("batch", 3, height, width), "face crop whose mouth is hidden", 0.0, 1.0, "RGB"),
        *known,
        _rows(model.config.audio.generator_features, AUDIO_ROWS, "around the frame, its own in the middle"),
    )
    drawn = Port("drawn", ("batch", 3, height, width), "whole face crop with a mouth", 0.0, 1.0, "RGB")

    def call(source: Tensor, maps: Tensor, appearance: Tensor, rows: Tensor) -> Tensor:
        return model.generator(source, References(maps, appearance), rows)

    def flat(source: Tensor, known: References, rows: Tensor) -> tuple[Tensor, ...]:
        return source, *known, rows

    return (
        Graph("generator", (references,), known, "encode", cut, result=References),
        Graph("generator", inputs, (drawn,), crop=cut, call=call, flat=flat),
    )


def mouth_expert_graph(expert: MouthSyncExpert, side: int, hears: FrontEndConfig, crop: DubbingCropConfig) -> Graph:
    """The sync expert on mouths of `side` pixels."""
    five = "mouths of five frames, frame after frame on the channels"
    mouths = Port("mouths", ("batch", 3 * expert.frames, side, side), five, 0.0, 1.0, "RGB")
    rows = _rows(hears, ROWS, "around all five frames")
    score = Port("score", ("batch", 1, side // SHRINK, side // SHRINK), "map whose mean is near 1 in sync, 0 off")
    return Graph("sync_expert", (mouths, rows), (score,), crop=crop.model_dump())


def _reference_ports(model: DubbingNetworks, height: int, width: int) -> tuple[Port, Port]:
    """What `encode` gives and `forward` takes; the same names as in `References`."""
    shape = (1, model.generator.ref_in_conv[-1].conv.out_channels, height, width)
    return (
        Port("maps", shape, "features of the reference crops", 0.0, None),
        Port("appearance", shape, "the same as they are moved"),
    )


def _rows(hears: FrontEndConfig, count: int, which: str) -> Port:
    about = f"rows of front end {hears.name}, one per frame at 25 fps, {which}"
    return Port("rows", ("batch", front_end_kind(hears.name).width, count), about)
