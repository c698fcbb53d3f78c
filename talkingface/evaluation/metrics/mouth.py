"""Mouth opening: does the mouth of the generated video follow the truth, and does it keep time with the sound?

Pixel scores reward blur and a mouth that stays half open; these figures do not. For a video driven by another clip's
audio `mouth_corr_donor` is the honest number: the correlation with the mouth that belongs to that audio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.mouth_motion import best_lag, correlation, log_energy, opening
from talkingface.media import frames_heard

if TYPE_CHECKING:
    from talkingface.faces.track import LandmarkTrack


class Mouth(Metric):
    """Mouth opening: correlation with the truth, and lag behind the sound."""

    name = "MOUTH"
    needs_landmarks = True
    needs_sound = True
    figures: ClassVar[dict[str, Figure]] = {
        "mouth_corr": Figure("", True, "mouth opening, correlation with the real video"),
        "mouth_corr_donor": Figure(
            "", True, "mouth opening, correlation with the video that the driving audio belongs to"
        ),
        "mouth_lag": Figure("frames", None, "shift against the true opening of the driving audio; positive: late"),
        "av_lag": Figure("frames", None, "shift against the loudness of the driving audio; positive: late"),
        "av_corr": Figure("", True, "correlation of opening and loudness at that shift"),
    }

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Correlations over detected frames; lags over detected and interpolated ones."""
        track, donor = sample.generated_track(), sample.other_track()
        measured = opening(track, detected_only=True)
        values = {"mouth_corr": self._against(sample, "mouth_corr", measured, sample.real_track())}
        if donor is not None:
            values["mouth_corr_donor"] = self._against(sample, "mouth_corr_donor", measured, donor)
        # The mouth that belongs to the driving audio: the donor's, or the clip's own.
        truth = opening(donor if donor is not None else sample.real_track())
        values["mouth_lag"], _ = best_lag(truth, opening(track))
        audio = sample.driving_audio()
        # Sound may end before the picture does; frames without any would count as silence.
        frames = min(len(track), frames_heard(len(audio), sample.fps))
        energy = log_energy(audio, frames, sample.fps)
        values["av_lag"], values["av_corr"] = best_lag(energy, opening(track)[:frames])
        return values

    @staticmethod
    def _against(sample: EvalSample, key: str, measured: np.ndarray, truth: LandmarkTrack) -> float:
        wanted = opening(truth, detected_only=True)
        # A generated video is as long as its audio, which may be another clip's.
        length = min(len(measured), len(wanted))
        good = np.isfinite(measured[:length]) & np.isfinite(wanted[:length])
        sample.count(key, int(good.sum()), int(length - good.sum()))
        return correlation(measured[:length], wanted[:length])
