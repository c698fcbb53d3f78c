"""Motion of the mouth while nobody speaks: a face that listens to its audio keeps still in the pauses."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.mouth_motion import opening
from talkingface.lipsync.pauses import EDGE, RUN, quiet_frames
from talkingface.media import frames_heard


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
