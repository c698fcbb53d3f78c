"""Training data of the lip-sync expert of DINet: windows of five mouths, and the rows of features around them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from talkingface.clips.face_store import FaceStore
from talkingface.clips.folder import ClipFolder
from talkingface.clips.windows import window_starts
from talkingface.lipsync.dubbing.config import DubbingDataConfig
from talkingface.lipsync.dubbing.data import each_crop, lacking, read_crops
from talkingface.lipsync.dubbing.sound import heard_in, sounding_frames
from talkingface.lipsync.expert.data import (
    ClipWindows,
    SyncWindowOptions,
    SyncWindows,
    draw_change,
    sync_row_windows,
)
from talkingface.networks.dubbing.geometry import STEP, MouthCrop
from talkingface.networks.sync_expert import FRAMES
from talkingface.sound.recogniser import FRAME_SAMPLES, fitted

_QUIETEST = 1e-8  # mean square that counts as silence


class MouthWindowOptions(SyncWindowOptions):
    """Options of the expert's data; `gain_db` of the augmentation has no effect, for rows know no loudness.

    Attributes:
        mouth: side of the mouths in pixels.
    """

    mouth: int = Field(64, ge=STEP, multiple_of=STEP)


class MouthWindows(SyncWindows):
    """Windows of one clip.

    Item: as of `SyncWindows`, but `faces` (K, 5, S, S, 3) are mouths, and the sound is `rows` (K, width, 9) float32 of
    the expert's front end.
    """

    Options = MouthWindowOptions
    options: MouthWindowOptions
    model_config: DubbingDataConfig

    def lacking(self, clip: ClipFolder) -> str | None:
        """See `SyncWindows.lacking`."""
        return lacking(clip, self.model_config.crop, [self.model_config.audio.sync])

    def whole(self, clip: ClipFolder) -> tuple[Iterator[np.ndarray], np.ndarray, np.ndarray, float]:
        """See `SyncWindows.whole`; mouths are (S, S, 3), the sound is rows (F, width)."""
        faces, rows, starts = self.source(clip)
        part = self._part
        return (crop[part] for crop in each_crop(self, clip, faces)), rows, starts, clip.fps

    def heard(self, clip: ClipFolder, range_db: float) -> np.ndarray:
        """See `SyncWindows.heard`; empty for a clip without its sound."""
        level = self.loudness(clip, len(clip))
        if not len(level):
            return np.zeros(0, bool)
        loud = level > max(level.max() - range_db, 10 * np.log10(2 * _QUIETEST))
        return loud[self.source(clip).starts[:, None] + np.arange(FRAMES)].any(axis=1)

    def loudness(self, clip: ClipFolder, frames: int) -> np.ndarray:
        """In dB, of each frame of a clip whose sound is there, (frames,); else empty: rows of letters do not tell."""
        if not clip.has("audio"):
            return np.zeros(0)
        samples = fitted(clip.audio(), frames).reshape(frames, FRAME_SAMPLES).astype(np.float64)
        return 10 * np.log10(np.square(samples).mean(axis=1) + _QUIETEST)

    @property
    def _part(self) -> tuple[slice, slice]:
        crop = MouthCrop(self.options.mouth)
        return crop.rows, crop.columns

    def _possible_starts(self, clip: ClipFolder, faces: FaceStore) -> np.ndarray:
        starts = window_starts(faces.valid, FRAMES)
        known = sounding_frames(clip, [self.model_config.audio.sync])
        return starts[(starts >= known.start) & (starts + FRAMES <= known.stop)]

    def _read_source(self, clip: ClipFolder) -> ClipWindows:
        faces = clip.faces(self.model_config.crop.artefact)
        rows = heard_in(clip, self.model_config.audio.sync).at(np.arange(len(clip)))
        return ClipWindows(faces, rows, self._possible_starts(clip, faces))

    def _item(
        self, clip: ClipFolder, shown: np.ndarray, heard: np.ndarray, rng: np.random.Generator | None
    ) -> dict[str, np.ndarray]:
        crops, part = self._crops(clip, shown), self._part
        if rng is None or self.options.augment is None:
            mouths = np.ascontiguousarray(crops[:, :, part[0], part[1]])
        else:
            mouths = draw_change(self.options.augment, rng).faces(crops, part)
        return {"faces": mouths, "rows": sync_row_windows(self.source(clip).sound, heard), "starts": heard}

    def _crops(self, clip: ClipFolder, starts: np.ndarray) -> np.ndarray:
        return read_crops(self, clip, self.source(clip).faces, starts[:, None] + np.arange(FRAMES))
