"""Filter `sync`: how far the sound of a clip is off, and whether that can be mended.

A lip-sync expert compares every mouth of the clip with the sound at every offset. Offsets count in video frames;
positive: the best match uses earlier audio, so the sound must move back in time by as many frames.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface.config import FiltersConfig, PreprocessConfig
from talkingface.errors import ConfigError
from talkingface.preprocess_filters import FilterStep
from talkingface.preprocess_steps import ClipContext, Rejected, process_resource, register_step

if TYPE_CHECKING:
    from talkingface.preprocess_experts import OffsetExpert

REACH = 15  # offsets measured to either side, in frames, whatever the limit: changing the limit must not measure again
LEAST_WINDOWS = 10  # mouths behind a verdict
DRIFT = 1  # frames by which the halves of a clip may differ: the halves are short, and a frame is 40 ms
MOST_CONFIDENT = {"prominence": 1.0}  # by unit, where there is a largest value


@dataclass(frozen=True)
class ExpertSearch:
    """Where lip-sync experts may lie, and where they compute; see `preprocess_experts.find_expert`.

    Attributes:
        weights_dir: folder of published weights.
        saved_dir: folder of runs.
        dataset: name of the data set, for the runs on it.
        device: as in the configuration.
    """

    weights_dir: str = "checkpoints"
    saved_dir: str = "saved"
    dataset: str = ""
    device: str = "cpu"


def move_sound(audio: np.ndarray, offset: int, fps: float = 25.0, sample_rate: int = 16000) -> np.ndarray:
    """Undo an offset: at a positive one the sound starts later by so many frames, at a negative one earlier.

    The length stays: what leaves at one end is cut, and silence fills the other.
    """
    moved = np.zeros_like(audio)
    samples = min(round(abs(offset) * sample_rate / fps), len(audio))
    kept = len(audio) - samples
    if offset >= 0:
        moved[samples:] = audio[:kept]
    else:
        moved[:kept] = audio[samples:]
    return moved


def offset_curve(table: np.ndarray) -> np.ndarray:
    """Mean agreement at every offset; NaN where less than half of the mouths have a sound to be compared with.

    Args:
        table: (n, 2 r + 1) agreement of mouth t with the sound at t - offset, offsets -r to r, higher is better; NaN
            where the clip has no such pair.

    Returns:
        (2 r + 1,).
    """
    known = np.isfinite(table)
    counts = known.sum(axis=0)
    means = np.where(known, table, 0.0).sum(axis=0) / np.maximum(counts, 1)
    return np.where(counts >= max(1, 0.5 * counts.max()), means, np.nan)


def peak_of(curve: np.ndarray) -> tuple[int, float]:
    """Offset of the largest value of a curve, and how far that stands above the median."""
    best = int(np.nanargmax(curve))
    return best - len(curve) // 2, float(curve[best] - np.nanmedian(curve))


def measure_offset(table: np.ndarray) -> dict[str, Any]:
    """Facts of a clip from `table`, see `offset_curve`.

    Returns:
        `offset` in frames, `confidence`, `windows` (mouths compared), and `halves`: the offsets of the first and the
        second half of the mouths, None where a half is too short or too faint to tell (say, silent).

    Raises:
        Rejected: the clip is too short.
    """
    rows = np.isfinite(table).any(axis=1)
    if rows.sum() < LEAST_WINDOWS:
        raise Rejected(
            f"only {rows.sum()} windows with a face and sound; filters.sync needs {LEAST_WINDOWS}",
            *(int(rows.sum()), LEAST_WINDOWS),
        )
    offset, confidence = peak_of(offset_curve(table))
    halves = [_half(part, confidence) for part in np.array_split(table, 2)]
    return {"offset": offset, "confidence": round(confidence, 4), "windows": int(rows.sum()), "halves": halves}


def _half(table: np.ndarray, confidence: float) -> int | None:
    """Offset of half a clip, None when it does not tell."""
    if np.isfinite(table).any(axis=1).sum() < LEAST_WINDOWS:
        return None
    offset, own = peak_of(offset_curve(table))
    return offset if own >= 0.5 * confidence else None


@register_step("sync")
class SyncStep(FilterStep):
    """Offset between picture and sound, and how sure the expert is of it."""

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

    def bind(self, config: Any) -> None:
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
        import torch

        from talkingface.preprocess_experts import find_expert

        if multiprocessing.parent_process() is not None:
            torch.set_num_threads(1)  # one core to each worker
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


def wanders(offsets: Sequence[int | None]) -> bool:
    """Whether any two of the offsets that are known differ by more than `DRIFT` frames."""
    known = [offset for offset in offsets if offset is not None]
    return max(known) - min(known) > DRIFT


def _signed(offset: int | None) -> str:
    return "?" if offset is None else f"{offset:+d}"
