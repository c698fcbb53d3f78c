"""The videos and picture strips of a clip that a report shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.evaluation.report.evidence import TITLES
from talkingface.evaluation.report.side_by_side import write_side_by_side
from talkingface.evaluation.report.strip import write_strip
from talkingface.evaluation.rows import sound_of

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.media import KeptFrames


def write_sample(clip: ClipFolder, videos: Mapping[str, Path], output: Path, kept: KeptFrames, preset: str) -> None:
    """Write `<output>.mp4`, all rows side by side with the true sound, and `<output>.png`, moments of each.

    Args:
        clip: whose video is the first row.
        videos: the made ones, by row.
        output: path without suffix.
        kept: frames that are decoded already.
        preset: speed of the encoder.

    Raises:
        TalkingFaceError: a video cannot be read or written.
    """
    shown = {"real": clip.video, **{TITLES[row]: video for row, video in videos.items()}}
    strip, film = (output.with_name(f"{output.name}.{suffix}") for suffix in ("png", "mp4"))
    write_side_by_side(shown, film, clip.fps, sound_of(clip), kept=kept, preset=preset)
    write_strip(shown, clip.track(), strip, clip.fps, kept=kept)
