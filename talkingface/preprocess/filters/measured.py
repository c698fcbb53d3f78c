"""Filters: steps that measure a clip and turn it away when a value is beyond its limit.

A filter makes no file. What it measured is noted in `clip.json`; the limits are no parameters, so that changing one
judges the clips anew without measuring. Filters run before the model's own steps, cheap ones first; none is on by
default. The filter `sync` has a file of its own, `sync.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from talkingface.config.sections import Config, FiltersConfig, PreprocessConfig
from talkingface.errors import ConfigError
from talkingface.faces.crop import box_pixels
from talkingface.faces.track import tight_boxes
from talkingface.preprocess.step import ClipContext, Rejected, Step, StepFacts, register_step
from talkingface.preprocess.steps import LandmarksStep

NO_FILTERS = FiltersConfig()
HELD = 15  # the cut detector looks for none in the first 15 frames, so it is shown so many more


def wanted_filters(settings: FiltersConfig) -> list[str]:
    """Names of the filters that are on, in the order of their cost."""
    on = {
        "duration": settings.duration.min is not None or settings.duration.max is not None,
        "scene_cut": settings.scene_cut,
        "face_size": settings.face_size is not None,
        "single_face": settings.single_face is not None,
        "blur": settings.blur is not None,
        "sync": settings.sync.expert != "none",
    }
    return [name for name, wanted in on.items() if wanted]


class FilterStep(Step):
    """Base of every filter: `measure` gives the facts, `judge` holds them against `limits`."""

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig):
        super().__init__(artefact, overrides, settings)
        self.limits = self.limits_of(settings.filters)

    @staticmethod
    def limits_of(filters: FiltersConfig) -> dict[str, Any]:
        """The limits, taken from the configuration; plain JSON values."""
        return {}

    @abstractmethod
    def measure(self, ctx: ClipContext) -> dict[str, Any]:
        """Facts about the clip, plain JSON values.

        Raises:
            Rejected: they cannot be measured on this clip.
        """

    def run(self, ctx: ClipContext) -> list[str]:
        """Note the facts; there is no file."""
        ctx.facts.update(self.measure(ctx))
        return []


@register_step("duration")
class DurationStep(FilterStep):
    """Length of the video in seconds, from its header; decoded only when the header does not say."""

    class Facts(StepFacts):
        """See `measure`."""

        seconds: float

    @staticmethod
    def limits_of(filters: FiltersConfig) -> dict[str, Any]:
        """`min` and `max` in seconds."""
        least, most = filters.duration.min, filters.duration.max
        if least is not None and most is not None and least > most:
            raise ConfigError(f"preprocess.filters.duration: min {least:g} s is longer than max {most:g} s")
        return {"min": least, "max": most}

    def measure(self, ctx: ClipContext) -> dict[str, Any]:
        """`seconds`."""
        seconds = ctx.info.duration or sum(1 for _ in ctx.frames()) / ctx.fps
        return {"seconds": round(float(seconds), 3)}

    def judge(self, facts: Mapping[str, Any]) -> Rejected | None:
        """A clip may be as long as the limits, not beyond them."""
        seconds, least, most = facts["seconds"], self.limits["min"], self.limits["max"]
        if least is not None and seconds < least:
            return Rejected(f"{seconds:g} s long, under filters.duration.min {least:g}", seconds, least)
        if most is not None and seconds > most:
            return Rejected(f"{seconds:g} s long, over filters.duration.max {most:g}", seconds, most)
        return None


@register_step("scene_cut")
class SceneCutStep(FilterStep):
    """Cuts inside the clip, where another shot begins."""

    class Facts(StepFacts):
        """See `measure`."""

        cuts: list[int]
        first: float | None

    reads_video = True

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """`threshold`: change of content between two frames that counts as a cut."""
        from talkingface.media.shots import THRESHOLD

        return {"threshold": THRESHOLD}

    def measure(self, ctx: ClipContext) -> dict[str, Any]:
        """`cuts`: indices of the frames that begin another shot; `first`: seconds of the first one, or None."""
        from talkingface.media.shots import find_cuts

        found = find_cuts(_held_first(ctx.frames()), ctx.fps, self.params["threshold"])
        cuts = [frame - HELD for frame in found]
        return {"cuts": cuts, "first": round(cuts[0] / ctx.fps, 3) if cuts else None}

    def judge(self, facts: Mapping[str, Any]) -> Rejected | None:
        """No cut is allowed."""
        count = len(facts["cuts"])
        if not count:
            return None
        where = f"{count} scene cut{'s' if count > 1 else ''} inside, the first at {facts['first']:g} s"
        return Rejected(f"{where}; filters.scene_cut allows none", count, 0)


def _held_first(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, before them the first one `HELD` times."""
    for index, frame in enumerate(frames):
        if index == 0:
            yield from [frame] * HELD
        yield frame


