"""Writing behind in a thread."""

from __future__ import annotations

import errno
import threading

import numpy as np
import pytest

from helpers.clips import face_frames, tone
from talkingface.errors import OutputError
from talkingface.media import VideoWriter, WriteBehind
from talkingface.media.behind import frames_waiting
from talkingface.media.encode import Tracks


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "write-behind"]


def test_the_file_is_the_same_to_the_byte_though_frames_are_drawn_on_afterwards(tmp_path):
    frames = face_frames(40)
    for name, wrap in (("at_once.mp4", lambda writer: writer), ("behind.mp4", WriteBehind)):
        canvas = np.empty_like(frames[0])
        with wrap(VideoWriter(tmp_path / name, audio=tone(1.6))) as writer:
            for frame in frames:
                canvas[:] = frame
                writer.write(canvas)
                canvas[:] = 0
    assert (tmp_path / "behind.mp4").read_bytes() == (tmp_path / "at_once.mp4").read_bytes()
    assert not threads()


@pytest.mark.parametrize("frames", [1, 40])  # noticed by the next frame, or at the end
def test_an_error_of_the_thread_arrives_as_it_is_and_leaves_no_file(tmp_path, frames, monkeypatch):
    def full(self, stream, frame):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Tracks, "_mux", full)
    disk_full = pytest.raises(OutputError, match="film.mp4: cannot be written, the disk is full")
    with disk_full, WriteBehind(VideoWriter(tmp_path / "film.mp4")) as writer:
        for frame in face_frames(frames):
            writer.write(frame)
    assert not list(tmp_path.iterdir()) and not threads()


def test_a_frame_of_another_size_and_a_film_without_frames_are_refused_as_by_the_writer(tmp_path):
    with pytest.raises(ValueError, match="frame 1 is"), WriteBehind(VideoWriter(tmp_path / "a.mp4")) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        writer.write(np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(OutputError, match="no frame was written"), WriteBehind(VideoWriter(tmp_path / "a.mp4")):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_caller_leaves_neither_file_nor_thread(tmp_path, error):
    with pytest.raises(error), WriteBehind(VideoWriter(tmp_path / "film.mp4")) as writer:
        for frame in face_frames(12):
            writer.write(frame)
        raise error
    assert not list(tmp_path.iterdir()) and not threads()


def test_few_frames_wait_however_slow_the_encoder_is(tmp_path, monkeypatch):
    go, taken = threading.Event(), []

    def slow(self, frame):
        go.wait(10)
        taken.append(len(taken))

    monkeypatch.setattr(VideoWriter, "write", slow)
    monkeypatch.setattr(VideoWriter, "_finish", lambda self: None)
    sent = []
    with WriteBehind(VideoWriter(tmp_path / "film.mp4")) as writer:

        def send():
            for number in range(60):
                writer.write(np.zeros((1024, 1024, 3), np.uint8))
                sent.append(number)

        sender = threading.Thread(target=send)
        sender.start()
        sender.join(0.5)
        waiting = len(sent)
        go.set()
        sender.join(10)
    assert frames_waiting(1024 * 1024 * 3) <= waiting <= frames_waiting(1024 * 1024 * 3) + 1
    assert len(taken) == 60


def test_large_pictures_wait_in_smaller_numbers():
    assert [frames_waiting(3 * side * side) for side in (256, 2048, 8192)] == [16, 5, 2]


def test_a_second_interrupt_leaves_nothing_either(tmp_path, monkeypatch):
    stop, interrupts = WriteBehind._stop, iter([KeyboardInterrupt])

    def interrupted(self):
        for interrupt in interrupts:
            raise interrupt
        stop(self)

    monkeypatch.setattr(WriteBehind, "_stop", interrupted)
    with pytest.raises(KeyboardInterrupt), WriteBehind(VideoWriter(tmp_path / "film.mp4")) as writer:
        writer.write(face_frames(1)[0])
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir()) and not threads()
