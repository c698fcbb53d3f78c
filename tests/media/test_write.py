"""Writing media: colours, sound beside the picture, exact lengths, nothing half-written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from helpers.media_files import click, numbered_frame, read_number
from talkingface import media
from talkingface.errors import OutputError
from talkingface.media import encode as media_encode


def colourful(height: int, width: int) -> np.ndarray:
    """Smooth saturated colours with a little grain, (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [np.sin(x / 90), np.sin(y / 70 + 1), np.sin((x + y) / 110 + 2)]
    grain = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return np.clip(np.rint(127 + 115 * np.stack(waves, -1) + grain), 0, 255).astype(np.uint8)


def write(path, frames, **options):
    with media.VideoWriter(path, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize("size", [(720, 1280), (360, 640)])
def test_colours_survive_a_round_trip_without_bias(tmp_path, size):
    frame = colourful(*size)
    back = list(media.VideoReader(write(tmp_path / "a.mp4", [frame] * 3)))[1].astype(float)
    assert np.abs(back - frame).mean() < 2.0
    assert np.abs((back - frame).mean((0, 1))).max() < 0.3


@pytest.mark.parametrize(("size", "tag"), [((720, 1280), 1), ((240, 320), 6)])
def test_colour_tags_fit_the_size(tmp_path, size, tag):
    import av

    with av.open(str(write(tmp_path / "a.mp4", [colourful(*size)]))) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (tag, 1)


@pytest.mark.parametrize("size", [(64, 64), (63, 64), (64, 65), (65, 95)])
def test_odd_sides_grow_by_one_repeated_line(tmp_path, size):
    frame = colourful(*size)
    path = write(tmp_path / "a.mp4", [frame] * 2)
    height, width = size[0] + size[0] % 2, size[1] + size[1] % 2
    assert media.probe(path).size == (height, width)
    back = next(iter(media.VideoReader(path))).astype(float)
    assert np.abs(back[: size[0], : size[1]] - frame).mean() < 3
    assert np.abs(back[-1] - back[-2]).mean() < 12 and np.abs(back[:, -1] - back[:, -2]).mean() < 12


@pytest.mark.parametrize("fps", [25.0, 29.97, 23.976, 30.0, 62.5])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_and_rate_come_back(tmp_path, fps, suffix):
    path = write(tmp_path / f"a{suffix}", [numbered_frame(i) for i in range(40)], fps=fps)
    assert media.probe(path).fps == pytest.approx(fps, rel=2e-3)
    assert [read_number(f) for f in media.VideoReader(path, fps=None)] == list(range(40))
    assert [read_number(f) for f in media.VideoReader(path, fps=fps)] == list(range(40))


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0])
def test_sound_is_exactly_as_long_as_the_frames(tmp_path, seconds):
    frames = [numbered_frame(i) for i in range(50)]
    path = write(tmp_path / "a.mp4", frames, audio=np.full(round(seconds * 16000), 0.1, np.float32))
    assert len(media.read_audio(path)) == 50 * 640
    assert media.probe(path).duration == pytest.approx(2.0)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_flash_and_a_click_stay_together(tmp_path, rate, suffix):
    dark, bright = np.full((64, 64, 3), 20, np.uint8), np.full((64, 64, 3), 230, np.uint8)
    frames = [bright if i == 30 else dark for i in range(60)]
    path = write(tmp_path / f"a{suffix}", frames, audio=click(2.4, 1.2, rate, rate // 200), sample_rate=rate)
    for round_trip in range(2):  # once more, to see that nothing adds up
        reader = media.VideoReader(path, with_audio=True)
        back = list(reader)
        flash = int(np.argmax([frame.mean() for frame in back]))
        heard = np.argmax(np.abs(reader.audio) > 0.3) / 16000
        assert flash == 30
        assert heard == pytest.approx(1.2, abs=0.005)
        path = write(tmp_path / f"again{round_trip}{suffix}", back, audio=reader.audio)


def test_sound_is_interleaved_with_the_picture(tmp_path):
    import av

    path = write(tmp_path / "a.mp4", [numbered_frame(i) for i in range(250)], audio=np.zeros(160000, np.float32))
    with av.open(str(path)) as container:
        kinds = [packet.stream.type for packet in container.demux() if packet.size]
    third = len(kinds) // 3
    assert "audio" in kinds[:third] and "video" in kinds[-third:]


@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two cores to give one up")
def test_a_film_does_not_depend_on_the_number_of_cores(tmp_path):
    cores, noise = os.sched_getaffinity(0), colourful(320, 320)
    frames = [np.ascontiguousarray(noise[2 * k : 2 * k + 256, k : k + 256]) for k in range(30)]
    made = []
    for some in (cores, {min(cores)}):
        os.sched_setaffinity(0, some)
        try:
            made.append(write(tmp_path / "film.mp4", frames, fps=25).read_bytes())
        finally:
            os.sched_setaffinity(0, cores)
    assert made[0] == made[1]


def test_an_error_leaves_nothing_behind_and_keeps_its_kind(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"older result")
    for error in (RuntimeError("boom"), FileNotFoundError(errno.ENOENT, "of the caller"), KeyboardInterrupt()):
        with pytest.raises(type(error)), media.VideoWriter(tmp_path / "a.mp4", audio=np.zeros(16000)) as writer:
            writer.write(numbered_frame(0))
            raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"older result"


def test_no_frames_and_wrong_frames_are_refused(tmp_path):
    with pytest.raises(OutputError, match="no frame was written"), media.VideoWriter(tmp_path / "a.mp4"):
        pass
    with pytest.raises(ValueError, match=r"frame 1 is \(64, 66\)"):
        write(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8), np.zeros((64, 66, 3), np.uint8)])
    with pytest.raises(ValueError, match="uint8"):
        write(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.float32)])
    with pytest.raises(OutputError, match="unknown video suffix"):
        media.VideoWriter(tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="AAC"):
        media.VideoWriter(tmp_path / "a.mp4", audio=np.zeros(10), sample_rate=12345)
    assert not list(tmp_path.iterdir())


