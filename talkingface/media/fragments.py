"""A film that is sent while it is made: MP4 in fragments, each frame on its way as soon as it is encoded."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import numpy as np

from talkingface.media.encode import AUDIO_BLOCK, Tracks
from talkingface.media.info import FPS, SAMPLE_RATE

_BEGIN_ANEW = 10  # frames between two at which a player that comes late may begin


class _Outbox(io.RawIOBase):
    """What FFmpeg writes, as pieces to be taken; it cannot seek, as the other end of a connection cannot."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def fragments(
    frames: Iterable[np.ndarray], said: Callable[[int, int], np.ndarray], fps: float = FPS, comment: str = ""
) -> Iterator[bytes]:
    """Yield the pieces of a film, at least one for each frame; together they are a file that players take.

    Args:
        frames: (H, W, 3) uint8 RGB, all of one size.
        said: from sample, to sample -> the sound between them at 16 kHz, (n,) float mono, shorter at its end.
        fps: frames per second.
        comment: what the metadata say.
    """
    import av

    outbox, rate, sent = _Outbox(), Fraction(fps).limit_denominator(1001), 0
    # Every packet is a fragment. (Of `frag_every_frame` the time stamps are wrong as soon as there are two tracks.)
    options = {"movflags": "empty_moov+default_base_moof", "frag_duration": "1"}
    tracks: Tracks | None = None
    with av.open(outbox, "w", format="mp4", options=options) as container:
        for number, frame in enumerate(frames, start=1):
            if tracks is None:
                container.metadata["comment"] = comment
                tracks = Tracks(container, frame.shape[:2], rate, SAMPLE_RATE, preset="veryfast", at_once=_BEGIN_ANEW)
            tracks.show(frame)
            due = round(number / rate * SAMPLE_RATE)
            while sent + AUDIO_BLOCK <= due:
                tracks.say(_filled(said(sent, sent + AUDIO_BLOCK), AUDIO_BLOCK), sent)
                sent += AUDIO_BLOCK
            if piece := outbox.take():
                yield piece
        if tracks is not None:
            if sent < due:
                tracks.say(_filled(said(sent, due), due - sent), sent)
            tracks.finish()
    if piece := outbox.take():
        yield piece


def _filled(samples: np.ndarray, length: int) -> np.ndarray:
    """Sound (n,), followed by silence where it is too short."""
    return np.pad(samples, (0, length - len(samples)))
