"""Videos of MakeItTalk: their length, what moves, what stays, and what a held-out video may lend."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from helpers.canonical_faces import CanonicalSource, sound_of, speaking_model, voice
from helpers.drawn_clips import speech_then_noise
from talkingface.clips.source import Audio, Source
from talkingface.errors import ConfigError, NoFaceError
from talkingface.media import write_image
from talkingface.models.makeittalk import parts, render
from talkingface.models.makeittalk.clip_faces import face_centre, face_height
from talkingface.models.makeittalk.generate import spoken_points
from talkingface.models.makeittalk.head_mesh import REACH, lip_colour
from talkingface.models.makeittalk.portraits import choose_portraits
from talkingface.models.makeittalk.segments import spans
from talkingface.models.makeittalk.silence import silent_share
from talkingface.pipeline import Pipeline
from talkingface.sound.rows import held_at
from talkingface.streaming import spoken_windows


def made(model, source, seconds=0.4):
    return np.stack([each.frame for each in model.generate(source, voice(seconds))])


@pytest.mark.parametrize("render", ["warp", "translate"])
@pytest.mark.parametrize(("seconds", "frames"), [(0.3, 8), (0.31, 8), (0.34, 9), (1.0, 25)])
def test_a_picture_speaks_for_as_many_frames_as_the_sound_lasts(render, seconds, frames):
    source = CanonicalSource(1)
    found = made(speaking_model(render=render), source, seconds)
    assert found.shape == (frames, *source.size, 3) and found.dtype == np.uint8
    assert np.abs(np.diff(found.astype(int), axis=0)).max() > 0


def test_the_colour_of_the_lips_is_looked_up_once_for_all_frames(monkeypatch):
    looks = []
    monkeypatch.setattr(render, "lip_colour", lambda *seen: looks.append(seen) or lip_colour(*seen))
    assert len(made(speaking_model(render="warp"), CanonicalSource(1), 1.0)) == 25 and len(looks) == 1


def test_a_picture_answers_at_its_own_rate():
    from talkingface.media.info import MediaInfo

    model = speaking_model(fps=50.0)
    assert model.output_rate(MediaInfo("x.png", is_image=True)) == 50.0
    assert model.output_rate(MediaInfo("x.mp4", fps=30.0)) == 25.0
    source = CanonicalSource(1)
    source.fps = 50.0
    fast, slow = made(speaking_model(), source, 1.0), made(speaking_model(), CanonicalSource(1), 1.0)
    assert len(fast) == 50
    assert np.abs(fast[::2].astype(int) - slow).max() <= 1


@pytest.mark.parametrize("render", ["warp", "translate"])
def test_far_from_the_head_every_pixel_is_the_pictures_own(render):
    source = CanonicalSource(1)
    points = source.track.ibug68()[0]
    y, x = np.mgrid[: source.size[0], : source.size[1]]
    distance = np.hypot(*(np.stack([x, y]) - face_centre(points)[:, None, None])) / face_height(points)
    found = made(speaking_model(render=render), source)
    outside = distance > REACH + 0.02
    for frame in found:
        np.testing.assert_array_equal(frame[outside], source.pictures[0][outside])
    assert (found != source.pictures[0]).any()


def test_a_head_that_rests_moves_its_lips_alone():
    points = CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    resting = spoken_points(speaking_model(), voice(0.6), points, head=False)
    swaying = spoken_points(speaking_model(), voice(0.6), points, head=True)
    # The content branch may move all points; the speaker branch adds the head.
    assert np.abs(resting - swaying).max() > 0.1
    silent = speaking_model(amp_lip_x=0.0, amp_lip_y=0.0)
    still = spoken_points(silent, voice(0.6), points, head=False)[:, 48:68]
    assert np.abs(still - still[0]).max() < 0.05 * 40


def test_a_tilted_head_says_the_same_and_the_same_seed_blinks_alike():
    upright = CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    source = CanonicalSource(1, roll=np.radians(20))
    tilted = source.track.ibug68()[0].astype(np.float64)
    model = speaking_model()
    straight, turned = (spoken_points(model, voice(0.6), p, head=False) for p in (upright, tilted))
    a, b = np.cos(np.radians(-20)), np.sin(np.radians(-20))
    back = (turned - tilted.mean(axis=0)) @ np.array([[a, -b], [b, a]]).T + upright.mean(axis=0)
    width = np.linalg.norm(upright[54] - upright[48])
    assert np.abs(back - straight)[:, 48:].max() < 0.02 * width
    twice = [spoken_points(model, voice(0.6), upright, head=True) for _ in range(2)]
    np.testing.assert_array_equal(*twice)


def test_sound_that_comes_later_is_spoken_later():
    model = speaking_model(blinks=0.0)
    points = CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    speech, pause = sound_of(40), np.zeros(6400, np.float32)
    early, late = (
        spoken_points(model, Audio(np.concatenate(parts)), points, head=False)
        for parts in ((speech, pause), (pause, speech))
    )
    width = np.linalg.norm(points[54] - points[48])
    assert np.abs(late[30:110, 48:] - early[5:85, 48:]).max() < 0.02 * width


def test_long_sound_has_no_seam_and_its_full_length(monkeypatch):
    points = CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    long, places = Audio(np.tile(sound_of(100), 5)), []  # 20 s

    def noted(*args, **kwargs):
        places.extend(spans(*args, **kwargs))
        return list(places)

    monkeypatch.setattr(parts, "spans", noted)
    found = spoken_points(speaking_model(blinks=0.0), long, points, head=True)
    assert len(found) == 20 * 62.5 + 1 and len(places) > 2
    steps = np.linalg.norm(np.diff(found, axis=0, prepend=found[:1]), axis=-1).max(axis=1)
    borders = [*(stop for _, stop in places[:-1]), *(start for start, _ in places[1:])]
    assert steps[borders].max() <= np.percentile(np.delete(steps, borders), 99)


def test_lips_may_be_closed_while_nobody_speaks():
    points = CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    points[[55, 56, 57, 58, 59, 65, 66, 67], 1] += 4  # the portrait's mouth is open
    pause, speech = np.zeros(8000, np.float32), sound_of(40)[:8000]
    audio = Audio(np.concatenate([speech, pause, speech]))
    free, closed = (
        spoken_points(speaking_model(blinks=0.0, silence=silence), audio, points, head=False)
        for silence in ("free", "close")
    )
    gaps = [(found[:, 66, 1] - found[:, 62, 1]) for found in (free, closed)]
    assert gaps[1][42:52].max() < 0.1 * gaps[0][42:52].min()
    np.testing.assert_allclose(closed[:24], free[:24], atol=1e-6)
    still = [*range(48), 48, 54, 60, 64]
    np.testing.assert_allclose(closed[:, still], free[:, still], atol=1e-6)
    assert np.abs(np.diff(gaps[1])).max() < 0.5 * gaps[0].max(), "lips close and open smoothly"


def test_lips_are_closed_all_through_a_sound_without_any_voice_and_not_in_a_closure_inside_a_word():
    speech, nothing = sound_of(40)[4000:8000], np.zeros(8000, np.float32)
    assert (silent_share(nothing, 31) == 1).all()
    assert silent_share(np.concatenate([speech, nothing[:2000], speech]), 39).max() == 0
    assert silent_share(np.concatenate([speech, nothing, speech]), 62).max() == 1


def test_lips_are_closed_in_a_pause_that_is_longer_than_a_window_of_a_stream():
    samples, points = speech_then_noise(), CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    model = speaking_model(silence="close", blinks=0.0)
    points[[55, 56, 57, 58, 59, 65, 66, 67], 1] += 4  # the portrait's mouth is open

    def gaps(audio: Audio) -> np.ndarray:
        found = spoken_points(model, audio, points, head=False)
        return held_at(found[:, 66, 1] - found[:, 62, 1], audio.rows() * 2.5)

    whole = gaps(Audio(samples))
    live = np.concatenate([gaps(window) for _, window in spoken_windows([samples])])
    assert len(live) == len(whole) == 150
    for found in (whole, live):
        assert found[60:].max() < 0.1 * found[:45].min()


@pytest.mark.parametrize("blinks", [1.0, 3.0])
def test_a_stream_knows_how_loud_the_voice_was_and_when_its_last_blink(blinks):
    samples, points = speech_then_noise(), CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    model = speaking_model(blinks=blinks)

    def drawn(audio: Audio) -> np.ndarray:
        return held_at(spoken_points(model, audio, points, head=False), audio.rows() * 2.5)

    whole, live = drawn(Audio(samples)), np.concatenate([drawn(window) for _, window in spoken_windows([samples])])
    noise, speech = whole[60:, 48:], whole[:45, 48:]
    assert np.abs(live[60:, 48:] - noise).mean() < 0.05 * np.abs(noise - speech.mean(axis=0)).mean()
    gaps = [(each[:, [41, 40, 47, 46], 1] - each[:, [37, 38, 43, 44], 1]).mean(axis=1) for each in (whole, live)]
    # Every other window begins between two rows of the whole voice, which is a twentieth of a blink's way.
    assert np.abs(gaps[1] - gaps[0]).max() < 0.1 * np.ptp(gaps[0])
    assert (gaps[0] < 0.5 * gaps[0].max()).sum() > 4


def test_what_takes_a_mean_over_the_whole_sound_does_not_stream(tmp_path):
    write_image(tmp_path / "still.png", CanonicalSource(1).pictures[0])
    still, model = Source.from_path(tmp_path / "still.png"), speaking_model(calibrate=True, head="none")
    with pytest.raises(ConfigError, match=r"cannot speak while that arrives; --model.inference.calibrate=false"):
        Pipeline(model, "MakeItTalk").stream(still, [])
    assert speaking_model(head="none").needs_whole_sound(picture=True) is None


def test_blinks_can_be_left_out():
    points = CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    lids = [[37, 38, 43, 44], [41, 40, 47, 46]]
    gaps = {}
    for rate in (0.0, 1.0):
        found = spoken_points(speaking_model(blinks=rate), voice(2.0), points, head=False)
        gaps[rate] = (found[:, lids[1], 1] - found[:, lids[0], 1]).mean(axis=1)
    assert gaps[1.0].min() < 0.5 * gaps[0.0].min()


# -- videos ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("render", ["warp", "translate"])
def test_in_a_video_lips_and_jaw_speak_and_all_else_is_the_videos(render):
    source = CanonicalSource(12)
    found = made(speaking_model(render=render), source, 1.0)
    assert len(found) == 25
    shown = np.stack(source.pictures)[source.order(25)]
    top = int(source.track.ibug68()[:, 36:48, 1].min()) - 4  # above the eyes
    np.testing.assert_array_equal(found[:, :top], shown[:, :top])
    assert (found[:, top:] != shown[:, top:]).any(axis=(1, 2, 3)).all()


def test_frames_without_a_face_pass_and_are_reported_or_refused(caplog):
    source = CanonicalSource(12, gone=(4, 5))
    with caplog.at_level(logging.WARNING, "talkingface"):
        found = made(speaking_model(), source, 0.4)
    for index in (4, 5):
        np.testing.assert_array_equal(found[index], source.pictures[index])
    assert "no face in frames 4-5" in caplog.text
    with pytest.raises(NoFaceError, match="frames 4-5"):
        made(speaking_model(no_face="error"), source, 0.4)


def test_no_frame_of_a_held_out_video_is_made_from_itself():
    results = []
    for shade in (0, 200):
        source = CanonicalSource(12)
        source.held_out = True
        for index in range(6, 12):
            source.pictures[index][60:, :] = shade  # the mouths of the second half
        results.append(made(speaking_model(render="warp"), source, 0.48)[6:12])
    inside = (slice(None), slice(84, 96), slice(80, 96))  # the mouth
    assert np.abs(results[0][inside].astype(int) - results[1][inside]).mean() < 0.5 * 200


def test_a_reference_video_lends_its_face():
    source, other = CanonicalSource(12), CanonicalSource(12)
    for frame in other.pictures:
        frame[..., 2] = 255
    plain = made(speaking_model(render="warp"), source, 0.4)
    source.reference = other
    lent = made(speaking_model(render="warp"), source, 0.4)
    assert (lent[..., 2] == 255).any() and not (plain[..., 2] == 255).any()


@pytest.mark.parametrize("count", [1, 12])
def test_the_batch_size_does_not_matter(count):
    first, second = (made(speaking_model(batch=size), CanonicalSource(count)) for size in (1, 4))
    assert np.abs(first.astype(int) - second).max() <= 1


@pytest.mark.parametrize("count", [1, 12])
def test_a_second_video_shows_the_drawing_and_the_square_of_the_head(count):
    drawn = list(speaking_model(save_debug_video=True).generate(CanonicalSource(count), voice(0.3)))
    assert all(each.debug.shape == (256, 512, 3) for each in drawn)
    for half in (slice(256), slice(256, None)):
        assert (drawn[0].debug[:, half] != 255).any()
        assert (drawn[0].debug[:, half] != drawn[-1].debug[:, half]).any()


@pytest.mark.parametrize("render", ["warp", "translate"])
def test_the_square_of_the_head_may_be_all_that_is_shown(render):
    source, model = CanonicalSource(1), speaking_model(render=render, paste="crop")
    found = made(model, source)
    assert found.shape[1:] == (*model.output_size(source), 3) == (32, 32, 3)
    assert np.abs(np.diff(found.astype(int), axis=0)).max() > 0
    assert model.output_size(CanonicalSource(12)) == source.size, "a video is shown whole"
    assert made(model, CanonicalSource(12)).shape[1:3] == source.size


@pytest.mark.parametrize(("render", "paste"), [("warp", "field"), ("translate", "field"), ("translate", "soft")])
def test_the_opacity_of_a_picture_moves_with_it(render, paste):
    source = CanonicalSource(1)
    whole = made(speaking_model(render=render, paste=paste), source)
    face = source.track.ibug68()[0]
    clear = np.full(source.size, 255, np.uint8)
    clear[: int(face[:, 1].min()) - 12] = 0
    source.opacity = lambda: clear
    drawn = list(speaking_model(render=render, paste=paste).generate(source, voice(0.4)))
    np.testing.assert_array_equal([each.frame for each in drawn], whole)
    assert all(each.opacity.shape == source.size and each.opacity[-1].min() == 255 for each in drawn)
    assert all(not each.opacity[0].any() for each in drawn)
    if paste == "field":
        assert np.ptp(np.stack([each.opacity for each in drawn]), axis=0).max() > 0


def test_another_voice_moves_the_head_otherwise():
    model = speaking_model(blinks=0.0)
    rows = model.front_end.extract(voice(0.6).samples)
    voices = np.random.default_rng(0).normal(size=(2, 256)).astype(np.float32)
    heads = [model.head_of(rows, vector) for vector in voices]
    assert np.abs(heads[0] - heads[1]).max() > 1e-3


def test_the_head_may_move_as_another_voice_does(tmp_path):
    from talkingface.errors import MediaError
    from talkingface.media import write_wav

    points = CanonicalSource(1).track.ibug68()[0].astype(np.float64)
    other = 0.3 * np.random.default_rng(0).normal(size=16000)
    write_wav(tmp_path / "other.wav", other.clip(-1, 1).astype(np.float32))
    styles = ("own", str(tmp_path / "other.wav"))
    own, styled = (spoken_points(speaking_model(style=style), voice(0.6), points, head=True) for style in styles)
    assert np.abs(own - styled).max() > 1e-3
    np.testing.assert_array_equal(
        *(spoken_points(speaking_model(style=style), voice(0.6), points, head=False) for style in styles)
    )
    with pytest.raises(MediaError, match=r"none\.wav"):
        spoken_points(speaking_model(style=str(tmp_path / "none.wav")), voice(0.6), points, head=True)


def test_a_video_rests_as_a_few_of_its_closed_faces_do_and_its_portrait_is_the_most_closed():
    source = CanonicalSource(40)
    points = source.track.ibug68()
    gap = lambda faces: faces[..., 66, 1] - faces[..., 62, 1]  # noqa: E731
    (one,) = choose_portraits(source, source.track)
    (few,) = choose_portraits(source, source.track, 3)
    np.testing.assert_array_equal(one.resting, [one.portrait.points])
    np.testing.assert_array_equal(few.portrait.points, one.portrait.points)
    assert gap(one.portrait.points) < gap(points).min() + 0.1
    assert few.resting.shape == (3, 68, 2) and gap(few.resting).max() < np.median(gap(points))
    (short,) = choose_portraits(CanonicalSource(3), CanonicalSource(3).track, 5)
    assert len(short.resting) == 3
