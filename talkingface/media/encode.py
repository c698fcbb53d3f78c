"""Encoding pictures and sound into a container that is open: what all writers of videos share."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from talkingface.errors import OutputError
from talkingface.media.info import logger
from talkingface.media.pixels import ROUNDING_FLAGS, is_high_definition
from talkingface.packages import install

AUDIO_BLOCK = 1024
"""Samples of one AAC frame."""

AAC_RATES = {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

_THREADS = 4
"""Of the encoder. How x264 spends its bits depends on their number: as many as a machine has cores would give other
files, and another demo corpus, on another machine."""

_ENCODERS = ("libx264", "libopenh264", "mpeg4")  # in order of preference; PyAV's wheels carry the first
_AVCOL_BT709, _AVCOL_SMPTE170M, _AVCOL_LIMITED = 1, 6, 1  # FFmpeg's AVCOL_SPC_... and AVCOL_RANGE_MPEG


class Tracks:
    """The picture track, and the sound track where there is one, of a container that is open for writing.

    Args:
        container: of PyAV.
        size: (height, width) of the frames.
        rate: frames per second.
        sample_rate: Hz of the sound; None for a silent film.
        crf: quality of x264.
        preset: effort of x264.
        at_once: give every frame out as soon as it is encoded, without looking ahead, and let a player begin anew every
            so many frames; 0: the best quality instead.

    Attributes:
        given: how the pixels of the frames are laid out, as FFmpeg calls it.
    """

    given: ClassVar[str] = "rgb24"
    _format = "yuv420p"

    def __init__(
        self,
        container: Any,
        size: tuple[int, int],
        rate: Fraction,
        sample_rate: int | None,
        crf: int = 18,
        preset: str = "medium",
        at_once: int = 0,
    ) -> None:
        self._container, self._size, self._rate = container, size, rate
        self.frames, self._at_once = 0, at_once
        self._video = self._add_video(crf, preset, at_once)
        self._sound = None if sample_rate is None else self._add_sound(sample_rate)

    def _add_video(self, crf: int, preset: str, at_once: int) -> Any:
        from av.video.reformatter import VideoReformatter

        encoder = choose_encoder()
        stream = self._container.add_stream(encoder, rate=self._rate)
        height, width = self._size
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = self._format
        context = stream.codec_context
        context.time_base = 1 / self._rate
        context.thread_count = _THREADS
        self._tag_colours(context)
        if encoder == "libx264":
            stream.options = {"crf": str(crf), "preset": preset} | ({"tune": "zerolatency"} if at_once else {})
        else:
            # These encoders know no constant quality: about 0.2 bits per pixel keeps skin and teeth clean.
            stream.bit_rate = max(400_000, int(0.2 * width * height * float(self._rate)))
        if at_once:
            context.gop_size = at_once
        self._reformatter = VideoReformatter()
        return stream

    def _tag_colours(self, context: Any) -> None:
        """Say in the file which matrix and range its colours have."""
        height, width = self._size
        self._high = is_high_definition(width, height)
        matrix = _AVCOL_BT709 if self._high else _AVCOL_SMPTE170M
        context.colorspace = context.color_primaries = context.color_trc = matrix
        context.color_range = _AVCOL_LIMITED

    def _add_sound(self, sample_rate: int) -> Any:
        sound = self._container.add_stream("aac", rate=sample_rate)
        sound.layout = "mono"
        sound.bit_rate = 64_000 if sample_rate <= 24000 else 128_000
        sound.time_base = Fraction(1, sample_rate)
        return sound

    def show(self, frame: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8 RGB."""
        self._mux(self._video, self._picture(frame))
        self.frames += 1

    def say(self, samples: np.ndarray, start: int) -> None:
        """Append sound (n,) float mono, at most a block of it; `start` is its place in samples."""
        import av

        block = np.ascontiguousarray(np.clip(samples, -1.0, 1.0), np.float32)[None]
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate = self._sound.codec_context.sample_rate
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = start
        self._mux(self._sound, frame)

    def finish(self) -> None:
        """Give out what the encoders hold back to look ahead."""
        for stream in filter(None, (self._video, self._sound)):
            self._mux(stream, None)

    def _picture(self, frame: np.ndarray) -> Any:
        import av
        from av.video.reformatter import ColorRange, Colorspace

        picture = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(self._fitting(frame)), format=self.given),
            format=self._format,
            dst_colorspace=Colorspace.ITU709 if self._high else Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            interpolation=ROUNDING_FLAGS,
            threads=1,
        )
        picture.pts = self.frames
        picture.time_base = 1 / self._rate
        return picture

    def _fitting(self, frame: np.ndarray) -> np.ndarray:
        """The frame with even sides: 4:2:0 has one colour sample for 2 x 2 pixels."""
        odd = frame.shape[0] % 2, frame.shape[1] % 2
        return np.pad(frame, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge") if any(odd) else frame

    def _mux(self, stream: Any, frame: Any | None) -> None:
        for packet in stream.encode(frame):
            if self._at_once and stream is self._video:
                # In a fragment of its own a frame has no next one that would tell how long it is shown.
                packet.duration = round(1 / self._rate / packet.time_base)
            self._container.mux(packet)


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
