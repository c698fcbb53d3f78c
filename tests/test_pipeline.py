"""Generation as users call it: decoding and encoding beside the network change nothing but the time."""

from __future__ import annotations

import errno
import shutil
import threading
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from helpers.clips import face_frames, tone, write_clip
from talkingface.clips.source import Audio, Source
from talkingface.config.sections import OutputConfig
from talkingface.errors import DataError, MediaError, OutputError
from talkingface.media import (
    KeptFrames,
    VideoReader,
    VideoWriter,
    probe,
    read_audio,
    read_mark,
    synthetic_comment,
    write_image,
    write_wav,
)
from talkingface.pipeline import Pipeline
from talkingface.plugin import Drawn, TalkingFaceModel


class Mirror(TalkingFaceModel):
    """Stands for a model: turns every frame round, and reads the source once beforehand as a detector does."""

    def generate(self, source, audio):
        for _ in source.frames():
            pass
        for frame in islice(source.frames(source.order(audio.n_frames(source.fps))), audio.n_frames(source.fps)):
            frame[:] = frame[:, ::-1].copy()
            yield frame


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", face_frames(30))


@pytest.fixture
def voice():
    return Audio(tone(1.8))  # 45 frames: the film is played to and fro


def others() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("prefetch", "write-behind")]


def one_after_the_other(film, voice, output):
    source = Source(film)
    with VideoWriter(output, fps=25.0, audio=voice.samples, comment=synthetic_comment("Mirror")) as writer:
        for frame in Mirror().generate(source, voice):
            writer.write(frame)


@pytest.mark.parametrize("megabytes", [0, 64])
def test_the_file_is_that_of_decoding_computing_and_encoding_one_after_the_other(film, voice, tmp_path, megabytes):
    one_after_the_other(film, voice, tmp_path / "plain.mp4")
    source = Source(film)
    source.kept = KeptFrames(megabytes)
    Pipeline(Mirror(), "Mirror").generate_file(source, voice, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "plain.mp4").read_bytes()
    assert not others()


@pytest.mark.parametrize(("megabytes", "times"), [(64, 1), (0, 3)])  # forward twice, and once for the way back
def test_a_source_that_fits_into_the_memory_for_videos_is_decoded_once(film, tmp_path, monkeypatch, megabytes, times):
    counts, read = Counter(), VideoReader.__iter__
    monkeypatch.setattr(VideoReader, "__iter__", lambda self: counts.update([self.path]) or read(self))
    monkeypatch.setattr("talkingface.pipeline.read_audio", lambda *_: tone(1.8))
    monkeypatch.setattr(Audio, "load", lambda *_: Audio(tone(1.8)))
    pipeline = Pipeline(Mirror(), "Mirror", video_cache_mb=megabytes)
    pipeline(film, tmp_path / "voice.wav", tmp_path / "out.mp4")
    assert counts == {film: times}


@pytest.mark.parametrize("error", [KeyboardInterrupt, MediaError("film.mp4: is no good")])
def test_whatever_ends_a_generation_leaves_neither_threads_nor_files(film, voice, tmp_path, error):
    class Broken(Mirror):
        def generate(self, source, audio):
            yield from islice(super().generate(source, audio), 20)
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        Pipeline(Broken(), "Broken").generate_file(Source(film), voice, tmp_path / "out.mp4")
    assert not others() and not list(tmp_path.iterdir())


def test_errors_of_the_threads_are_those_of_decoding_and_encoding(film, voice, tmp_path, monkeypatch):
    real = VideoReader.__iter__

    def cut(self):
        yield from islice(real(self), 9)
        raise MediaError(f"{self.path}: truncated")

    monkeypatch.setattr(VideoReader, "__iter__", cut)
    with pytest.raises(MediaError, match="film.mp4: truncated"):
        Pipeline(Mirror(), "Mirror").generate_file(Source(film), voice, tmp_path / "out.mp4")
    monkeypatch.undo()

    def full(self, stream, frame):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("talkingface.media.encode.Tracks._mux", full)
    with pytest.raises(OutputError, match="out.mp4: cannot be written, the disk is full"):
        Pipeline(Mirror(), "Mirror").generate_file(Source(film), voice, tmp_path / "out.mp4")
    assert not others() and not list(tmp_path.iterdir())


