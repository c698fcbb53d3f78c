"""Agreement of lips and sound in the eyes of a trained expert. It is no LSE, and compares only with the same expert.

Without the public SyncNet's weights this is what a report has to say about sync. A model that was trained to please an
expert pleases it: where the judge is also the loss of the model, the report says so in its first line.
"""

from __future__ import annotations

from typing import Any, ClassVar

from talkingface.errors import DataError, TalkingFaceError, Unavailable
from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.dubbing.judge import load_any_judge, own_judge
from talkingface.lipsync.expert.judge import Judge, find_judge, trained_against
from talkingface.lipsync.expert.scores import NEGATIVE_SHIFT, clip_figures, sweep_of

POOR_ACCURACY = 0.65  # one half is chance
FEWEST = 2 * NEGATIVE_SHIFT  # windows: with fewer there is little to compare with


class ExpertSync(Metric):
    """Agreement of lips and sound in the eyes of a trained expert."""

    name = "EXPERT"
    needs_sound = True
    uses_landmarks = True
    figures: ClassVar[dict[str, Figure]] = {
        "expert_sync": Figure("", True, "mean cosine of mouths and their sound in a trained expert (0 to 1)"),
        "expert_two_alternative": Figure(
            "", True, f"share of mouths closer to their own sound than to one {NEGATIVE_SHIFT} frames or more away"
        ),
        "expert_offset": Figure("frames", None, "offset of the largest mean cosine; positive: earlier audio"),
        "expert_prominence": Figure("", True, "largest mean cosine over all offsets less their median"),
    }
    _judge: Judge | None = None
    _in_loss = False

    @property
    def may_come_from_this_run(self) -> bool:
        """Whether any expert will do: then it may be the one that this run trains."""
        return self.settings.judge == "auto"

    def prepare(self) -> None:
        """Find and load the judge once."""
        if self._judge is not None:
            return
        context = self.context
        try:
            judge = find_judge(
                self.settings.judge,
                saved_dir=context.saved_dir,
                dataset=context.dataset,
                weights_dir=self.weights_dir,
                device=self.device,
                own=lambda: own_judge(context.model, self.weights_dir),
                load=lambda path: load_any_judge(path, self.weights_dir, self.device),
            )
            self._in_loss = trained_against(judge, context.model, context.checkpoint, self.weights_dir)
        except Unavailable:
            raise
        except TalkingFaceError as error:
            raise Unavailable(str(error)) from error
        self._judge = judge

    def definition(self) -> dict[str, Any]:
        """Which expert, how good it is on held-out clips, and whether the model was trained against it."""
        assert self._judge is not None
        judge = {**self._judge.describe(), "also_in_loss": self._in_loss}
        return {"expert": {"judge": judge, "negatives_from_frames": NEGATIVE_SHIFT, "precision": "32"}}

    def remarks(self) -> list[str]:
        """Warnings where the judge was also the loss, or is known to judge badly."""
        assert self._judge is not None
        accuracy = self._judge.accuracy
        remarks = ["expert_* are judged by the expert that trained the model: no evidence"] if self._in_loss else []
        if accuracy is not None and accuracy < POOR_ACCURACY:
            remarks.append(
                f"expert_* come from an expert that is right in {accuracy:.0%} of held-out cases: no evidence"
            )
        return remarks

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Faces cut at the landmarks of the real video, with the driving audio (not the one in the container)."""
        self.prepare()
        assert self._judge is not None
        track = sample.real_track()
        halves = self._judge.cut(sample.generated_frames(), track)
        batch = self.settings.batch or (8 if self.device == "cpu" else 64)
        clip = self._judge.embed(halves, track.valid, sample.driving_audio(), sample.fps, batch)
        # Every window is held against others of the same clip that are NEGATIVE_SHIFT frames away.
        if len(clip.starts) < FEWEST:
            raise DataError(f"{len(clip.starts)} windows with a face and sound, the expert needs {FEWEST}")
        sweep, figures = sweep_of(clip), clip_figures(clip)
        sample.curves["expert"] = sweep.curve.tolist()
        for key in self.figures:
            sample.count(key, len(clip.starts))
        return {
            "expert_sync": figures["positive"],
            "expert_two_alternative": figures["two_alternative"],
            "expert_offset": float(sweep.peak),
            "expert_prominence": sweep.prominence,
        }
