"""Reading media: the length rule, time stamps, rotation, sound on the clip's clock, bad input."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import wave
from fractions import Fraction
from itertools import accumulate
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from helpers.media_files import (
    click,
    numbered_frame,
    read_number,
    set_display_matrix,
    write_sound,
    write_video,
)
from talkingface import media
from talkingface.errors import MediaError
from talkingface.media.read import Clock

RATES = {"23.976": Fraction(24000, 1001), "25": 25, "29.97": Fraction(30000, 1001), "30": 30, "50": 50, "60": 60}


def numbers(reader) -> list[int]:
    return [read_number(frame) for frame in reader]


def expected_numbers(times: list[float], end: float, fps: float = 25.0) -> list[int]:
    """The rule of `VideoReader`, written the slow way: what is on screen at the middle of each output frame."""
    count = media.frame_count(end, fps)
    middles = [(k + 0.5) / fps - 0.002 for k in range(count)]
    return [max(i for i, time in enumerate(times) if time <= middle or i == 0) for middle in middles]


@pytest.mark.parametrize(
    ("seconds", "fps", "count"),
    [
        (4.0, 25, 100),
        (0.1, 25, 3),
        (0.0999, 25, 2),
        (0.0, 25, 1),
        (1.0, 29.97, 30),
        (100 / 23.976, 25, 104),
        (3, 60, 180),
    ],
)
def test_length_rule(seconds, fps, count):
    assert media.frame_count(seconds, fps) == count


def test_frames_and_samples_of_sound_are_told_from_each_other_in_one_place():
    assert (
        media.samples_of(25) == 16000 and media.samples_of(2, 30.0) == 1067 and media.samples_of(3, 25.0, 48000) == 5760
    )
    assert [media.frames_heard(samples) for samples in (0, 1, 640, 641)] == [0, 1, 1, 2]
    assert media.frames_heard(media.samples_of(7, 29.97), 29.97) == 7


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_constant_rates_become_25_fps_by_time_stamps(tmp_path, rate, suffix):
    fps = Fraction(RATES[rate])
    times = [float(i / fps) for i in range(75)]
    path = write_video(tmp_path / f"a{suffix}", times, rate=fps, options={"crf": "30", "preset": "ultrafast"})
    end = float(75 / fps)
    if suffix == ".mkv":
        times = [round(time, 3) for time in times]  # Matroska counts milliseconds
    assert numbers(media.VideoReader(path)) == expected_numbers(times, end)
    assert media.count_frames(path) == media.frame_count(end)
    assert media.count_frames(path, None) == 75
    assert numbers(media.VideoReader(path, fps=None)) == list(range(75))
    assert media.probe(path).fps == pytest.approx(float(fps), rel=0.01)


def test_variable_rate_follows_the_time_stamps(tmp_path):
    steps = [0.02, 0.1, 0.033, 0.3, 0.017, 0.05, 0.041, 0.2] * 4
    times = [0.0, *accumulate(steps)]
    path = write_video(tmp_path / "a.mp4", times, options={"preset": "ultrafast"})
    with av.open(str(path)) as container:
        last = [frame.duration * frame.time_base for frame in container.decode(video=0)][-1]
    found = numbers(media.VideoReader(path))
    assert found == expected_numbers(times, times[-1] + float(last))
    assert media.count_frames(path) == len(found)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.mov", "mjpeg", "yuvj420p"),
        ("a.mkv", "ffv1", "yuv420p"),
        ("a.mp4", "libx264", "yuv444p"),
        ("a.h264", "libx264", "yuv420p"),
        ("a.flv", "flv", "yuv420p"),
    ],
)
def test_containers_and_codecs_give_the_same_frames(tmp_path, name, codec, pix_fmt):
    times = [i / 25 for i in range(40)]
    path = write_video(tmp_path / name, times, codec, base=Fraction(1, 25), pix_fmt=pix_fmt)
    assert numbers(media.VideoReader(path)) == list(range(40))
    assert media.count_frames(path) == 40


@pytest.mark.parametrize(
    "options", [{"bf": "3", "g": "250"}, {"bf": "0", "g": "10"}, {"bf": "2", "g": "12", "flags": "-cgop"}]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_window_equals_the_same_frames_of_the_whole(tmp_path, options, suffix):
    path = write_video(tmp_path / f"a{suffix}", [i / 30 for i in range(90)], rate=Fraction(30), options=options)
    whole = numbers(media.VideoReader(path))
    assert len(whole) == 75
    for start, stop in [(0, 5), (1, 2), (11, 30), (40, 75), (74, None), (50, 999), (80, None), (5, 5)]:
        assert numbers(media.VideoReader(path, start=start, stop=stop)) == whole[start:stop]


def test_repeated_frames_may_be_drawn_upon(tmp_path):
    path = write_video(tmp_path / "a.mp4", [0.0, 0.4, 0.8])
    seen = []
    for frame in media.VideoReader(path):
        seen.append(read_number(frame))
        frame[:] = 0
    assert seen[:12] == [0] * 10 + [1] * 2


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda f: np.rot90(f, -1)),
        ((0, -1, 1, 0), lambda f: np.rot90(f, 1)),
        ((-1, 0, 0, -1), lambda f: np.rot90(f, 2)),
        ((-1, 0, 0, 1), lambda f: f[:, ::-1]),
        ((1, 0, 0, 1), lambda f: f),
    ],
)
def test_the_rotation_flag_turns_frames_and_size(tmp_path, matrix, turn):
    frame = np.full((48, 80, 3), 40, np.uint8)
    frame[:24, :40], frame[24:, 40:] = (200, 40, 40), (40, 40, 200)
    path = write_video(tmp_path / "a.mp4", [0.0, 0.04], frames=[frame] * 2)
    set_display_matrix(path, *matrix)
    reader = media.VideoReader(path)
    upright = next(iter(reader))
    wanted = turn(frame)
    assert reader.size == wanted.shape[:2] == upright.shape[:2]
    assert np.abs(upright.astype(int) - wanted).mean() < 6


def test_one_pass_gives_frames_and_sound(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(2 * 44100) / 44100)
    audio = np.stack([tone, np.zeros_like(tone)])
    path = write_video(tmp_path / "a.mp4", [i / 30 for i in range(60)], audio=audio, audio_rate=44100)
    reader = media.VideoReader(path, with_audio=True)
    assert reader.audio is None
    assert len(list(reader)) == 50
    assert reader.audio.dtype == np.float32 and reader.audio.ndim == 1
    assert len(reader.audio) == 32000
    wanted = 0.25 * np.sin(2 * np.pi * 300 * np.arange(32000) / 16000)
    assert np.abs(reader.audio - wanted)[1000:-1000].max() < 0.03
    np.testing.assert_array_equal(reader.audio, media.read_audio(path))
    info = media.probe(path)
    assert (info.sample_rate, info.channels, info.has_audio) == (44100, 2, True)


def test_a_window_brings_its_own_sound(tmp_path):
    path = write_video(tmp_path / "a.mp4", [i / 25 for i in range(50)], audio=click(2, 1.0)[None])
    reader = media.VideoReader(path, start=20, stop=35, with_audio=True)
    assert numbers(reader) == list(range(20, 35))
    assert len(reader.audio) == 15 * 640
    assert np.argmax(np.abs(reader.audio) > 0.3) == pytest.approx(0.2 * 16000, abs=8)


def test_a_film_without_sound_has_none(tmp_path):
    reader = media.VideoReader(write_video(tmp_path / "a.mp4", [0.0, 0.04]), with_audio=True)
    assert len(list(reader)) == 2 and reader.audio is None


@pytest.mark.parametrize("start", [0.0, 0.3, 0.7])
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "flac")])
def test_sound_that_starts_late_is_preceded_by_silence(tmp_path, start, suffix, codec):
    path = write_video(
        tmp_path / f"a{suffix}",
        [i / 25 for i in range(50)],
        audio=click(1.0, 0.2, 48000)[None],
        audio_rate=48000,
        audio_start=start,
        audio_codec=codec,
    )
    for audio in (media.read_audio(path), _sound_of(path)):
        assert np.argmax(np.abs(audio) > 0.3) / 16000 == pytest.approx(start + 0.2, abs=0.001)


def test_sound_before_the_first_frame_is_cut(tmp_path):
    path = write_video(
        tmp_path / "a.mkv", [0.5 + i / 25 for i in range(25)], audio=click(1.5, 0.9)[None], audio_codec="flac"
    )
    assert numbers(media.VideoReader(path)) == list(range(25))
    for audio in (media.read_audio(path), _sound_of(path)):
        assert np.argmax(np.abs(audio) > 0.3) / 16000 == pytest.approx(0.4, abs=0.001)


def test_a_hole_in_the_sound_becomes_silence(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000)
        stream.layout = "mono"
        for start, block in [(0, np.zeros(8000)), (24000, click(0.5, 0.1))]:
            frame = av.AudioFrame.from_ndarray(block[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    audio = media.read_audio(path)
    assert np.argmax(np.abs(audio) > 0.3) / 16000 == pytest.approx(1.6, abs=0.001)


def _sound_of(path) -> np.ndarray:
    reader = media.VideoReader(path, with_audio=True)
    for _ in reader:
        pass
    return reader.audio


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels"),
    [
        ("a.wav", "pcm_s16le", 8000, 1),
        ("a.wav", "pcm_f32le", 44100, 2),
        ("a.flac", "flac", 96000, 2),
        ("a.mp3", "libmp3lame", 44100, 2),
        ("a.opus", "libopus", 48000, 2),
        ("a.m4a", "aac", 22050, 2),
    ],
)
def test_any_sound_becomes_16_khz_mono(tmp_path, name, codec, rate, channels):
    tone = (0.4 * np.sin(2 * np.pi * 200 * np.arange(rate) / rate)).astype(np.float32)
    path = write_sound(tmp_path / name, np.stack([tone] * channels), rate, codec)
    audio = media.read_audio(path)
    assert audio.dtype == np.float32 and audio.ndim == 1
    assert len(audio) / 16000 == pytest.approx(1.0, abs=0.08)
    middle = audio[4000:12000]
    assert np.abs(middle).max() == pytest.approx(0.4, abs=0.05)
    assert np.argmax(np.abs(np.fft.rfft(middle))) * 16000 / 8000 == pytest.approx(200, abs=4)


def test_dialogue_in_the_centre_of_surround_sound_keeps_its_level(tmp_path):
    channels = np.zeros((6, 48000), np.float32)
    channels[2] = 0.4 * np.sin(2 * np.pi * 200 * np.arange(48000) / 48000)
    audio = media.read_audio(write_sound(tmp_path / "a.flac", channels, 48000, "flac"))
    assert np.abs(audio[4000:12000]).max() == pytest.approx(0.4 * 2**-0.5, abs=0.02)


def test_wav_round_trip(tmp_path):
    audio = np.clip(np.random.default_rng(0).normal(0, 0.4, 5000), -1, 1).astype(np.float32)
    media.write_wav(tmp_path / "deep" / "a.wav", audio)
    with wave.open(str(tmp_path / "deep" / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 5000)
    assert np.abs(media.read_audio(tmp_path / "deep" / "a.wav") - audio).max() < 1e-4


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff"])
def test_image_round_trip(tmp_path, suffix):
    y, x = np.mgrid[:48, :64]
    frame = np.stack([x * 3, y * 5, 255 - x * 3], -1).astype(np.uint8)
    path = tmp_path / f"100%d a:b{suffix}"  # FFmpeg would take the name for a pattern
    media.write_image(path, frame)
    assert media.is_image(path)
    info = media.probe(path)
    assert info.is_image and info.size == (48, 64)
    error = np.abs(media.read_image(path).astype(int) - frame)
    assert error.max() == 0 if suffix in {".png", ".bmp", ".tiff"} else error.mean() < 3
    (only,) = media.VideoReader(path)
    np.testing.assert_array_equal(only, media.read_image(path))
    assert media.count_frames(path) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_transparent_pixels_become_white(tmp_path):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4] = (255, 0, 0, 255)  # blue, as OpenCV counts
    cv2.imwrite(str(tmp_path / "a.png"), rgba)
    frame = media.read_image(tmp_path / "a.png")
    assert (frame[:4] == (0, 0, 255)).all() and (frame[4:] == 255).all()


def test_the_orientation_of_a_photo_is_applied(tmp_path):
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[:, :32] = 250
    data = cv2.imencode(".jpg", frame)[1].tobytes()
    # EXIF with the single entry Orientation = 6 (the camera was turned; the picture needs a quarter turn clockwise).
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:])
    upright = media.read_image(path)
    assert upright.shape == (64, 32, 3) and media.probe(path).size == (64, 32)
    assert upright[:32].mean() > 200 and upright[32:].mean() < 50


@pytest.fixture
def good_video(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), dtype=np.uint8)
    path = tmp_path / "good.mp4"
    with media.VideoWriter(path, audio=click(2.0, 1.0)) as writer:
        for frame in noise:
            writer.write(frame)
    return path


def _bad_file(kind, folder, good):
    path = folder / f"{kind}.mp4"
    data = good.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("This is not a film. " * 50)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(1).bytes(20000))
    elif kind == "folder":
        path.mkdir()
    elif kind == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "no_index":
        plain = io.BytesIO()
        with av.open(plain, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = 64
            for i in range(10):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(i), format="rgb24")))
            container.mux(stream.encode(None))
        path.write_bytes(plain.getvalue()[: len(plain.getvalue()) * 2 // 3])
    elif kind == "header_only":
        path.write_bytes(data[:200])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "the file is empty"),
        ("text", "not a media file"),
        ("noise", "not a media file"),
        ("folder", "is a folder"),
        ("cut", "truncated"),
        ("no_index", "truncated or damaged"),
        ("header_only", "truncated or damaged"),
    ],
)
@pytest.mark.parametrize("read", [media.probe, media.count_frames, media.VideoReader, media.read_audio])
def test_bad_files_give_one_clear_line(tmp_path, good_video, kind, reason, read):
    path = _bad_file(kind, tmp_path, good_video)
    with pytest.raises(MediaError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and reason in message and "\n" not in message
    assert not media.is_image(path)


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_a_film_cut_in_the_middle_is_reported_at_its_end(tmp_path, suffix):
    frames = list(np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), dtype=np.uint8))
    whole = write_video(tmp_path / f"a{suffix}", [i / 25 for i in range(50)], "mpeg4", frames, base=Fraction(1, 25))
    cut = tmp_path / f"b{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(MediaError, match="truncated, only .* of the declared"):
        media.count_frames(cut)
    read = 0
    with pytest.raises(MediaError, match="truncated"):
        for _ in media.VideoReader(cut):
            read += 1
    assert read > 10
    assert media.count_frames(whole) == 50


def test_sound_where_a_picture_is_needed(tmp_path):
    media.write_wav(tmp_path / "a.wav", click(1, 0.5))
    for read in (media.VideoReader, media.count_frames):
        with pytest.raises(MediaError, match="has sound but no picture"):
            read(tmp_path / "a.wav")
    with pytest.raises(MediaError, match="not a still image"):
        media.read_image(tmp_path / "a.wav")


def test_no_sound_and_sound_without_samples(tmp_path):
    silent = write_video(tmp_path / "a.mp4", [0.0, 0.04])
    with pytest.raises(MediaError, match="no sound track"):
        media.read_audio(silent)
    media.write_wav(tmp_path / "b.wav", np.zeros(0))
    with pytest.raises(MediaError, match="b.wav"):
        media.read_audio(tmp_path / "b.wav")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9])
def test_a_corrupt_image_is_refused(tmp_path, suffix, keep):
    media.write_image(tmp_path / f"a{suffix}", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = (tmp_path / f"a{suffix}").read_bytes()
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes(data[: int(len(data) * keep)])
    for read in (media.read_image, media.probe, media.VideoReader):
        with pytest.raises(MediaError, match="bad"):
            read(bad)


def test_damaged_packets_are_skipped(tmp_path, good_video):
    data = bytearray(good_video.read_bytes())
    start = data.index(b"mdat") + 8
    middle = start + (len(data) - start) // 2
    data[middle : middle + 200] = bytes(200)
    path = tmp_path / "scratched.mp4"
    path.write_bytes(data)
    assert len(list(media.VideoReader(path))) == 50


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_no_number_is_refused(tmp_path, rate, value):
    from talkingface.clips.source import Audio

    sound = np.full(rate // 2, 0.1, np.float32)
    sound[rate // 4] = value
    path = write_sound(tmp_path / "broken.wav", sound[None], rate, "pcm_f32le")
    with pytest.raises(MediaError, match=r"broken\.wav: holds samples that are not finite numbers \(NaN or infinite\)"):
        media.read_audio(path)
    with pytest.raises(MediaError, match="audio: holds samples that are not finite"):
        Audio(sound)


def test_importing_media_needs_no_pyav():
    code = "import sys; sys.modules['av'] = None; import talkingface.media, talkingface.clips.source"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_memory_is_flat_in_the_length_of_the_clip(tmp_path):
    def peak(frames: int) -> int:
        code = textwrap.dedent(f"""
            import resource, numpy as np
            from talkingface.media import VideoReader, VideoWriter
            from talkingface.clips.source import Source
            base = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
            path = r"{tmp_path}/{frames}.mp4"
            with VideoWriter(path, audio=np.zeros({frames} * 640, np.float32), preset="ultrafast") as writer:
                for i in range({frames}):
                    writer.write(np.roll(base, i, 1))
            for frame in VideoReader(path, with_audio=True):
                pass
            source = Source.from_path(path)
            for frame in source.frames(source.order(len(source))):
                pass
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        """)
        return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    short, long = peak(60), peak(600)
    assert long - short < 40, f"{short} MB for 60 frames, {long} MB for 600 (the frames alone would be 138 MB)"


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 1, 2], [0.0, 0.04, 0.08]),
        ([None, None, None], [0.0, 0.04, 0.08]),
        ([0, 1, 1, 2], [0.0, 0.04, 0.04, 0.08]),
        ([50, 51, 0, 1], [2.0, 2.04, 2.08, 2.12]),  # starts again
        ([0, 1, 1000000, 1000001], [0.0, 0.04, 0.08, 0.12]),  # jumps by hours
        ([0, 1, 500], [0.0, 0.04, 20.0]),  # a picture that stood still
    ],
)
def test_broken_time_stamps_are_mended(stamps, times):
    clock = Clock(25.0)
    frames = [SimpleNamespace(pts=stamp, time_base=Fraction(1, 25), duration=1) for stamp in stamps]
    assert [clock(frame)[0] for frame in frames] == pytest.approx(times)


def test_a_picture_that_stands_still_for_long_keeps_its_length(tmp_path):
    times = [k / 25 for k in range(5)] + [70 + k / 25 for k in range(5)]
    path = write_video(tmp_path / "a.mkv", times, audio=click(70.2, at=0.5)[None])
    assert media.count_frames(path) == pytest.approx(70.2 * 25, abs=1)
