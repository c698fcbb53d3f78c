"""Motion of the mouth while nobody speaks: a face that listens to its audio keeps still in the pauses."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.mouth_motion import log_energy, opening
from talkingface.media import FPS, SAMPLE_RATE, frames_heard

RUN = 5
"""Shortest pause in frames: less is a closure inside a word."""
EDGE = 3
"""Frames beside speech that do not count: lips open before the voice sets in and close after it."""
NOTHING = 1e-4
"""Sound that never exceeds this amplitude (-80 dB of full scale) is silence from end to end."""


def quiet_frames(
    audio: np.ndarray, frames: int, fps: float = FPS, level_db: float = -35.0, sample_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """(frames,) bool: frames inside a pause.

    Args:
        audio: (n,) mono sound.
        frames: number of video frames.
        fps: their rate.
        level_db: a frame is silent when its loudness lies at least this far (negative dB) below the loudest frame's.
        sample_rate: Hz of the sound.

    Returns:
        True for the frames of runs of at least `RUN` silent ones that are more than `EDGE` frames away from any louder
        one. Beyond the ends of the clip there is silence.
    """
    if not len(audio) or float(np.abs(audio).max()) < NOTHING:
        return np.full(frames, frames >= RUN)
    # Two decibels of room below the level, so that the cut-off itself never decides.
    loud = log_energy(audio, frames, fps, sample_rate, floor=level_db - 2.0) > level_db
    quiet = ~loud
    # Borders of the runs: 1 where one begins, -1 where it has ended; zeros at both ends close the outer ones.
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start < RUN:
            quiet[start:stop] = False
    # How many loud frames lie within EDGE of each.
    near = np.convolve(loud, np.ones(2 * EDGE + 1))[EDGE : EDGE + frames] > 0
    return quiet & ~near


class Silence(Metric):
    """Motion and opening of the mouth in the pauses of the driving audio."""

    name = "SILENCE"
    needs_landmarks = True
    needs_sound = True
    per_frame = True
    figures: ClassVar[dict[str, Figure]] = {
        "silence_motion": Figure(
            "face heights",
            False,
            "change of the mouth opening from frame to frame in pauses; compare with the real row",
        ),
        "silence_opening": Figure("face heights", False, "mouth opening in pauses; compare with the real row"),
    }

    def definition(self) -> dict[str, Any]:
        """What counts as a pause."""
        return {"silence": {"silence_db": self.settings.silence_db, "shortest_run": RUN, "off_speech": EDGE}}

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Means over frames of pauses in which the face was detected; undefined, with a note, where there are none."""
        values = opening(sample.generated_track(), detected_only=True)
        audio = sample.driving_audio()
        heard = min(len(values), frames_heard(len(audio), sample.fps))
        quiet = np.zeros(len(values), bool)
        quiet[:heard] = quiet_frames(audio, heard, sample.fps, self.settings.silence_db)
        if not quiet.any():
            sample.notes.append(f"SILENCE: the audio has no pause ({RUN} frames, and {EDGE} away from speech)")
        still = values[quiet]
        # A step counts when both of its frames are in a pause.
        moves = np.abs(np.diff(values))[quiet[1:] & quiet[:-1]]
        result = {}
        for key, series in (("silence_motion", moves), ("silence_opening", still)):
            finite = series[np.isfinite(series)]
            sample.count(key, len(finite), len(series) - len(finite))
            result[key] = float(finite.mean()) if len(finite) else math.nan
        return result
