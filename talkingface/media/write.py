"""Video files written while frames arrive: H.264 with AAC beside it, memory flat, complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from talkingface.errors import OutputError
from talkingface.files import atomic_output, output_error
from talkingface.media.encode import AAC_RATES, AUDIO_BLOCK, Tracks
from talkingface.media.info import FPS, SAMPLE_RATE

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")


class VideoWriter:
    """Context manager that encodes frames as they arrive and interleaves the sound.

    The file is written under a temporary name and takes its own on a clean exit; after an error nothing is left.
    4:2:0 video has even sides: a frame of odd width or height is extended by one pixel, repeating its last column or
    row, so the file is that one pixel larger. Pictures of at least 1280 x 577 carry BT.709 colour, smaller ones BT.601,
    limited range, and are tagged so. The sound is cut, or continued by silence, to exactly the length of the frames.

    Example:
        >>> with VideoWriter("out.mp4", fps=25, audio=samples) as writer:
        ...     for frame in frames:
        ...         writer.write(frame)
    """

    channels: ClassVar[int] = 3
    tracks: ClassVar[type[Tracks]] = Tracks

    def __init__(
        self,
        path: str | Path,
        fps: float = FPS,
        size: tuple[int, int] | None = None,
        audio: np.ndarray | None = None,
        sample_rate: int = SAMPLE_RATE,
        crf: int = 18,
        preset: str = "medium",
        comment: str = "",
    ) -> None:
        """Describe the file; it is made when the context is entered.

        Args:
            path: .mp4, .mov, .m4v or .mkv; folders are made.
            fps: Frames per second.
            size: (height, width) of the frames; None takes that of the first one.
            audio: (n,) float mono waveform in [-1, 1], or None for a silent film without a sound track.
            sample_rate: Hz of `audio`.
            crf: Quality of x264, lower is better; 18 is visually lossless.
            preset: Effort of x264.
            comment: Text in the metadata of the file, where players show it: what it is, say.

        Raises:
            OutputError: If the suffix is not that of a video file.
        """
        self.path = Path(path)
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise OutputError(f"{self.path}: unknown video suffix; use one of {', '.join(VIDEO_SUFFIXES)}")
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        if audio is not None and np.ndim(audio) != 1:
            raise ValueError(f"audio must be mono (n,), got shape {np.shape(audio)}")
        if audio is not None and sample_rate not in AAC_RATES:
            raise ValueError(f"AAC has no sample rate of {sample_rate} Hz; resample the audio to 16000, 44100 or 48000")
        self.fps = fps
        # 29.97 is 30000/1001: a decimal fraction would drift by a frame in minutes.
        self.rate = Fraction(fps).limit_denominator(1001)
        self.size = size
        self.audio = None if audio is None else np.asarray(audio, dtype=np.float32)
        self.sample_rate, self.crf, self.preset, self.comment = sample_rate, crf, preset, comment
        self.frames = 0
        self._sent = 0  # samples handed to the sound encoder
        self._stack = ExitStack()
        self._container: Any = None
        self._tracks: Any = None

    def __enter__(self) -> VideoWriter:
        """Make the temporary file, so that a folder that cannot be written is found before any work.

        Raises:
            OutputError: If the folder cannot be made or written.
        """
        self._temporary = self._stack.enter_context(atomic_output(self.path))
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one frame.

        Args:
            frame: (H, W, 3) uint8 RGB, all of one size.

        Raises:
            OutputError: If the disk is full or the file cannot be written.
        """
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != self.channels:
            wanted = f"(H, W, {self.channels}) uint8 {'RGBA'[: self.channels]}"
            raise ValueError(f"{self.path}: frames must be {wanted}, got {frame.shape} {frame.dtype}")
        if self.size is None:
            self.size = frame.shape[:2]
        if frame.shape[:2] != tuple(self.size):
            raise ValueError(f"{self.path}: frame {self.frames} is {frame.shape[:2]}, the video is {tuple(self.size)}")
        with _as_output_error(self.path):
            if self._container is None:
                self._open()
            self._tracks.show(frame)
            self.frames += 1
            self._send_audio(flush=False)

    def _open(self) -> None:
        import av

        # Tags at the front, so that players on the web start before the whole file is there.
        options = {"movflags": "+faststart"} if self.path.suffix.lower() != ".mkv" else {}
        # A path from the root on: at the start of a relative one FFmpeg takes a folder `tcp:` for a protocol.
        self._container = av.open(str(self._temporary.absolute()), "w", options=options)
        if self.comment:
            self._container.metadata["comment"] = self.comment
        rate = None if self.audio is None else self.sample_rate
        self._tracks = self.tracks(self._container, self.size, self.rate, rate, self.crf, self.preset)

    def _send_audio(self, *, flush: bool) -> None:
        """Hand over the sound up to the end of the frames so far, in whole AAC frames unless it is the last."""
        if self.audio is None:
            return
        # Rounded from the start of the video, not block by block: errors would add up.
        due = round(self.frames / self.rate * self.sample_rate)
        while self._sent < due:
            stop = min(self._sent + AUDIO_BLOCK, due)
            if stop - self._sent < AUDIO_BLOCK and not flush:
                return
            block = np.zeros(stop - self._sent, np.float32)
            heard = self.audio[self._sent : stop]
            block[: len(heard)] = heard
            self._tracks.say(block, self._sent)
            self._sent = stop

    def _finish(self) -> None:
        if self._container is None:
            raise OutputError(f"{self.path}: no frame was written; check that the source has frames")
        with _as_output_error(self.path):
            self._send_audio(flush=True)
            self._tracks.finish()
            container, self._container = self._container, None
            container.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or remove every trace of it after an error.

        Raises:
            OutputError: If the disk is full, or no frame was written.
        """
        try:
            if kind is None:
                self._finish()
        except BaseException:
            self._abandon()
            raise
        if kind is None:
            self._stack.close()  # the file takes its name
        else:
            self._abandon()

    def _abandon(self) -> None:
        if self._container is not None:
            with suppress(Exception):  # the first error is the one to report
                self._container.close()
            self._container = None
        # An error of its own: an OSError of the caller must not be reported as a failure to write this file.
        self._stack.__exit__(_AbandonedError, _AbandonedError(), None)


class _AbandonedError(Exception):
    """Makes the temporary file go away."""


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    """Turn the write errors of FFmpeg and of the system into `OutputError`."""
    import av

    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error
    except av.error.FFmpegError as error:
        raise OutputError(
            f"{path}: cannot be encoded ({error.strerror}); check the frame size and the suffix"
        ) from error
