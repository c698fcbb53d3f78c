"""Everything about media files, in one name space: videos, images and sound, in and out, by PyAV alone.

Conventions: frames are (H, W, 3) uint8 RGB, upright; sound is (n,) float32 mono in [-1, 1]; frame sizes are
(height, width). The clock starts at the first displayed frame; `frame_count` is the length rule.
"""

from __future__ import annotations

from talkingface.files import atomic_output
from talkingface.media.audio import read_audio, resampled, write_wav
from talkingface.media.behind import WriteBehind
from talkingface.media.info import FPS, SAMPLE_RATE, MediaInfo, frame_count, frames_heard, is_image, samples_of
from talkingface.media.kept import KeptFrames
from talkingface.media.mark import draw_mark, read_mark, synthetic_comment
from talkingface.media.pixels import read_image, write_image
from talkingface.media.probe import probe
from talkingface.media.read import VideoReader, count_frames
from talkingface.media.write import VideoWriter

__all__ = [
    "FPS",
    "SAMPLE_RATE",
    "KeptFrames",
    "MediaInfo",
    "VideoReader",
    "VideoWriter",
    "WriteBehind",
    "atomic_output",
    "count_frames",
    "draw_mark",
    "frame_count",
    "frames_heard",
    "is_image",
    "probe",
    "read_audio",
    "read_image",
    "read_mark",
    "resampled",
    "samples_of",
    "synthetic_comment",
    "write_image",
    "write_wav",
]
