"""Filter `sync`: how far the sound of a clip is off, and whether that can be mended.

A lip-sync expert compares every mouth of the clip with the sound at every offset. Offsets count in video frames;
positive: the best match uses earlier audio, so the sound must move back in time by as many frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from talkingface.config.sections import Config, FiltersConfig, PreprocessConfig
from talkingface.errors import ConfigError
from talkingface.preprocess.filters.experts import ExpertSearch
from talkingface.preprocess.filters.measured import FilterStep
from talkingface.preprocess.filters.offsets import measure_offset, wanders
from talkingface.preprocess.step import ClipContext, Rejected, StepFacts, process_resource, register_step

if TYPE_CHECKING:
    from talkingface.preprocess.filters.experts import OffsetExpert

REACH = 15  # offsets measured to either side, in frames, whatever the limit: changing the limit must not measure again

MOST_CONFIDENT = {"prominence": 1.0}  # by unit, where there is a largest value


@register_step("sync")
class SyncStep(FilterStep):
    """Offset between picture and sound, and how sure the expert is of it."""

    class Facts(StepFacts):
        """See `measure`."""

        offset: Annotated[int, Field(ge=-1000, le=1000)]
        confidence: Annotated[float, Field(allow_inf_nan=False)]
        halves: Annotated[list[int | None], Field(min_length=2, max_length=2)]
        expert: str
        unit: str
        fps: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    needs = ("audio@raw", "landmarks")
    reads_video = True

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig):
        super().__init__(artefact, overrides, settings)
        self.search = ExpertSearch()

    @staticmethod
    def limits_of(filters: FiltersConfig) -> dict[str, Any]:
        """`min_confidence`, `max_offset` in frames, and `repair`."""
        return filters.sync.model_dump(exclude={"expert"})

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """`expert` as the user named it; `reach`: offsets measured to either side, in frames.

        `auto` stays `auto` whichever expert it finds: what one expert has measured stays measured when a better one
        comes along. The facts name the expert.
        """
        sync = settings.filters.sync
        return {"expert": sync.expert, "reach": max(REACH, sync.max_offset)}

    def bind(self, config: Config) -> None:
        """Take the folders of experts, and the device."""
        self.search = ExpertSearch(config.weights_dir, config.saved_dir, config.dataset, config.device)

    def setup(self) -> None:
        """Load the expert, or say that there is none, or that the limit is none for its confidence."""
        self._check_limit(self.expert().unit)

    def _check_limit(self, unit: str) -> None:
        """Refuse a limit that was meant for another unit.

        Raises:
            ConfigError: no clip could reach it.
        """
        least, most = self.limits["min_confidence"], MOST_CONFIDENT.get(unit)
        if least is not None and most is not None and least > most:
            raise ConfigError(
                f"preprocess.filters.sync.min_confidence {least:g} is beyond what {unit} can be, {most:g} at most (0.3"
                " is clear): it is a limit for LSE-C, the confidence of syncnet_v2.model"
            )

    def expert(self) -> OffsetExpert:
        """The expert, one per process."""
        from talkingface.preprocess.filters.experts import find_expert

        key = ("sync expert", self.params["expert"], self.search)
        return process_resource(key, lambda: find_expert(self.params["expert"], self.search))

    def measure(self, ctx: ClipContext) -> dict[str, Any]:
        """See `measure_offset`; with the expert, the unit of its confidence, and `fps`, the rate offsets count in."""
        expert = self.expert()
        clip = ctx.clip
        table = expert.table(ctx.frames(), clip.track(), clip.audio("audio@raw"), ctx.fps, self.params["reach"])
        about = {"expert": expert.name, "sha256": expert.sha256, "unit": expert.unit, "fps": expert.rate(ctx.fps)}
        return measure_offset(table) | about

    def judge(self, facts: Mapping[str, Any]) -> Rejected | None:
        """Confidence first; then whether the offset is constant, and small enough to be mended."""
        self._check_limit(facts["unit"])
        offset, least, most = facts["offset"], self.limits["min_confidence"], self.limits["max_offset"]
        if least is not None and facts["confidence"] < least:
            reason = f"sync confidence {facts['confidence']:.4g} ({facts['unit']}), under filters.sync.min_confidence"
            return Rejected(f"{reason} {least:g}", facts["confidence"], least)
        if wanders([offset, *facts["halves"]]):
            first, second = (_signed(half) for half in facts["halves"])
            return Rejected(f"sync offset is not constant: {first} frames, later {second}", offset, "constant")
        if offset == 0:
            return None
        if not self.limits["repair"]:
            return Rejected(f"sync offset {offset:+d} frames, and filters.sync.repair is off", offset, 0)
        if abs(offset) > most:
            return Rejected(f"sync offset {offset:+d} frames, over filters.sync.max_offset {most}", offset, most)
        if None in facts["halves"]:
            reason = f"sync offset {offset:+d} frames, but too short or too silent to see that it is constant"
            return Rejected(reason, offset, "constant")
        return None


def _signed(offset: int | None) -> str:
    return "?" if offset is None else f"{offset:+d}"
