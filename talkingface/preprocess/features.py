"""What a front end hears in the sound of a clip: `features@<front end>`, for every model that has one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface.clips.folder import ClipFolder, default_file
from talkingface.config.sections import Config, PreprocessConfig
from talkingface.errors import DataError
from talkingface.preprocess.step import Step, process_resource, register_step
from talkingface.sound import SAMPLE_RATE
from talkingface.sound.choice import FrontEndConfig, short_hash
from talkingface.sound.recogniser import FRAME_SAMPLES, fitted

if TYPE_CHECKING:
    from talkingface.preprocess.step import ClipContext
    from talkingface.sound.front_ends import FrontEnd, Part

_FILLED_UP = 2 * FRAME_SAMPLES
"""Samples behind the end of a video that encoders add to fill up their last block: of its rows they change the last."""


@register_step("features")
class FeaturesStep(Step):
    """Rows of a front end, and the vector of the clip where it gives one.

    Its record names the front end down to the hashes of its files (`params.made_by`), and says when the rows are
    (`facts`: rows per second, time of row 0) and, for rows `of_frames`, how many frames from the first on have sound of
    the clip throughout (`heard_frames`): the rows of the others are those of silence that was put there.
    """

    needs = ("audio",)

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig) -> None:
        super().__init__(artefact, overrides, settings)
        self.choice = FrontEndConfig(**{key: self.params[key] for key in FrontEndConfig.model_fields})
        self.front_end: FrontEnd = self.choice.build()
        # Version 1 heard the sound as long as it is.
        self.version = 2 if self.front_end.of_frames else 1  # type: ignore[misc]

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """The front end of `FrontEndConfig`, what it is down to its files, and the same in one word."""
        return {**FrontEndConfig().choice, "made_by": {}, "weights": ""}

    def bind(self, config: Config) -> None:
        """Build the front end where its weights lie and where it runs, and note what it is.

        Rows that were made elsewhere are taken as they are, where the files are missing.

        Raises:
            DataError: one of its files is not there.
        """
        from talkingface.devices import resolve_device  # brings torch, which preparing clips does without

        self.front_end = self.choice.build(config.weights_dir, str(resolve_device(config.device)))
        if self.choice.elsewhere and self.front_end.missing():
            return
        made_by = self.front_end.fingerprint()
        self.params |= {"made_by": made_by, "weights": short_hash(made_by)}
        self.runs_network = has_files(self.front_end)  # type: ignore[misc]
        self.on_cpu = not on_device(self.front_end)  # type: ignore[misc]

    def former(self) -> list[tuple[int, dict[str, Any]]]:
        """Version 1, of sound that ends with the video."""
        return [(1, self.params)] if self.front_end.of_frames else []

    def still_right(self, clip: ClipFolder) -> bool:
        """Whether there was nothing to fill up, and no more to cut than what encoders add to their last block."""
        try:
            sound = clip.audio()
        except DataError:
            return False
        return 0 <= len(sound) - len(fitted(sound, len(clip), clip.fps)) < _FILLED_UP

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write the rows (T, width) float32, and the vector (n,) float32."""
        # One per process: it keeps its networks.
        front_end = process_resource(("front end", self.params["weights"]), lambda: self.front_end)
        sound = ctx.clip.audio()
        rows, vector = front_end.extract(self._fitted(sound, ctx)), front_end.vector(sound)
        ctx.facts |= {"rows_per_second": front_end.rows_per_second, "first_row": front_end.first_row}
        names = [default_file(self.artefact)]
        np.save(ctx.scratch / names[0], rows.astype(np.float32))
        if vector is not None:
            names.append(f"{self.artefact}.vector.npy")
            np.save(ctx.scratch / names[1], vector.astype(np.float32))
        return names

    def _fitted(self, sound: np.ndarray, ctx: ClipContext) -> np.ndarray:
        """What the front end hears of the sound (n,) of a clip."""
        if not self.front_end.of_frames:
            return sound
        frames = len(ctx.clip) or sum(1 for _ in ctx.frames())  # a clip none of whose steps has decoded the video yet
        ctx.facts["heard_frames"] = min(frames, math.floor(len(sound) * ctx.fps / SAMPLE_RATE))
        return fitted(sound, frames, ctx.fps)


def has_files(part: Part) -> bool:
    """Whether a front end or a part of one reads weights."""
    return bool(part.files) or any(map(has_files, part.parts))


def on_device(part: Part) -> bool:
    """Whether such weights compute on the GPU where there is one."""
    return (bool(part.files) and not part.on_cpu) or any(map(on_device, part.parts))
