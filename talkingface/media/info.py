"""What a media file contains, the length rule, and the one place where PyAV's errors become ours.

The clock of a clip: time zero is the first displayed video frame. Sound before it is cut, sound that starts later is
preceded by silence, so that sample `t * 16000` and frame `t * fps` always belong together.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2

from talkingface.errors import MediaError
from talkingface.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from av.container import InputContainer

FPS = 25.0
"""Rate of a video unless the configuration or its clip says another; resampled by timestamps."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# Containers whose header states a length that can be trusted; elsewhere (mp3, ts) it is an estimate from the bit rate.
_DECLARING_FORMATS = {"mov", "mp4", "matroska", "webm", "avi", "wav", "flac"}
_COMPLETE_SHARE = 0.9  # less of the declared length than this is reported as a truncated file
_DAMAGED = "the file is truncated or damaged (no complete picture or index in it); copy or download it again"
# Demuxers that take any text or bytes for a picture.
_TEXT_ART = frozenset({"tty", "bin", "xbin", "adf", "idf", "txd", "rawvideo"})
# Formats without pictures of their own: they name the files or addresses that have them.
_REFERRING_FORMATS = frozenset({"hls", "concat", "sdp", "rtsp", "rtp", "dash", "imf", "webm_dash_manifest"})
_REFERRING_TEXTS = {
    b"#extm3u": "an HLS playlist",
    b"ffconcat": "a list of other files (ffconcat)",
    b"v=0": "a session description (SDP)",
    b"rtsp/": "an answer of a streaming server (RTSP)",
    b"<?xml": "a text in XML",
    b"<mpd": "a DASH manifest",
    b"<smoothstreamingmedia": "a manifest in XML",
    b"<asx": "a playlist in XML",
    b"<smil": "a playlist in XML",
    b"<?wpl": "a playlist in XML",
    b"<playlist": "a playlist in XML",
    b"[playlist]": "a playlist",
    b"[reference]": "a playlist",
}
# Brands of the photo formats that share mp4's container: one picture, perhaps in tiles.
_PHOTO_BRANDS = frozenset({"avif", "heic", "heix", "heim", "heis", "mif1"})
_MOTION_JPEG = frozenset({".mjpg", ".mjpeg"})  # films that are one JPEG after another
_SIGNATURES = (b"\x1a\x45\xdf\xa3", b"RIFF", b"fLaC", b"OggS", b"\xff\xd8\xff", b"\x89PNG")

logger = logging.getLogger("talkingface")


def frame_count(seconds: float, fps: float = FPS) -> int:
    """Number of frames of a clip: the length rule of the whole toolkit.

    A clip of `seconds` has round-half-up(seconds * fps) frames, at least one: exactly those frames k whose midpoint
    (k + 1/2) / fps lies inside the clip. Frame k of a resampled video is the source frame on screen at that midpoint,
    and a written video of n frames carries exactly round(n / fps * sample_rate) samples of sound.
    """
    # The small term absorbs the rounding of decimal seconds: 0.1 s at 25 fps is 2.5 frames, not 2.4999.
    return max(1, math.floor(seconds * fps + 0.5 + 1e-6))


def samples_of(frames: int, fps: float = FPS, sample_rate: int = SAMPLE_RATE) -> int:
    """Number of samples of sound that last as long as `frames`, to the nearest."""
    return round(frames * sample_rate / fps)


def frames_heard(samples: int, fps: float = FPS, sample_rate: int = SAMPLE_RATE) -> int:
    """Number of frames during which some of `samples` is heard; the last one may be heard in part."""
    return math.ceil(samples * fps / sample_rate)


