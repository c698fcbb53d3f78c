"""Best and worst clips, and the small videos and pictures that a report carries inside itself."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from talkingface.clips.layouts import sound_beside
from talkingface.clips.source import Audio
from talkingface.errors import MediaError, TalkingFaceError
from talkingface.evaluation.report.result import ClipScore, EvalResult, one_line
from talkingface.evaluation.report.side_by_side import write_side_by_side
from talkingface.media import VideoReader, probe, read_image, write_image
from talkingface.media.encode import choose_encoder

if TYPE_CHECKING:
    from talkingface.media import KeptFrames

MAIN_FIGURES = ("mouth_corr", "lse_c", "expert_sync", "ssim_mouth", "ssim")
"""The first of these that a result has decides which clips are best and worst: lip sync before pictures."""

EACH = 2  # clips at either end
MAX_HEIGHT = 320  # pixels of one picture
MAX_SECONDS = 8.0
CRF = 28  # of the encoder: small files, good enough to see lips move
MAX_BYTES = 4 * 2**20  # of one video
SEEN_AS = f"at most {MAX_HEIGHT} pixels high and {MAX_SECONDS:g} seconds long, compressed"


@dataclass(frozen=True)
class Shown:
    """One clip of the showcase.

    Attributes:
        rank: `best 1`, `worst 2`, ...
        clip_id: the clip.
        value: its main figure.
        video: the film as a `data:` address; empty when there is none.
        poster: its first picture, likewise.
        reason: why there is none.
    """

    rank: str
    clip_id: str
    value: float
    video: str = ""
    poster: str = ""
    reason: str = ""


def main_figure(results: Sequence[EvalResult], row: str = "generated") -> str | None:
    """The first of `MAIN_FIGURES`, else of all figures with a direction, that every result has for some clip."""
    first = results[0]
    directed = [key for key, figure in first.figures.items() if figure.higher_is_better is not None]
    for key in dict.fromkeys([*MAIN_FIGURES, *directed]):
        if key in directed and all(result.per_clip(row, key) for result in results):
            return key
    return None


def extremes(values: Mapping[str, float], higher_is_better: bool, each: int = EACH) -> list[tuple[str, str]]:
    """The clips at both ends: (rank, clip), `best 1` first, `worst 1` last; no clip twice.

    With few clips the middle one counts as one of the best.
    """
    order = sorted(values, key=lambda clip: (-values[clip] if higher_is_better else values[clip], clip))
    # Half of the clips at most, so that with few of them no clip is best and worst at once.
    best = order[: min(each, math.ceil(len(order) / 2))]
    worst = order[len(best) :][-each:]
    ranks = [f"best {index}" for index in range(1, len(best) + 1)]
    return list(zip([*ranks, *(f"worst {index}" for index in range(len(worst), 0, -1))], [*best, *worst], strict=True))


def show(
    rank: str,
    clip_id: str,
    value: float,
    videos: Mapping[str, Path | None],
    sounds: Sequence[Path] | None = None,
    kept: KeptFrames | None = None,
) -> Shown:
    """One clip with its videos beside each other; without the film, and with the reason, where that cannot be made.

    Args:
        rank: what is said about the clip.
        clip_id: the clip.
        value: its main figure.
        videos: caption -> file. The last one gives the frame rate.
        sounds: files for the sound, the first one that has any; default: the last video.
        kept: memory for decoded videos: what was kept there is not decoded again.
    """
    there = {name: path for name, path in videos.items() if path is not None and path.is_file()}
    missing = [name for name in videos if name not in there]
    if not there:
        return Shown(rank, clip_id, value, reason="the videos are not there any more")
    try:
        film, poster = film_addresses(there, sounds, kept)
    except TalkingFaceError as error:
        return Shown(rank, clip_id, value, reason=one_line(error))
    return Shown(rank, clip_id, value, film, poster, f"not there any more: {', '.join(missing)}" if missing else "")


def film_addresses(
    videos: Mapping[str, Path], sounds: Sequence[Path] | None = None, kept: KeptFrames | None = None
) -> tuple[str, str]:
    """Videos beside each other as one small H.264 film, and its first picture, as `data:` addresses.

    Args:
        videos: caption -> file. The last one gives the frame rate.
        sounds: files for the sound, the first one that has any; default: the last video.
        kept: memory for decoded videos.

    Raises:
        TalkingFaceError: a video is damaged, or the film would be too large.
    """
    if choose_encoder() == "mpeg4":
        raise MediaError("this build of PyAV has no H.264 encoder, and browsers play nothing else it writes")
    # The generated one stands last; its rate is that of the evaluation.
    speaker = list(videos.values())[-1]
    info = probe(speaker)
    audio = _first_sound([speaker] if sounds is None else sounds)
    height = MAX_HEIGHT if len(videos) <= 3 else MAX_HEIGHT * 5 // 8  # more than three would not fit a screen
    limits = {"max_height": height, "max_seconds": MAX_SECONDS, "crf": CRF}
    with tempfile.TemporaryDirectory() as folder:
        film, poster = Path(folder) / "film.mp4", Path(folder) / "poster.jpg"
        write_side_by_side(videos, film, info.fps, audio, kept=kept, **limits)
        write_image(poster, next(iter(VideoReader(film))), quality=80)
        return data_address(film, "video/mp4"), data_address(poster, "image/jpeg")


def sounds_of(result: EvalResult, clip: ClipScore) -> list[Path]:
    """Files that may hold the sound a generated video was judged by; the first one that has a sound does.

    A pipeline writes that sound into its video. Videos of strangers are judged by the real video's sound if it has one.
    """
    real = [] if clip.reference is None else [sound_beside(clip.reference), clip.reference]
    # `sound: real` is what an evaluation of plain video files writes, in `evaluation/folders.py`.
    own_first = result.provenance.get("sound") != "real"
    return [path for path in ([clip.video, *real] if own_first else [*real, clip.video]) if path is not None]


def _first_sound(paths: Sequence[Path]) -> np.ndarray | None:
    """(n,) mono 16 kHz of the first file that has a sound; None where none has."""
    for path in paths:
        try:
            return Audio.load(path).samples
        except MediaError:
            continue
    return None


def picture_address(path: Path) -> str:
    """A picture, made JPEG, as a `data:` address.

    Raises:
        TalkingFaceError: it is missing or damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "picture.jpg"
        write_image(small, read_image(path), quality=88)
        return data_address(small, "image/jpeg")


def data_address(path: Path, kind: str) -> str:
    """A file's content as a `data:` address.

    Raises:
        MediaError: it is larger than `MAX_BYTES`.
    """
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        raise MediaError(f"{len(content) / 2**20:.1f} MB, too large for the report")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
