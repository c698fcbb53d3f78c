"""HyperLipsBase's generator as a graph; one with memory takes and gives it frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from talkingface.lipsync.half_face.graphs import drawn_faces, generator_inputs
from talkingface.models.hyperlips_base.networks.generator import Drawing
from talkingface.plugin.graphs import Graph, Port, Run

if TYPE_CHECKING:
    from talkingface.models.hyperlips_base.config import HyperLipsBaseConfig
    from talkingface.models.hyperlips_base.networks.decoder import State
    from talkingface.models.hyperlips_base.networks.generator import HyperLipsGenerator


def generator_graph(generator: HyperLipsGenerator, config: HyperLipsBaseConfig) -> Graph:
    """The generator as `config` uses it."""
    inputs, drawn = generator_inputs(config), drawn_faces(config.crop.size)
    crop = config.crop.model_dump()
    if config.generator.temporal:
        return _with_memory(generator, inputs, drawn, crop)
    return Graph("generator", inputs, (drawn,), crop=crop, also={"lower_half": _lower_half})


def _lower_half(run: Run) -> Callable[..., Tensor]:
    """`HyperLipsGenerator.lower_half`, cut from whole faces."""

    def lower_half(mel: Tensor, faces: Tensor, above: int = 0) -> Tensor:
        return run(mel, faces)[0][:, :, faces.shape[-2] // 2 - above :]

    return lower_half


def _with_memory(generator: HyperLipsGenerator, inputs: tuple[Port, ...], drawn: Port, crop: dict[str, Any]) -> Graph:
    side, decoder = drawn.shape[-1], generator.decoder
    levels = ((decoder.decode4, 16), (decoder.decode3, 8), (decoder.decode2, 4), (decoder.decode1, 2))
    shapes = [(level.gru.channels, side // scale, side // scale) for level, scale in levels]

    def call(mel: Tensor, faces: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        drawing = generator.follow(mel[:, None], faces[:, :, None], memory)
        return drawing.faces[:, :, 0], *drawing.state

    about = "what a level of the decoder remembers, deepest first; zeros before the first frame and after a cut"
    before, after = (
        tuple(Port(f"{name}{k}", ("batch", *shape), about, -1.0, 1.0) for k, shape in enumerate(shapes))
        for name in ("memory", "memory_after")
    )
    return Graph(
        "generator",
        (*inputs, *before),
        (drawn, *after),
        method="follow",
        crop=crop,
        call=call,
        also={"follow": lambda run: _following(run, shapes)},
    )


def _following(run: Run, shapes: list[tuple[int, ...]]) -> Callable[..., Drawing]:
    """`HyperLipsGenerator.follow`, frame by frame."""

    def follow(mel: Tensor, faces: Tensor, state: State | None = None) -> Drawing:
        memory = state or tuple(faces.new_zeros(len(faces), *shape) for shape in shapes)
        drawn = []
        for frame in range(faces.shape[2]):
            face, *memory = run(mel[:, frame], faces[:, :, frame], *memory)
            drawn.append(face)
        return Drawing(torch.stack(drawn, dim=2), tuple(memory))

    return follow