@register_step("face_size")
class FaceSizeStep(FilterStep):
    """Height of the face in pixels of the source."""

    class Facts(StepFacts):
        """See `measure`."""

        height: float

    needs = ("landmarks",)

    @staticmethod
    def limits_of(filters: FiltersConfig) -> dict[str, Any]:
        """`min` in pixels."""
        return {"min": filters.face_size}

    def measure(self, ctx: ClipContext) -> dict[str, Any]:
        """`height`: mean over the frames in which the face was detected."""
        track = ctx.clip.track()
        boxes = tight_boxes(track)[track.found]
        return {"height": round(float((boxes[:, 3] - boxes[:, 1]).mean()), 2)}

    def judge(self, facts: Mapping[str, Any]) -> Rejected | None:
        """The mean height counts."""
        height, least = facts["height"], self.limits["min"]
        if height >= least:
            return None
        return Rejected(f"face {height:.4g} px high, under filters.face_size {least:g}", height, least)


@register_step("single_face")
class SingleFaceStep(FilterStep):
    """Share of the frames that show more than one face."""

    class Facts(StepFacts):
        """See `measure`."""

        share: float
        most: int

    needs = ("landmarks",)

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig):
        super().__init__(artefact, overrides, settings)
        self.detector = LandmarksStep("landmarks", {}, settings)

    def bind(self, config: Config) -> None:
        """Hand on where the detector's weights lie and where it runs."""
        self.detector.bind(config)

    @staticmethod
    def limits_of(filters: FiltersConfig) -> dict[str, Any]:
        """`max`, a share."""
        return {"max": filters.single_face}

    def measure(self, ctx: ClipContext) -> dict[str, Any]:
        """`share` of the frames, and the `most` faces in any of them."""
        seen = ctx.clip.track().faces_seen
        if seen is None:  # landmarks of an earlier version: count now rather than make them, and all crops, again
            provider = self.detector.provider()
            seen = np.array([len(provider.detect(frame)) for frame in ctx.frames()])
        return {"share": round(float((seen > 1).mean()), 4), "most": int(seen.max())}

    def judge(self, facts: Mapping[str, Any]) -> Rejected | None:
        """The share may be as large as the limit."""
        share, most = facts["share"], self.limits["max"]
        if share <= most:
            return None
        reason = f"more than one face in {share:.1%} of the frames, over filters.single_face {most:g}"
        return Rejected(reason, share, most)


@register_step("blur")
class BlurStep(FilterStep):
    """Sharpness of the face: variance of the Laplacian of its grey picture at a fixed size."""

    class Facts(StepFacts):
        """See `measure`."""

        sharpness: float

    needs = ("landmarks",)
    reads_video = True

    @staticmethod
    def limits_of(filters: FiltersConfig) -> dict[str, Any]:
        """`min` sharpness."""
        return {"min": filters.blur}

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """`size`: side of the picture in pixels; `every`: one of so many frames with a face is measured."""
        return {"size": 128, "every": 5}

    def measure(self, ctx: ClipContext) -> dict[str, Any]:
        """`sharpness`: median over the frames measured."""
        track = ctx.clip.track()
        boxes = tight_boxes(track)
        chosen = set(np.flatnonzero(track.found)[:: self.params["every"]].tolist())
        values = [
            sharpness(frame, boxes[index], self.params["size"])
            for index, frame in enumerate(ctx.frames())
            if index in chosen
        ]
        return {"sharpness": round(float(np.median(values)), 2)}

    def judge(self, facts: Mapping[str, Any]) -> Rejected | None:
        """The median frame counts."""
        value, least = facts["sharpness"], self.limits["min"]
        if value >= least:
            return None
        return Rejected(f"face of sharpness {value:.4g}, under filters.blur {least:g}", value, least)


def sharpness(frame: np.ndarray, box: np.ndarray, size: int) -> float:
    """Variance of the Laplacian of a face, resized to `size`, in squared grey levels.

    Resizing makes faces of all sizes comparable: one that was small in the source counts as blurred, as it will look.
    """
    import cv2

    x1, y1, x2, y2 = box_pixels(box, frame.shape[:2])
    # INTER_AREA averages when it shrinks: other methods would alias, and noise would pass for detail.
    grey = cv2.resize(cv2.cvtColor(frame[y1:y2, x1:x2], cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