@dataclass(frozen=True)
class MediaInfo:
    """Facts about a media file, taken from its header and its first frame.

    Attributes:
        path: The file.
        width: Pixels after rotation; 0 without video.
        height: Pixels after rotation; 0 without video.
        fps: Average frame rate of the source; 0 without video and for images.
        duration: Declared seconds of the picture (of the sound, without video); 0 when the header does not say.
        has_video: There is a picture, moving or still (cover art of a song does not count).
        has_audio: There is a sound track.
        sample_rate: Hz of the sound track, 0 without one.
        channels: Channels of the sound track, 0 without one.
        is_image: A still image.
    """

    path: Path
    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration: float = 0.0
    has_video: bool = False
    has_audio: bool = False
    sample_rate: int = 0
    channels: int = 0
    is_image: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels after rotation."""
        return self.height, self.width


def decoder_threads() -> int:
    """Threads of a decoder, 0 for as many as FFmpeg likes; in a worker process one, see `workers.take_one_core`.

    Sound films decode to the same pictures. Those that FFmpeg makes up for damaged ones differ from run to run with
    several threads.
    """
    return 1 if cv2.getNumThreads() == 1 else 0


@contextmanager
def open_media(path: str | Path) -> Iterator[InputContainer]:
    """Open a file for reading; whatever FFmpeg dislikes in it becomes one `MediaError` with the file's name.

    Raises:
        MediaError: If the file is missing, empty, unreadable, truncated or no media file.
    """
    import av

    path = Path(path)
    if not path.exists():
        raise MediaError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise MediaError(f"{path}: is a folder, not a media file; give the file itself")
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if not head:
                raise MediaError(f"{path}: the file is empty; copy or download it again")
            file.seek(0)
            # Some formats name other files and addresses, which FFmpeg would open. It does not see those that are known
            # by their first words; of others it gets bytes without a name, and of all protocols the one for bytes that
            # are handed in.
            if what := _reference_in(head):
                raise _refers_elsewhere(path, what)
            closed = {"protocol_whitelist": "pipe"}
            # By its bytes alone a photo with a film behind it would pass for neither.
            kind = "jpeg_pipe" if head.startswith(b"\xff\xd8\xff") and path.suffix.lower() not in _MOTION_JPEG else None
            with av.open(_Bytes(file), "r", kind, metadata_errors="ignore", options=closed) as container:
                # FFmpeg opens nearly any file as something; a text file read as a picture of letters helps nobody.
                kinds = {stream.type for stream in container.streams}
                if container.format.name in _TEXT_ART or not kinds & {"video", "audio", "subtitle"}:
                    raise _explain(head, path)
                if _REFERRING_FORMATS & set(container.format.name.split(",")):
                    raise _refers_elsewhere(path, f"a file of the kind '{container.format.name}'")
                if _is_animated_webp(head):
                    raise MediaError(f"{path}: an animated WebP, which FFmpeg does not read; save it as gif or mp4")
                for stream in container.streams:
                    if stream.codec_context is not None:
                        stream.codec_context.thread_count = decoder_threads()
                yield container
    except av.error.FFmpegError as error:
        raise _explain(head, path) from error
    except (OSError, UnicodeError) as error:
        raise MediaError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


class _Bytes:
    """All that FFmpeg may know of a file. In a name it would read '%d' and 'scheme:' as patterns and protocols."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def corrupt_image(path: Path) -> MediaError:
    """Return the error for a still image that cannot be decoded."""
    return MediaError(f"{path}: the image is corrupt or not an image; open it in a viewer and save it again")


def _refers_elsewhere(path: Path, what: str) -> MediaError:
    return MediaError(
        f"{path}: is {what}, which points to other files or to the network; only the file that is given is opened, so"
        " give the video or sound itself"
    )


def _reference_in(head: bytes) -> str | None:
    """What a text is that names other files, by its first bytes; None for any other file."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for start, what in _REFERRING_TEXTS.items() if text.startswith(start)), None)


def _is_animated_webp(head: bytes) -> bool:
    return head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def _explain(head: bytes, path: Path) -> MediaError:
    """Why a file cannot be opened, by its suffix and its first bytes: a damaged media file, or none at all."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return corrupt_image(path)
    if head[4:8] == b"ftyp" or head.startswith(_SIGNATURES):
        return MediaError(f"{path}: {_DAMAGED}")
    return MediaError(f"{path}: not a media file that FFmpeg can read; give a video, sound or image file")


def video_stream(container: InputContainer) -> Any | None:
    """Return the first moving-picture stream, or None; cover art of a song is not video."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    return None


def audio_stream(container: InputContainer) -> Any | None:
    """Return the sound track that players take: the one marked as default, else the first decodable one, or None."""
    from av.stream import Disposition

    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    return next((t for t in tracks if t.disposition & Disposition.default), tracks[0] if tracks else None)


def is_still(container: InputContainer) -> bool:
    """Tell whether the container is a still image (FFmpeg reads each image kind by a demuxer of its own)."""
    name = container.format.name
    return name.endswith("_pipe") or name in {"image2", "ico"} or is_photo_container(container)


def is_photo_container(container: InputContainer) -> bool:
    """Tell whether this is a HEIC or AVIF photo, which FFmpeg opens as if it were a film."""
    return container.metadata.get("major_brand") in _PHOTO_BRANDS


def declared_seconds(container: InputContainer, stream: Any) -> float:
    """Length in the header of `stream`, else of its container; 0 when neither says."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6


def exact_seconds(container: InputContainer, stream: Any) -> float:
    """Length of `stream` where the container counts it in samples or frames (mp4, mov); 0 elsewhere."""
    if "mp4" in container.format.name.split(",") and stream.duration:
        return float(stream.duration * stream.time_base)
    return 0.0


def check_complete(container: InputContainer, path: Path, declared: float, found: float) -> None:
    """Raise `MediaError` when much less was found in the file than its header declares."""
    trusted = _DECLARING_FORMATS & set(container.format.name.split(","))
    # A tenth is tolerated, and 0.1 s of short files: headers round, and the last packet's length is often missing.
    if trusted and found < _COMPLETE_SHARE * declared - 0.1:
        raise MediaError(
            f"{path}: truncated, only {found:.1f} s of the declared {declared:.1f} s are there; "
            "copy or download the file again"
        )


def source_fps(stream: Any) -> float:
    """Average frame rate of a video stream; 25 when the file does not say or says nonsense."""
    # Average before base rate: of a variable rate the latter is but a common multiple.
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0.1 <= float(rate) <= 1000.0:
            return float(rate)
    return FPS


def is_image(path: str | Path) -> bool:
    """Tell by content whether a file is a still image; missing and unreadable files are not."""
    try:
        with open_media(path) as container:
            return video_stream(container) is not None and is_still(container)
    except MediaError:
        return False
