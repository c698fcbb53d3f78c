"""MakeItTalk's networks as graphs: two that move landmarks to a sound, one that draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from talkingface.models.makeittalk.networks.attention import ROWS
from talkingface.models.makeittalk.networks.pieces import FACE, WINDOW, windows_of
from talkingface.models.makeittalk.networks.speaker import STRESS, Motion
from talkingface.plugin.graphs import Graph, Port, Run
from talkingface.sound.speaker import SPEAKER

if TYPE_CHECKING:
    from talkingface.models.makeittalk.parts import MakeItTalkNetworks

_MOVED = "x0, y0, z0, x1, ... of 68 points, to be added to the face at rest"


def graphs(model: MakeItTalkNetworks) -> Iterator[Graph]:
    """Content branch, speaker-aware branch, image translation."""
    bands, side = len(model.content_branch.sound_mean), model.config.translate.size
    sound = f"{WINDOW} rows of the front end, the one of the moment first; 62.5 rows per second"
    yield Graph(
        "content_branch",
        (
            Port("windows", ("batch", WINDOW, bands), sound),
            Port("face", ("batch", FACE), "face at rest in the canonical space: x0, y0, z0, ... of 68 points"),
        ),
        (Port("displacement", ("batch", FACE), _MOVED),),
        also={"follow": _following},
    )
    yield Graph(
        "speaker_branch",
        (
            Port("windows", ("batch", "rows", WINDOW, bands), f"of a sequence: {sound}"),
            Port("speaker", ("batch", SPEAKER), f"embedding of the speaker, times {STRESS:g}", 0.0, STRESS),
        ),
        (
            Port("displacement", ("batch", "rows", FACE), _MOVED),
            Port("code", ("batch", model.config.speaker.code), "of the speaker"),
        ),
        most={"rows": ROWS},
        result=Motion,
    )
    yield _translator(model.config.translate.input, side)


def _translator(kind: str, side: int) -> Graph:
    """The image translation; see `translation.translated` for the two kinds."""
    portrait, drawn = "the portrait", "raw: the picture is its tanh, cut off at 0"
    if kind == "warped":
        portrait = "the portrait moved there, black between the inner lips"
        drawn = "raw: half its tanh corrects the moved portrait, its sigmoid is the picture between the inner lips"
    picture = f"drawing of the wanted landmarks: channels 0-2; {portrait}: channels 3-5"
    return Graph(
        "translator",
        (Port("pictures", ("batch", 6, side, side), picture, 0.0, 1.0, "BGR"),),
        (Port("drawn", ("batch", 3, side, side), drawn, None, None, "BGR"),),
        crop={"size": side},
    )


def _following(run: Run) -> Callable[[Tensor, Tensor], Tensor]:
    """`Scaled.follow` from the graph of single windows."""

    def follow(rows: Tensor, face: Tensor) -> Tensor:
        windows = windows_of(rows)
        return run(windows, face.expand(len(windows), -1))[0]

    return follow
