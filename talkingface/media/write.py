"""Video files written while frames arrive: H.264 with AAC beside it, memory flat, complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from talkingface.errors import OutputError
from talkingface.files import atomic_output, output_error
from talkingface.media.info import FPS, SAMPLE_RATE, logger
from talkingface.media.pixels import ROUNDING_FLAGS, is_high_definition
from talkingface.packages import install

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")
_ENCODERS = ("libx264", "libopenh264", "mpeg4")  # in order of preference; PyAV's wheels carry the first
_AUDIO_BLOCK = 1024  # samples of one AAC frame
_AAC_RATES = {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
_AVCOL_BT709, _AVCOL_SMPTE170M, _AVCOL_LIMITED = 1, 6, 1  # FFmpeg's AVCOL_SPC_... and AVCOL_RANGE_MPEG


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
        if audio is not None and sample_rate not in _AAC_RATES:
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
        self._video: Any = None
        self._sound: Any = None

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
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"{self.path}: frames must be (H, W, 3) uint8 RGB, got {frame.shape} {frame.dtype}")
        if self.size is None:
            self.size = frame.shape[:2]
        if frame.shape[:2] != tuple(self.size):
            raise ValueError(f"{self.path}: frame {self.frames} is {frame.shape[:2]}, the video is {tuple(self.size)}")
        with _as_output_error(self.path):
            if self._container is None:
                self._open()
            self._mux(self._video, self._picture(frame))
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
        self._video = self._add_video()
        if self.audio is not None:
            self._sound = self._container.add_stream("aac", rate=self.sample_rate)
            self._sound.layout = "mono"
            self._sound.bit_rate = 64_000 if self.sample_rate <= 24000 else 128_000
            self._sound.time_base = Fraction(1, self.sample_rate)

    def _add_video(self) -> Any:
        from av.video.reformatter import VideoReformatter

        encoder = choose_encoder()
        stream = self._container.add_stream(encoder, rate=self.rate)
        height, width = self.size
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self.rate
        high = is_high_definition(width, height)
        matrix = _AVCOL_BT709 if high else _AVCOL_SMPTE170M
        context.colorspace = context.color_primaries = context.color_trc = matrix
        context.color_range = _AVCOL_LIMITED
        if encoder == "libx264":
            stream.options = {"crf": str(self.crf), "preset": self.preset}
        else:
            # These encoders know no constant quality: about 0.2 bits per pixel keeps skin and teeth clean.
            stream.bit_rate = max(400_000, int(0.2 * width * height * self.fps))
        self._reformatter = VideoReformatter()
        self._high = high
        return stream

    def _picture(self, frame: np.ndarray) -> Any:
        import av
        from av.video.reformatter import ColorRange, Colorspace

        odd = frame.shape[0] % 2, frame.shape[1] % 2
        # 4:2:0 has one colour sample for 2 x 2 pixels.
        if any(odd):
            frame = np.pad(frame, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
        picture = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709 if self._high else Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            interpolation=ROUNDING_FLAGS,
            threads=1,
        )
        picture.pts = self.frames
        picture.time_base = 1 / self.rate
        return picture

    def _mux(self, stream: Any, frame: Any | None) -> None:
        for packet in stream.encode(frame):
            self._container.mux(packet)

    def _send_audio(self, *, flush: bool) -> None:
        """Hand over the sound up to the end of the frames so far, in whole AAC frames unless it is the last."""
        import av

        if self._sound is None:
            return
        # Rounded from the start of the video, not block by block: errors would add up.
        due = round(self.frames / self.rate * self.sample_rate)
        while self._sent < due:
            stop = min(self._sent + _AUDIO_BLOCK, due)
            if stop - self._sent < _AUDIO_BLOCK and not flush:
                return
            block = np.zeros((1, stop - self._sent), np.float32)
            heard = self.audio[self._sent : stop]
            block[0, : len(heard)] = np.clip(heard, -1.0, 1.0)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate = self.sample_rate
            frame.time_base = Fraction(1, self.sample_rate)
            frame.pts = self._sent
            self._mux(self._sound, frame)
            self._sent = stop

    def _finish(self) -> None:
        if self._container is None:
            raise OutputError(f"{self.path}: no frame was written; check that the source has frames")
        with _as_output_error(self.path):
            self._send_audio(flush=True)
            for stream in filter(None, (self._video, self._sound)):
                # An encoder holds frames back to look ahead; None makes it give out the last ones.
                self._mux(stream, None)
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


def choose_encoder() -> str:
    """Return the best H.264 encoder of this PyAV build, or MPEG-4 with a warning.

    Raises:
        OutputError: If the build has none of them.
    """
    import av

    for name in _ENCODERS:
        if name in av.codec.codecs_available:
            with suppress(av.error.FFmpegError, ValueError):
                av.codec.Codec(name, "w")
                if name == "mpeg4":
                    logger.warning("this PyAV build has no H.264 encoder; videos are written as MPEG-4 part 2")
                return name
    raise OutputError(
        f"this PyAV build has no video encoder (libx264, libopenh264, mpeg4); run: {install('--force-reinstall', 'av')}"
    )
