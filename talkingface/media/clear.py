"""Frames written with their opacity: ProRes 4444 in .mov, or a folder of PNG pictures with the sound beside them."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from talkingface.errors import OutputError
from talkingface.files import output_error
from talkingface.media.audio import write_wav
from talkingface.media.encode import Tracks
from talkingface.media.info import FPS, SAMPLE_RATE, samples_of
from talkingface.media.write import VideoWriter
from talkingface.packages import install

CLEAR_SUFFIX = ".mov"
"""Of the video files that can hold an opacity."""

_ENCODERS = (("prores_ks", "yuva444p10le"), ("qtrle", "argb"))  # in order of preference; PyAV's wheels carry both


def holds_opacity(output: Path) -> bool:
    """Whether what is written under this name can be transparent: a folder, or a .mov file."""
    return is_folder_name(output) or output.suffix.lower() == CLEAR_SUFFIX


def is_folder_name(output: Path) -> bool:
    """Whether an output of this name is a folder of pictures: it has no suffix."""
    return not output.suffix


def frame_writer(output: Path, size: tuple[int, int] | None, clear: bool, **sides: Any) -> VideoWriter | FrameFolder:
    """What writes frames under this name.

    Args:
        output: a video file, or a folder.
        size: height and width; None takes those of the first frame.
        clear: whether frames are (H, W, 4) RGBA.
        sides: see `VideoWriter`.
    """
    if is_folder_name(output):
        kept = ("fps", "audio", "sample_rate", "comment")
        return FrameFolder(output, **{name: sides[name] for name in kept if name in sides})
    return (ClearVideoWriter if clear else VideoWriter)(output, size=size, **sides)


class ClearTracks(Tracks):
    """`Tracks` for frames (H, W, 4) uint8 RGBA, colours not premultiplied."""

    given = "rgba"

    def _add_video(self, crf: int, preset: str, at_once: int) -> Any:
        import av
        from av.video.reformatter import VideoReformatter

        there = [each for each in _ENCODERS if each[0] in av.codec.codecs_available]
        if not there:
            raise OutputError(
                f"this PyAV build writes no transparent video; run: {install('--force-reinstall', 'av')}, or name a"
                " folder for PNG pictures"
            )
        encoder, self._format = there[0]
        stream = self._container.add_stream(encoder, rate=self._rate)
        stream.height, stream.width = self._size
        stream.pix_fmt = self._format
        stream.codec_context.time_base = 1 / self._rate
        self._tag_colours(stream.codec_context)
        self._reformatter = VideoReformatter()
        return stream

    def _fitting(self, frame: np.ndarray) -> np.ndarray:
        return frame  # every pixel has a colour of its own


class ClearVideoWriter(VideoWriter):
    """A `VideoWriter` for frames (H, W, 4) uint8 RGBA, colours not premultiplied; only .mov holds them."""

    channels = 4
    tracks = ClearTracks


class FrameFolder:
    """Frames as `frame_00000.png`, ... and their sound as `sound.wav`, with the manners of a `VideoWriter`.

    The folder appears complete or not at all.

    Args:
        path: the folder; it must not be there.
        fps: frames per second.
        audio: (n,) float mono waveform in [-1, 1], or None; it is cut, or filled up, to the length of the frames.
        sample_rate: Hz of `audio`.
        comment: text in the metadata of every picture.
    """

    def __init__(
        self,
        path: Path,
        fps: float = FPS,
        audio: np.ndarray | None = None,
        sample_rate: int = SAMPLE_RATE,
        comment: str = "",
    ) -> None:
        self.path, self.fps, self.audio, self.sample_rate = Path(path), fps, audio, sample_rate
        self.frames, self._info = 0, PngInfo()
        if comment:
            self._info.add_text("Comment", comment)

    def __enter__(self) -> FrameFolder:
        """Make a temporary folder beside it.

        Raises:
            OutputError: the folder is there, or cannot be made.
        """
        try:
            if self.path.exists():
                raise OutputError(f"{self.path}: is there already; name a new folder for the pictures")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.path.parent))
        except OSError as error:
            raise output_error(self.path, error) from error
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one frame (H, W, 3) uint8 RGB or (H, W, 4) RGBA, colours not premultiplied.

        Raises:
            OutputError: the disk is full.
        """
        picture = Image.fromarray(np.ascontiguousarray(frame))
        try:
            picture.save(self._temporary / f"frame_{self.frames:05d}.png", pnginfo=self._info, compress_level=3)
        except OSError as error:
            raise output_error(self.path, error) from error
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder its name, or remove every trace of it after an error.

        Raises:
            OutputError: no frame was written, or the disk is full.
        """
        try:
            if kind is None:
                self._finish()
        finally:
            with suppress(OSError):
                shutil.rmtree(self._temporary)

    def _finish(self) -> None:
        if not self.frames:
            raise OutputError(f"{self.path}: no frame was written; check that the source has frames")
        if self.audio is not None:
            sound = np.zeros(samples_of(self.frames, self.fps, self.sample_rate), np.float32)
            heard = self.audio[: len(sound)]
            sound[: len(heard)] = heard
            write_wav(self._temporary / "sound.wav", sound, self.sample_rate)
        try:
            self._temporary.chmod(0o755)  # a temporary folder is its owner's alone
            self._temporary.rename(self.path)
        except OSError as error:
            raise output_error(self.path, error) from error