def test_no_more_frames_are_under_way_than_the_queues_hold(tmp_path, voice):
    film = write_clip(tmp_path / "long.mp4", face_frames(200), None)
    source, made = Source(film), Counter()
    taken = source.kept.frames

    def counted(*args):
        for frame in taken(*args):
            made["decoded"] += 1
            yield frame

    source.kept.frames = counted

    class Slow(Mirror):
        def generate(self, source, audio):
            for number, frame in enumerate(source.frames()):
                made["ahead"] = max(made["ahead"], made["decoded"] - number)
                yield frame

    Pipeline(Slow(), "Slow").generate_file(source, voice, tmp_path / "out.mp4")
    assert made["decoded"] == 200 and 1 <= made["ahead"] <= 18


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_file_says_that_it_is_synthetic_and_its_frames_on_request(film, voice, tmp_path, suffix):
    made = [tmp_path / f"{name}{suffix}" for name in ("plain", "marked")]
    for path, visible in zip(made, (False, True)):
        Pipeline(Mirror(), "Mirror").generate_file(Source(film), voice, path, visible_mark=visible)
        assert "Mirror" in read_mark(path) and "trainedalgorithmicmedia" in read_mark(path).lower()
    assert read_mark(film) == ""
    plain, marked = (next(iter(VideoReader(path))).astype(int) for path in made)
    changed = np.abs(plain - marked).max(axis=-1) > 40
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert rows.min() > 0.9 * plain.shape[0] and columns.max() < 0.5 * plain.shape[1] and changed.sum() > 50


def test_the_sound_may_be_left_out_and_progress_is_told(film, voice, tmp_path):
    told = []
    out = tmp_path / "out.mp4"
    Pipeline(Mirror(), "Mirror").generate_file(
        Source(film), voice, out, mute=True, told=lambda done, of: told.append((done, of))
    )
    assert told == [(done, 45) for done in range(1, 46)] and not probe(out).has_audio


def test_a_part_of_a_film_may_be_made_to_a_part_of_a_sound(film, tmp_path):
    write_wav(tmp_path / "a.wav", tone(1.8))
    output = Pipeline(Mirror(), "Mirror")(film, tmp_path / "a.wav", tmp_path / "b.mp4", start=0.4, most_frames=12)
    made, real = (np.stack(list(VideoReader(path))).astype(int) for path in (output, film))
    assert len(made) == 12 and abs(len(read_audio(output)) - 12 * 640) <= 1024
    shown = [int(np.abs(real[:, :, ::-1] - frame).mean(axis=(1, 2, 3)).argmin()) for frame in made]
    assert shown == list(range(10, 22))


class Explained(Mirror):
    """The same, with a picture of how each frame came about."""

    def generate(self, source, audio):
        for frame in super().generate(source, audio):
            yield Drawn(frame, frame[:32, :32])


@pytest.mark.parametrize("read", ["film", "voice", "reference"])
def test_the_debug_video_replaces_nothing_that_is_read(film, tmp_path, read):
    files = {name: tmp_path / f"{name}.mp4" for name in ("film", "voice", "reference")}
    files[read] = tmp_path / "out_debug.mp4"
    for path in files.values():
        shutil.copyfile(film, path)
    before = {path: path.read_bytes() for path in files.values()}
    call = (files["film"], files["voice"], tmp_path / "out.mp4", files["reference"])
    with pytest.raises(OutputError, match=r"out_debug\.mp4: is also an input; choose another output file"):
        Pipeline(Explained(), "Explained")(*call)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    Pipeline(Mirror(), "Mirror")(*call)  # writes no such video


