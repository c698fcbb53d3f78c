"""Puppets that speak: their length, their background, and what they are given to."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.canonical_faces import sound_of, speaking_model, voice
from talkingface.clips.openers import open_source
from talkingface.clips.source import Audio
from talkingface.errors import DataError
from talkingface.faces.ibug68 import LID_PAIRS
from talkingface.media import VideoReader, probe, write_image, write_wav
from talkingface.models.makeittalk.puppet.cartoon import draw_cartoon
from talkingface.models.makeittalk.puppet.check import check_puppet
from talkingface.models.makeittalk.puppet.new import new_puppet
from talkingface.models.makeittalk.puppet.speak import PuppetSource, puppet_points
from talkingface.models.makeittalk.puppet.text import write_rows
from talkingface.pipeline import Pipeline

SIZE = (171, 128)


@pytest.fixture(scope="module")
def toon(tmp_path_factory):
    """The picture of a puppet."""
    folder = tmp_path_factory.mktemp("toon")
    picture, points = draw_cartoon(SIZE)
    write_image(folder / "toon.png", picture)
    write_rows(folder / "points.txt", points, ".4f")
    return new_puppet(folder / "toon.png", folder / "points.txt").picture


def test_a_picture_with_the_files_of_a_puppet_beside_it_is_one(toon):
    model = speaking_model(fps=50.0)
    for path in (toon, toon.parent):
        source = open_source(path, model.accepts, model.output_rate, "MakeItTalk")
        assert isinstance(source, PuppetSource) and source.fps == 50.0 and source.size == SIZE
    assert not isinstance(open_source(toon, ("picture",), model.output_rate, "Other"), PuppetSource)
    with pytest.raises(DataError, match="is a puppet and has its points"):
        open_source(toon, model.accepts, model.output_rate, "MakeItTalk", toon)


def test_a_puppet_speaks_while_its_voice_is_still_arriving(toon):
    pipeline = Pipeline(speaking_model(head="none"), "MakeItTalk")
    source, samples = pipeline.prepare(toon), sound_of(40)[:16000]
    frames = list(pipeline.stream(source, np.array_split(samples, 7)))
    assert len(frames) == 25 and frames[0].shape == (*SIZE, 3)
    np.testing.assert_array_equal(source.landmarks().ibug68()[0], source.puppet.points.astype(np.float32))


@pytest.mark.parametrize("head", ["predicted", "none"])
def test_a_puppet_speaks_for_as_many_frames_as_the_sound_lasts(toon, head):
    source = PuppetSource(toon, 25.0)
    drawn = list(speaking_model(head=head).generate(source, voice(0.6)))
    assert len(drawn) == 15 and all(each.frame.shape == (*SIZE, 3) for each in drawn)
    frames = np.stack([each.frame for each in drawn]).astype(int)
    lips = source.puppet.points[48:68]
    left, top = np.floor(lips.min(axis=0)).astype(int)
    right, bottom = np.ceil(lips.max(axis=0)).astype(int)
    assert np.abs(np.diff(frames[:, top:bottom, left:right], axis=0)).max() > 10
    assert all(each.opacity.max() == 255 and each.opacity.min() == 0 for each in drawn)


def test_a_puppet_rests_with_its_mouth_closed_and_blinks_where_asked_to(toon):
    puppet = PuppetSource(toon, 25.0).puppet
    silent = speaking_model(amp_lip_x=0.0, amp_lip_y=0.0, amp_pos=0.0, head="none")
    found = puppet_points(silent, voice(2.0), puppet)
    closed = puppet.placement.denormalise(puppet.closed)[:, :2]
    assert np.abs(found[:, 60:68] - closed[60:68]).max() < 0.02 * SIZE[1]
    lids = {}
    for rate in (0.0, 1.0):
        model = speaking_model(amp_pos=0.0, puppet={"blinks": rate})
        rows = puppet_points(model, voice(2.0), puppet)
        lids[rate] = (rows[:, list(LID_PAIRS[1]), 1] - rows[:, list(LID_PAIRS[0]), 1]).mean(axis=1)
    assert lids[1.0].min() < 0.6 * lids[0.0].min()


def test_published_weights_know_a_puppet_by_its_jaw_and_others_by_more_points(toon):
    puppet = PuppetSource(toon, 25.0).puppet
    rows = [puppet_points(speaking_model(align=align), voice(0.4), puppet) for align in ("published", "roll")]
    assert 0 < np.abs(rows[0] - rows[1]).max() < 0.1 * SIZE[1]


def test_a_puppet_stands_before_its_background_or_the_one_that_is_asked_for(toon, tmp_path):
    write_wav(tmp_path / "voice.wav", sound_of(20))
    pipeline = Pipeline(speaking_model(), "MakeItTalk")
    corners = {}
    for name, colour in (("toon_bg", (0, 200, 0)), ("blue", (0, 0, 250))):
        write_image(tmp_path / f"{name}.png", np.full((9, 9, 3), colour, np.uint8))
    for path in toon.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name, background in (("own", None), ("blue", str(tmp_path / "blue.png")), ("white", "white")):
        made = pipeline(tmp_path / "toon.png", tmp_path / "voice.wav", tmp_path / f"{name}.mp4", background=background)
        corners[name] = next(iter(VideoReader(made)))[4:12, 4:12].mean(axis=(0, 1))
        assert probe(made).size == (172, 128)
    assert corners["own"][1] > 180 and corners["own"][0] < 30
    assert corners["blue"][2] > 230 and corners["white"].min() > 250
    clear = pipeline(tmp_path / "toon.png", tmp_path / "voice.wav", tmp_path / "out.mov", background="transparent")
    assert next(iter(VideoReader(clear)))[4:12, 4:12].min() > 250 and probe(clear).size == SIZE


def test_the_sound_decides_when_a_puppet_speaks(toon):
    puppet, model = PuppetSource(toon, 25.0).puppet, speaking_model(head="none")
    speech, pause = sound_of(40), np.zeros(6400, np.float32)
    early, late = (
        puppet_points(model, Audio(np.concatenate(parts)), puppet) for parts in ((speech, pause), (pause, speech))
    )
    width = np.linalg.norm(puppet.points[54] - puppet.points[48])
    assert np.abs(late[35:110, 48:] - early[10:85, 48:]).max() < 0.02 * width


def test_the_demo_ends_with_a_picture_of_a_person_and_a_puppet(toon, tmp_path):
    from types import SimpleNamespace

    from helpers.clips import face_frames, write_clip

    clip = SimpleNamespace(
        video=write_clip(tmp_path / "film.mp4", face_frames(5), None), fps=25.0, has=lambda name: False
    )
    model = speaking_model()
    portrait, puppet = model.examples([clip], tmp_path / "examples")
    assert not isinstance(open_source(portrait, model.accepts, model.output_rate, "M"), PuppetSource)
    assert isinstance(open_source(puppet, model.accepts, model.output_rate, "M"), PuppetSource)
    assert probe(portrait).size == probe(clip.video).size and not check_puppet(puppet)
