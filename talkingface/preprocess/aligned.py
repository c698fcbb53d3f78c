"""Face crops of DINet and LawDNet with the matrix of each frame: `aligned@...`, named by `DubbingCropConfig`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import DataError
from talkingface.lipsync.dubbing.config import DubbingCropConfig
from talkingface.preprocess.step import Rejected, Step, register_step
from talkingface.preprocess.steps import add_crops

if TYPE_CHECKING:
    from talkingface.preprocess.step import ClipContext


@register_step("aligned")
class AlignedStep(Step):
    """Crops of every frame, packed, frontal or upright; black beyond the borders of the frame."""

    needs = ("landmarks",)
    reads_video = True
    version = 2

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Fields of `DubbingCropConfig`, and how the crops are stored."""
        stored = {"storage": settings.storage, "jpeg_quality": settings.jpeg_quality}
        return {**DubbingCropConfig().model_dump(), **stored}

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig) -> None:
        super().__init__(artefact, overrides, settings)
        self.crop = DubbingCropConfig(**{key: self.params[key] for key in DubbingCropConfig.model_fields})

    def former(self) -> list[tuple[int, dict[str, Any]]]:
        """Version 1 smoothed landmarks over cuts."""
        return [(1, self.params)]

    def still_right(self, clip: ClipFolder) -> bool:
        """Whether there was no cut at which the face jumps, or nothing was smoothed."""
        try:
            return not self.crop.smooths_over_cuts(clip.track())
        except DataError:
            return False

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write the crops, their boxes and matrices."""
        from talkingface.faces.affine import crop_by_matrix, frame_boxes  # brings torch, see `FeaturesStep.bind`

        crop, track = self.crop, ctx.clip.track()
        matrices, size = crop.matrices(track), crop.size_hw
        cut = track.valid & np.isfinite(matrices).all(axis=(1, 2))
        if not cut.any():
            raise Rejected("no frame has a face that a crop can be cut around")
        writer = FaceWriter(ctx.scratch, self.artefact, self.params["storage"], self.params["jpeg_quality"])
        add_crops(writer, ctx, cut, lambda frame, k: crop_by_matrix(frame, matrices[k], size, crop.half_pixel))
        meta = {**crop.model_dump(), "size_hw": list(size), "frame_hw": list(track.size)}
        return writer.close(frame_boxes(matrices, size, track.size), meta, track.found, matrices)
