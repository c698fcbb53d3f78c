"""Wav2Lip's folders, which HyperLips calls `imgs`: face pictures named by their frame, and the sound track."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.clips.folder import default_file
from talkingface.faces.crop import CropConfig
from talkingface.lipsync.expert.inputs import MEL, MEL_CONFIG, PUBLISHED_CROP
from talkingface.media import FPS, SAMPLE_RATE
from talkingface.preprocess.converters.base import (
    PICTURES,
    Converter,
    copy_audio,
    crop_options,
    frame_total,
    numbered,
    pack_faces,
    record,
    register_converter,
)
from talkingface.preprocess.step import Rejected
from talkingface.sound.mel import melspectrogram

SPARE_FRAMES = 3  # by so many a clip may have more pictures than its sound lasts


@register_converter("wav2lip")
class Wav2LipConverter(Converter):
    """Folder `faces`, `<set>/<clip>/{0.jpg, 1.jpg, ..., audio.wav}`: boxes of S3FD as they are, at any size."""

    @property
    def crop(self) -> CropConfig:
        """How these pictures were cut: the detector's box of each frame, without margin."""
        return PUBLISHED_CROP.model_copy(update={"size": self.options.size})

    @property
    def advice(self) -> str:
        """The published crop, which is not the default."""
        return crop_options(self.crop)

    def convert(self, clip_id: str, target: Path) -> dict[str, Any]:
        """Write `audio`, the mel and the face crops; there are no landmarks, and training needs none."""
        folder = self.roots["faces"] / clip_id
        pictures = numbered(folder, PICTURES)
        if not pictures:
            raise Rejected("no face pictures")
        count = frame_total(pictures)
        audio, samples = copy_audio(folder / "audio.wav", target)
        _check_rate(count, len(samples) / SAMPLE_RATE)
        np.save(target / default_file(MEL), melspectrogram(samples, MEL_CONFIG).astype(np.float32))
        steps = {
            "audio": audio,
            MEL: record([default_file(MEL)], **dataclasses.asdict(MEL_CONFIG)),
            self.crop.artefact: pack_faces(pictures, count, target, self.crop),
        }
        return {"frames": count, "steps": steps}


def _check_rate(pictures: int, seconds: float) -> None:
    """See that the pictures are not of a faster video: nothing had converted it, and its mouths would run late.

    Fewer pictures than the sound lasts are no sign of anything, the face may be out of sight at the end.

    Raises:
        Rejected: there are too many.
    """
    if pictures > seconds * FPS + SPARE_FRAMES:
        raise Rejected(
            f"{pictures} pictures for {seconds:.2f} s of sound are more than {FPS:g} per second; cut them from a video"
            f" of {FPS:g} frames per second",
            pictures,
            int(seconds * FPS),
        )
