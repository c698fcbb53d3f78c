"""Films in fragments: what has been sent so far can be shown, and in the end it is a whole file."""

from __future__ import annotations

import av
import numpy as np
import pytest

from helpers.media_files import click, numbered_frame, read_number
from talkingface.media import probe, read_mark, synthetic_comment
from talkingface.media.fragments import fragments


@pytest.mark.parametrize("fps", [25.0, 29.97])
def test_the_pieces_together_are_a_film_with_its_sound_and_its_mark(tmp_path, fps):
    voice, film = click(1.2, at=0.5), tmp_path / "film.mp4"
    frames = [numbered_frame(number) for number in range(30)]
    film.write_bytes(b"".join(fragments(frames, lambda start, stop: voice[start:stop], fps, synthetic_comment("Toy"))))
    assert probe(film).size == (64, 64) and read_mark(film)
    with av.open(str(film)) as container:
        shown = [(frame.time, read_number(frame.to_ndarray(format="rgb24"))) for frame in container.decode(video=0)]
    assert [number for _, number in shown] == list(range(30))
    with av.open(str(film)) as container:
        heard = [(frame.time, np.abs(frame.to_ndarray()[0])) for frame in container.decode(audio=0)]
    start, block = max(heard, key=lambda each: each[1].max())
    clicked = start + int((block > 0.5 * block.max()).argmax()) / 16000
    assert clicked - shown[10][0] == pytest.approx(0.5 - 10 / fps, abs=0.005), "sound beside the picture"


def test_a_frame_is_on_its_way_before_the_next_ones_are_made(tmp_path):
    made = []

    def frames():
        for number in range(20):
            made.append(number)
            yield numbered_frame(number)

    sent = b""
    for piece in fragments(frames(), lambda start, stop: np.zeros(0)):
        sent += piece
        (tmp_path / "part.mp4").write_bytes(sent)
        if len(made) == 10:
            break
    with av.open(str(tmp_path / "part.mp4")) as container:
        shown = [frame for frame in container.decode(video=0)]
    assert len(shown) >= 4, "of 10 that were made"
