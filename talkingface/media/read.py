"""Frames of a video on an even clock, with their sound, out of one decoding pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.errors import MediaError
from talkingface.media.audio import AudioCollector
from talkingface.media.demux import Demuxer, first_frame
from talkingface.media.info import (
    FPS,
    SAMPLE_RATE,
    audio_stream,
    declared_seconds,
    exact_seconds,
    frame_count,
    open_media,
    source_fps,
    video_stream,
)
from talkingface.media.pixels import FrameConverter, read_image
from talkingface.media.probe import probe
from talkingface.media.shape import shape_of

# Midpoints are taken this much early: at exactly twice the rate (50 fps) they fall on a frame change, where time
# stamps rounded to milliseconds would pick now one, now the other neighbour.
_TIE_SECONDS = 0.002
_BROKEN_CLOCK_SECONDS = 60.0  # a jump this far is a fault of the time stamps, not a picture that stood still
_RESTART_SECONDS = 1.0  # a jump back this far is a clock that began anew


class Clock:
    """Gives every frame its time stamp and duration in seconds, also where the file lacks or breaks them."""

    def __init__(self, fps: float, declared: float = 0.0) -> None:
        """`fps` stands in where a frame does not say how long it is shown; the file declares `declared` seconds."""
        self._step = 1.0 / fps
        self._declared = declared
        self._first: float | None = None
        self._shift = 0.0
        self._last: float | None = None

    def __call__(self, frame: Any) -> tuple[float, float]:
        """Return (time, duration) of a decoded frame; times never decrease."""
        duration = float((frame.duration or 0) * frame.time_base) if frame.time_base else 0.0
        # A frame without a duration is taken to last as long as the one before.
        duration = duration if duration > 0 else self._step
        due = 0.0 if self._last is None else self._last + self._step
        time = due if frame.pts is None else float(frame.pts * frame.time_base) + self._shift
        if self._last is not None:
            jump = time - self._last
            # The clock restarted (joined recordings) or ran away: from here on it goes on where it was due.
            # Screen recorders write no frame while nothing moves: then the length in the header agrees.
            stood_still = time - self._first <= self._declared
            if (jump > _BROKEN_CLOCK_SECONDS and not stood_still) or jump < -_RESTART_SECONDS:
                self._shift += due - time
                time = due
        # Small steps back are rounding of the container; the order of the frames is certain.
        self._last = time = time if self._last is None else max(time, self._last)
        self._first = time if self._first is None else self._first
        self._step = duration
        return time, duration


class VideoReader:
    """Streams the frames of a video; memory does not grow with its length.

    With `fps` set, frame k is the source frame on screen at (k + 1/2) / fps, counted from the first displayed frame,
    so that any rate, constant or variable, is resampled without shifting it against the sound; see `frame_count` for
    the number of frames. With `fps=None` the source frames come as they are. A still image gives one frame. Iterating
    again reads the file again.

    Attributes:
        info: What the file contains.
        size: (height, width) of the frames, after rotation.
        audio: (n,) float32 mono 16 kHz sound of the frames, set when an iteration `with_audio` has ended; None if the
            file has no sound. Its length is that of the sound track, which may differ from the frames'.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | None = FPS,
        start: int = 0,
        stop: int | None = None,
        *,
        with_audio: bool = False,
    ) -> None:
        """Open a video or image.

        Args:
            path: The file.
            fps: Frame rate to deliver, None for the source's own.
            start: First frame, counted at `fps`.
            stop: One past the last frame; None reads to the end.
            with_audio: Also collect the sound, in the same pass.

        Raises:
            MediaError: If the file is missing, damaged, or has no picture.
        """
        if fps is not None and not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        if start < 0:
            raise ValueError(f"start must not be negative, got {start}")
        self.path = Path(path)
        self.info = probe(self.path)
        if not self.info.has_video:
            raise MediaError(f"{self.path}: has sound but no picture; give a video or an image")
        self.size = self.info.size
        self.fps, self.start, self.stop, self.with_audio = fps, start, stop, with_audio
        self.audio: np.ndarray | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield frames (H, W, 3) uint8 RGB, each owned by the caller.

        Raises:
            MediaError: At the end, if the file was cut short.
        """
        self.audio = None
        if self.info.is_image:
            if self.start == 0 and self.stop != 0:
                yield read_image(self.path)
            return
        # A late start is worth a seek where frames are counted by time (`fps`); sound is collected from the front.
        origin = self._origin() if self.start and self.fps and not self.with_audio else None
        if origin is not None:
            with open_media(self.path) as container:
                stream = video_stream(container)
                demuxer = Demuxer(container, self.path, stream)
                if demuxer.seek(stream, origin + self.start / self.fps):
                    yield from self._frames(demuxer, stream, origin)
                    return
        with open_media(self.path) as container:
            stream = video_stream(container)
            sound = audio_stream(container) if self.with_audio else None
            demuxer = Demuxer(container, self.path, stream, *([sound] if sound else []))
            yield from self._frames(demuxer, stream, None)

    def _origin(self) -> float | None:
        """Time stamp of the first displayed frame, from which frames are counted; None where it has none."""
        with open_media(self.path) as container:
            frame = first_frame(container, self.path, video_stream(container))
            return None if frame is None or frame.pts is None else float(frame.pts * frame.time_base)

    def _frames(self, demuxer: Demuxer, stream: Any, origin: float | None) -> Iterator[np.ndarray]:
        stream.thread_type = "AUTO"
        collector = AudioCollector(SAMPLE_RATE, str(self.path)) if len(demuxer.decoding) > 1 else None
        timed = _TimedFrames(demuxer, stream, collector, origin)
        convert: FrameConverter | None = None
        for frame in _select(timed, self.fps, self.start, self.stop):
            if convert is None:
                convert = FrameConverter(shape_of(demuxer.container, self.path, stream, frame))
            yield convert(frame)  # also when it repeats: the caller may have drawn on the last one
        self._finish(demuxer, stream, timed, collector)

    def _finish(self, demuxer: Demuxer, stream: Any, timed: _TimedFrames, collector: AudioCollector | None) -> None:
        """Collect the rest of the sound; report a file that ended too early."""
        if collector is not None:
            fps = self.fps or source_fps(stream)
            stop = None if self.stop is None else self.stop / fps
            timed.drain(stop)
            declared = exact_seconds(demuxer.container, audio_stream(demuxer.container)) if stop is None else 0.0
            self.audio = collector.finish(timed.origin or 0.0, self.start / fps, stop, declared)
        if timed.exhausted:
            if timed.count == 0:
                raise MediaError(f"{self.path}: no frame could be decoded; copy or download the file again")
            if not timed.sought:
                demuxer.check_complete(stream)


class _TimedFrames:
    """Iterates (time since the first frame, duration, frame) of the video; sound goes to the collector on the way."""

    def __init__(self, demuxer: Demuxer, stream: Any, collector: AudioCollector | None, origin: float | None) -> None:
        self.origin = origin
        self.sought = origin is not None
        self.count = 0
        self.exhausted = False
        self._source = demuxer.frames()
        self._demuxer = demuxer
        self._index = stream.index
        self._collector = collector
        self._clock = Clock(source_fps(stream), declared_seconds(demuxer.container, stream))

    def __iter__(self) -> Iterator[tuple[float, float, Any]]:
        for index, frame in self._source:
            if index != self._index:
                self._collector.feed(frame)
                continue
            time, duration = self._clock(frame)
            self.origin = time if self.origin is None else self.origin
            self.count += 1
            yield time - self.origin, duration, frame
        self.exhausted = True

    def drain(self, stop: float | None) -> None:
        """Decode the sound that belongs to the frames already taken: to `stop` seconds, or to the end."""
        if self.exhausted:
            return
        self._demuxer.decoding.discard(self._index)
        for index, frame in self._source:
            if index != self._index:
                self._collector.feed(frame)
            if stop is not None and self._collector.clock - (self.origin or 0.0) > stop:
                return


def _select(timed: _TimedFrames, fps: float | None, start: int = 0, stop: int | None = None) -> Iterator[Any]:
    """Pick the source frame of each output frame `start` to `stop`: all of them, or at the rate `fps`."""
    if stop is not None and stop <= start:
        return
    if fps is None:
        for index, (_, _, frame) in enumerate(timed):
            if index >= start:
                yield frame
            if index + 1 == stop:
                return
        return
    # An output frame is decided once the next source frame is known: `held` is on screen until then.
    held: Any = None
    end = 0.0
    position = start
    for time, duration, frame in timed:
        while held is not None and (position + 0.5) / fps - _TIE_SECONDS < time:
            yield held
            position += 1
            if position == stop:
                return
        held, end = frame, time + duration
    # The end of the file: the last frame stays on screen for as long as it says.
    total = 0 if held is None else frame_count(end, fps)
    for _ in range(position, total if stop is None else min(stop, total)):
        yield held


def count_frames(path: str | Path, fps: float | None = FPS) -> int:
    """Number of frames that `VideoReader(path, fps)` delivers, from the time stamps alone where they can be trusted.

    Raises:
        MediaError: If the file is missing, damaged, cut short, or has no picture.
    """
    path = Path(path)
    info = probe(path)
    if not info.has_video:
        raise MediaError(f"{path}: has sound but no picture; give a video or an image")
    if info.is_image:
        return 1
    with open_media(path) as container:
        stream = video_stream(container)
        seconds, count = _scan(Demuxer(container, path), stream)
    if seconds is not None:
        return count if fps is None else frame_count(seconds, fps)
    with open_media(path) as container:
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        demuxer = Demuxer(container, path, stream)
        return sum(1 for _ in _select(_TimedFrames(demuxer, stream, None, None), fps))


def _scan(demuxer: Demuxer, stream: Any) -> tuple[float | None, int]:
    """Return (seconds, packets) of a stream without decoding; None where its time stamps are missing or jump."""
    count, trusted, lacks_duration = 0, True, False
    previous: float | None = None
    for packet in demuxer.packets():
        if packet.stream.index != stream.index or not packet.size or packet.is_discard:
            continue
        count += 1
        if packet.pts is None:
            trusted = False
            continue
        time = float(packet.pts * packet.time_base)
        trusted = trusted and (previous is None or abs(time - previous) < _RESTART_SECONDS)
        previous, lacks_duration = time, not packet.duration
    demuxer.check_complete(stream)
    # A last packet without a duration ends with its beginning; it is shown for one frame.
    seconds = demuxer.span(stream) + (1.0 / source_fps(stream) if lacks_duration else 0.0)
    return (seconds if trusted and count else None), count