def test_the_effort_of_the_encoder_is_a_setting(film, voice, tmp_path):
    for preset in ("ultrafast", "medium"):
        pipeline = Pipeline(Mirror(), "Mirror", output=OutputConfig(preset=preset))
        pipeline.generate_file(Source(film), voice, tmp_path / f"{preset}.mp4")
    sizes = {path.stem: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["ultrafast"] > sizes["medium"]
    frames = list(VideoReader(tmp_path / "ultrafast.mp4"))
    assert len(frames) == 45 and np.abs(frames[0].astype(int) - face_frames(1)[0][:, ::-1]).mean() < 6


class Cutout(TalkingFaceModel):
    """Shows a picture and how opaque it is."""

    draws_opacity = True

    def generate(self, source, audio):
        frame, opacity = source.read([0])[0], source.opacity()
        for _ in range(audio.n_frames(source.fps)):
            yield Drawn(frame, opacity=opacity)


@pytest.fixture
def cutout(tmp_path, monkeypatch):
    """Pipeline call on a picture whose left half is red and whose right half is not there."""
    monkeypatch.setattr("talkingface.pipeline.read_audio", lambda *_: tone(0.2))
    monkeypatch.setattr(Audio, "load", lambda *_: Audio(tone(0.2)))
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:, :32] = (255, 0, 0, 255)
    write_image(tmp_path / "cut.png", picture)
    write_image(tmp_path / "blue.png", np.full((8, 8, 3), (0, 0, 255), np.uint8))

    def call(output, model=Cutout, source="cut.png", **options):
        return Pipeline(model(), "Cutout")(tmp_path / source, tmp_path / "v.wav", tmp_path / output, **options)

    return call


def right_side(path):
    return next(iter(VideoReader(path)))[20:40, 44:60].mean(axis=(0, 1))


def test_what_is_behind_a_transparent_picture_is_asked_for_or_white(cutout, tmp_path):
    assert right_side(cutout("a.mp4")).min() > 250
    assert right_side(cutout("b.mp4", background=str(tmp_path / "blue.png")))[2] > 240
    assert right_side(cutout("c.mp4", background=str(tmp_path / "blue.png")))[:2].max() < 20


@pytest.mark.parametrize("output", ["a.mov", "a"])
def test_an_output_that_can_be_transparent_keeps_the_opacity_unless_something_is_asked_for(cutout, tmp_path, output):
    import av
    from PIL import Image

    made = cutout(output)
    if made.is_dir():
        picture = Image.open(made / "frame_00000.png")
        assert picture.getpixel((50, 30))[3] == 0 and picture.info["Comment"] == synthetic_comment("Cutout")
        assert (made / "sound.wav").is_file() and len(list(made.iterdir())) == 6
    else:
        with av.open(str(made)) as container:
            frame = next(container.decode(video=0)).to_ndarray(format="rgba")
        assert frame[30, 50, 3] == 0 and frame[30, 10, 3] == 255 and read_mark(made) == synthetic_comment("Cutout")
    other = cutout("b.mov", background="white")
    with av.open(str(other)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_backgrounds_that_would_not_be_seen_and_outputs_that_cannot_be_transparent_are_refused(cutout, tmp_path):
    with pytest.raises(DataError, match=r"blue\.png: nothing of it is transparent"):
        cutout("a.mp4", source="blue.png", background="white")
    with pytest.raises(DataError, match=r"cut\.png: nothing of it is transparent"):
        cutout("a.mp4", model=Mirror, background="white")
    with pytest.raises(DataError, match=r"a\.mp4: cannot be transparent; write a \.mov file"):
        cutout("a.mp4", background="transparent")
    with pytest.raises(MediaError, match=r"none\.png: no such file"):
        cutout("a.mp4", background=str(tmp_path / "none.png"))
    cutout("there")
    with pytest.raises(OutputError, match="there: is there already"):
        cutout("there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blue.png", "cut.png", "there"]
