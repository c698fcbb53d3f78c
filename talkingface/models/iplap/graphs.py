"""IPLAP's networks as graphs, split as generation calls them: what belongs to a video, a frame or a window of frames.

The landmark generator is `fuse(encode_mel, encode_pose, encode_reference)`, the renderer
`forward_with_references(..., encode_references)`; references are encoded once per video.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from talkingface.lipsync.expert.graphs import MEL_WINDOW
from talkingface.models.iplap.data import POSE
from talkingface.models.iplap.networks.alignment import References
from talkingface.models.iplap.networks.landmark_generator import CONTENT_POINTS
from talkingface.plugin.graphs import Graph, Port

if TYPE_CHECKING:
    from talkingface.models.iplap.networks.renderer import Renderer
    from talkingface.models.iplap.parts import IPLAPNetworks

_POSE = Port("pose", ("batch", 2, POSE), "x and y of the upper face and contour, relative to the crop", 0.0, 1.0)


def graphs(model: IPLAPNetworks) -> tuple[Graph, ...]:
    """Both networks."""
    return (*_landmark_graphs(model), *_renderer_graphs(model))


def _landmark_graphs(model: IPLAPNetworks) -> Iterator[Graph]:
    settings, name, crop = model.config.landmark, "landmark_generator", model.config.crop.model_dump()
    window, size, count = settings.window, settings.d_model, model.config.inference.nl
    token = Port("token", ("batch", size), "token of one frame")
    yield Graph(name, (MEL_WINDOW,), (token,), "encode_mel")
    yield Graph(name, (_POSE,), (token,), "encode_pose", crop)
    points = "x and y relative to the crop, of each reference frame"
    shape = (1, count, 2)
    references = (
        Port("pose", (*shape, POSE), f"upper face and contour: {points}", 0.0, 1.0),
        Port("content", (*shape, CONTENT_POINTS), f"jaw, outer lip, inner lip: {points}", 0.0, 1.0),
    )
    tokens = Port("reference_tokens", (1, count, size), "tokens of the reference frames of a video")
    yield Graph(name, references, (tokens,), "encode_reference", crop)
    frames = ("batch", window, size)
    spoken = "jaw, outer lip and inner lip, x and y relative to the crop; the middle frame is the window's own"
    yield Graph(
        name,
        (Port("mel_tokens", frames, "of a window"), Port("pose_tokens", frames, "of a window"), tokens),
        (Port("points", ("batch", window, 2, CONTENT_POINTS), spoken),),
        "fuse",
        crop,
        call=lambda *inputs: model.landmark_generator.fuse(*inputs).unflatten(0, (-1, window)),
        result=lambda points: points.flatten(0, 1),
    )


def _renderer_graphs(model: IPLAPNetworks) -> Iterator[Graph]:
    renderer, name = model.renderer, "renderer"
    side, count, window = model.config.crop.size, model.config.inference.ref_n, model.config.landmark.window
    crop = model.config.inference_crop.model_dump()
    sketches = "sketch lines of the landmarks, one channel"
    references = _reference_ports(renderer, side, count)
    yield Graph(
        name,
        (
            Port("frames", (1, count, 3, side, side), "reference face crops of a video", 0.0, 1.0, "BGR"),
            Port("sketches", (1, count, 1, side, side), f"of these crops: {sketches}", 0.0, 1.0),
        ),
        references,
        "encode_references",
        crop,
        result=References,
    )

    def call(face: Tensor, drive: Tensor, mel: Tensor, *encoded: Tensor) -> tuple[Tensor | None, Tensor]:
        return renderer.forward_with_references(face, drive, References(*encoded), mel)

    def flat(face: Tensor, drive: Tensor, encoded: References, mel: Tensor) -> tuple[Tensor, ...]:
        return face, drive, mel, *encoded

    yield Graph(
        name,
        (
            Port("face", ("batch", 3, side, side), "face crop; its lower half is not looked at", 0.0, 1.0, "BGR"),
            Port("drive", ("batch", window, 1, side, side), f"of the window's frames: {sketches}", 0.0, 1.0),
            MEL_WINDOW,
            *references,
        ),
        (
            Port("drawn", ("batch", 3, side, side), "the generated face crop", 0.0, 1.0, "BGR"),
            Port("warped", ("batch", 3, side, side), "the warped references, a step before it", 0.0, 1.0, "BGR"),
        ),
        "forward_with_references",
        crop,
        call=call,
        flat=flat,
        result=lambda drawn, warped: (drawn, warped),
    )


def _reference_ports(renderer: Renderer, side: int, count: int) -> tuple[Port, ...]:
    """What `encode_references` gives and `forward_with_references` takes; the same names as in `References`."""
    module = renderer.flow_module
    fine, coarse = module.conv1.out_channels, module.conv2.out_channels
    half = side // 2
    return (
        Port("images", (1, count, 3, side, side), "the reference face crops themselves", 0.0, 1.0, "BGR"),
        Port("fine", (1, count, fine, side, side), "their features at full size", 0.0, None),
        Port("coarse", (1, count, coarse, half, half), "their features at half size", 0.0, None),
        Port("coarse_normalised", (1, count, coarse, half, half), "the same, normalised by channel"),
    )