def _writers(folder):
    yield lambda: write(folder / "a.mp4", [numbered_frame(0)])
    yield lambda: media.write_wav(folder / "a.wav", np.zeros(100))
    yield lambda: media.write_image(folder / "a.png", numbered_frame(0))


def test_a_folder_that_cannot_be_made_or_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    for attempt in _writers(tmp_path / "file" / "deeper"):
        with pytest.raises(OutputError, match="not a folder"):
            attempt()

    def refuse(*_args, **_options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("talkingface.files.os.open", refuse)
    for attempt in _writers(tmp_path):
        with pytest.raises(OutputError, match="read-only") as caught:
            attempt()
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    try:
        for attempt in _writers(tmp_path):
            with pytest.raises(OutputError, match="no permission"):
                attempt()
    finally:
        tmp_path.chmod(0o755)


def test_a_full_disk_midway(tmp_path, monkeypatch):
    """The writes of the system fail in the middle of the film: one line, no trace of the file."""
    code = textwrap.dedent(f"""
        import resource, signal, sys
        import numpy as np
        from talkingface import media
        from talkingface.errors import OutputError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))
        rng = np.random.default_rng(0)
        for name in ("a.mp4", "a.mkv", "a.wav", "a.png"):
            path = r"{tmp_path}/" + name
            try:
                if name.endswith("wav"):
                    media.write_wav(path, np.zeros(60000))
                elif name.endswith("png"):
                    media.write_image(path, rng.integers(0, 255, (300, 300, 3), dtype=np.uint8))
                else:
                    with media.VideoWriter(path) as writer:
                        for i in range(200):
                            writer.write(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
            except OutputError as error:
                print(error)
    """)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 4 and all("cannot be written, the file grew past the size limit" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_the_message_of_a_full_disk(tmp_path):
    from talkingface.files import atomic_output

    with pytest.raises(OutputError, match="the disk is full"), atomic_output(tmp_path / "a.bin"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_encoders_are_tried_in_order(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(media_encode, "_ENCODERS", ("no_such_encoder", "mpeg4"))
    path = write(tmp_path / "a.mp4", [numbered_frame(i) for i in range(10)])
    assert "no H.264 encoder" in caplog.text
    assert [read_number(frame) for frame in media.VideoReader(path)] == list(range(10))
    monkeypatch.setattr(media_encode, "_ENCODERS", ("no_such_encoder",))
    with pytest.raises(OutputError, match="no video encoder"):
        write(tmp_path / "b.mp4", [numbered_frame(0)])
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
