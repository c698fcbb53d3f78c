"""The videos of an evaluation: decoded once, kept within a budget, written with the effort that is asked for."""

from __future__ import annotations

from collections import Counter

from helpers.toy_evaluation import ToyPipeline, evaluate
from helpers.toy_faces import ToyProvider
from talkingface.config.sections import EvaluationConfig
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.media import VideoReader


def test_every_video_is_decoded_once_for_all_rows_metrics_and_films(clips, tmp_path, monkeypatch):
    counts, read = Counter(), VideoReader.__iter__
    monkeypatch.setattr(VideoReader, "__iter__", lambda self: counts.update([self.path]) or read(self))
    metrics = ("SSIM", "PSNR", "LMD", "MOUTH", "SWAP", "JITTER")
    result, _ = evaluate(clips, tmp_path, metrics, samples=3)
    assert (tmp_path / "report.html").is_file() and len(list((tmp_path / "samples").glob("*.mp4"))) == 3
    own = {path: count for path, count in counts.items() if path.name != "film.mp4"}  # of the page, for its poster
    assert set(own) == {clip.video for clip in result.clips} | {clip.video for clip in clips}
    assert set(own.values()) == {1}


def test_figures_do_not_depend_on_the_memory_for_videos(clips, tmp_path):
    def figures(megabytes):
        chosen = EvaluationSetup(
            ("SSIM", "PSNR", "LMD", "MOUTH", "SWAP"),
            EvaluationConfig(rows=("generated", "real", "still", "shuffled"), html=False, samples=1),
            provider=ToyProvider(), video_cache_mb=megabytes,
        )  # fmt: skip
        result = Evaluator(ToyPipeline(), chosen).run(clips, tmp_path / str(megabytes))
        return {(clip.row, clip.clip_id): clip.values for clip in result.clips}

    assert figures(0) == figures(512)


def test_the_effort_of_the_encoder_holds_for_what_an_evaluation_writes(clips, tmp_path):
    sizes = {}
    for preset in ("ultrafast", "medium"):
        chosen = EvaluationSetup(("PSNR",), EvaluationConfig(rows=("generated", "still")), preset=preset)
        Evaluator(ToyPipeline(), chosen).run(clips, tmp_path / preset)
        made = [*(tmp_path / preset / "videos" / "still").iterdir(), *(tmp_path / preset / "samples").glob("*.mp4")]
        sizes[preset] = {path.name: path.stat().st_size for path in made}
    assert all(sizes["ultrafast"][name] > size for name, size in sizes["medium"].items())
