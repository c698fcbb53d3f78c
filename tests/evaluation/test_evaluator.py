"""The evaluator on tiny clips: a toy face whose mouth the toy pipeline opens with the loudness of the sound."""

from __future__ import annotations

import csv
import errno
import json
import math
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.toy_faces import SIZE, ToyProvider, draw
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import Config, EvaluationConfig, LandmarkConfig
from talkingface.errors import DataError, MediaError, OutputError, RegistryError
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.metric import Figure, Metric, make_metric
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.evaluation.tracking import Tracker
from talkingface.faces.detectors import Place
from talkingface.faces.track import track_faces
from talkingface.files import output_error
from talkingface.media import VideoReader, VideoWriter, count_frames, probe, write_wav
from talkingface.plugin.metrics import METRICS, register_metric


class ToyPipeline:
    """Copies the source's frames and draws the mouth anew from the loudness of the sound."""

    name = "Toy"

    def __init__(self, fail=()):
        self.model = SimpleNamespace(stage_scores=self.stage_scores)
        self.fail = fail
        self.asked = []

    def generate_file(self, source, audio, output, progress=False):
        reference = source.reference.clip.clip_id if source.reference else source.clip.clip_id
        self.asked.append((source.clip.clip_id, reference))
        if source.clip.clip_id in self.fail:
            raise MediaError(f"{source.path}: is no good")
        step = round(16000 / source.fps)
        with VideoWriter(output, fps=source.fps, audio=audio.samples) as writer:
            for index, frame in enumerate(islice(source.frames(), audio.n_frames(source.fps))):
                opening = 40 * np.abs(audio.samples[index * step : index * step + step]).max()
                writer.write(draw(opening, frame[30, 30] + 4))

    @staticmethod
    def stage_scores(clips, donors):
        assert all(a.clip_id != b.clip_id for a, b in zip(clips, donors))
        return {"toy_l1": 0.5, "toy_l1_shuffled": 1.0}


def make_clip(root, speaker, name, frames=30, shade=120, fps=25.0):
    rng = np.random.default_rng(sum(map(ord, speaker + name)))
    path = np.convolve(rng.uniform(-1, 1, frames + 4), np.ones(3) / 3, "valid")[:frames]
    opening = 4 + 14 * (path - path.min()) / np.ptp(path)
    step = round(16000 / fps)
    tone = np.where(np.arange(frames * step) % 8 < 4, 1.0, -1.0)
    audio = (np.repeat(opening, step) / 40 * tone).astype(np.float32)
    folder = root / "prepared" / speaker / name
    folder.mkdir(parents=True)
    video = root / "data" / speaker / f"{name}.mp4"
    with VideoWriter(video, fps=fps, audio=audio) as writer:
        for value in opening:
            writer.write(draw(value, shade))
    write_wav(folder / "audio.wav", audio)
    track_faces(VideoReader(video, fps=fps), ToyProvider()).save(folder / "landmarks.npz")
    meta = {
        "format": 1,
        "status": "ok",
        "clip_id": f"{speaker}/{name}",
        "speaker": speaker,
        "frames": frames,
        "fps": fps,
    }
    steps = {"audio": {"files": ["audio.wav"]}, "landmarks": {"files": ["landmarks.npz"], "params": {"mode": "static"}}}
    (folder / "clip.json").write_text(json.dumps({**meta, "source": {"path": str(video)}, "steps": steps}))
    return ClipFolder(folder)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    return [
        make_clip(root, "ann", "one", shade=120),
        make_clip(root, "ann", "two", shade=120),
        make_clip(root, "bob", "one", frames=26, shade=140),
    ]


def setup(metrics, provider="toy", **settings):
    provider = ToyProvider() if provider == "toy" else provider
    return EvaluationSetup(metrics, EvaluationConfig(**settings), provider=provider)


def evaluate(clips, out, metrics=("SSIM", "PSNR", "LMD", "MOUTH", "LSE"), fail=(), run=None, pool=(), **settings):
    settings.setdefault("rows", ("generated", "real", "still", "shuffled"))
    pipeline = ToyPipeline(fail)
    chosen = EvaluationSetup(
        metrics, EvaluationConfig(**settings), weights_dir=out / "nothing", provider=ToyProvider(), pool=pool,
        identity={"model": "Toy", "dataset": "toys", "checkpoint": "x.pt"}, synthetic=True,
    )  # fmt: skip
    return Evaluator(pipeline, chosen).run(clips, out, **(run or {})), pipeline


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval")
    result, pipeline = evaluate(clips, out, samples=1)
    return out, result, pipeline


def test_rows_tell_a_model_that_follows_the_sound(whole):
    _, result, _ = whole
    generated, real, still, shuffled = (result.values(row) for row in ("generated", "real", "still", "shuffled"))
    assert generated["mouth_corr"] > 0.95
    assert generated["mouth_lag"] == 0
    assert shuffled["mouth_corr_donor"] > 0.95 > 0.5 > shuffled["mouth_corr"]
    assert generated["psnr_mouth"] > shuffled["psnr_mouth"] + 1.5
    assert generated["psnr_mouth"] > still["psnr_mouth"] + 1.5
    assert generated["m_lmd"] < shuffled["m_lmd"]
    assert real["psnr"] == pytest.approx(80.0)
    assert real["ssim"] == pytest.approx(1.0)
    assert real["mouth_corr"] == pytest.approx(1.0)
    assert real["m_lmd"] == 0.0
    assert "mouth_corr_donor" not in generated


def test_metrics_json_says_what_was_measured(whole):
    out, result, _ = whole
    report = json.loads((out / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert report == json.loads(json.dumps(result.content))
    assert report["rows"]["generated"]["clips"] == 3
    assert report["rows"]["generated"]["psnr_mouth"] == result.values()["psnr_mouth"]
    assert report["rows"]["generated"]["lse_c"] is None
    assert "weights not found" in report["unavailable"]["LSE"]["reason"]
    assert report["definitions"]["ssim"] == {"variant": "piq", "region": "frame"}
    assert report["landmarks"] == {"provider": "toy", "version": "1", "layout": "ibug68", "mode": "static"}
    assert report["synthetic"] is True
    assert (report["model"], report["dataset"], report["checkpoint"]) == ("Toy", "toys", "x.pt")
    assert report["stage_figures"] == {"toy_l1": 0.5, "toy_l1_shuffled": 1.0}
    assert set(report["definitions"]) >= {key for key, count in report["rows"]["generated"].items() if count} - {
        "clips"
    }
    assert report["definitions"]["m_lmd"] == {**report["definitions"]["lmd"], "landmarks": "toy 1 ibug68 static"}
    assert report["definitions"]["psnr_mouth"]["landmarks"] == "toy 1 ibug68 static"
    assert "landmarks" not in report["definitions"]["psnr"]
    assert report["figures"]["psnr_mouth"]["metric"] == "PSNR"
    assert report["date"] == result.date
    low, high = report["details"]["generated"]["interval95"]["psnr"]
    assert low < report["rows"]["generated"]["psnr"] < high
    assert report["interval95"]["resamples"] == 2000
    frames = report["details"]["generated"]["mean_over_frames"]["psnr"]
    lengths = np.array([30, 30, 26])
    per_clip = [c.values["psnr"] for c in result.clips if c.row == "generated"]
    assert frames == pytest.approx(np.average(per_clip, weights=lengths))
    assert result.values()["psnr"] == pytest.approx(np.mean(per_clip))


def test_references_never_include_the_target_and_the_report_says_so(whole):
    out, _, pipeline = whole
    assert ("ann/one", "ann/two") in pipeline.asked
    assert ("ann/two", "ann/one") in pipeline.asked
    references = json.loads((out / "metrics.json").read_text())["references"]
    assert references["policy"] == "other_clip"
    assert references["from_another_clip"] == 2
    assert references["from_the_same_clip"] == 1  # bob has one clip only
    assert references["reasons"] == ["no other clip of speaker bob"]


def test_table_shows_rows_units_and_reasons(whole):
    _, result, _ = whole
    table = result.table()
    assert table.splitlines()[0].startswith("Toy on toys; references from another clip")
    assert "synthetic" in table.splitlines()[0]
    assert table.splitlines()[1].split() == ["generated", "real", "still", "shuffled"]
    line = next(line for line in table.splitlines() if line.startswith("psnr_mouth"))
    assert "(piq, mouth, dB, higher is better)" in line
    assert f"{result.values('still')['psnr_mouth']:.2f}" in line
    low, high = (f"{end:.2f}" for end in result.rows["generated"].intervals["psnr_mouth"])
    assert f"{result.values()['psnr_mouth']:.2f} [{low}, {high}]" in line
    numbers = table.splitlines()[1 : [row.split()[:1] for row in table.splitlines()].index(["clips"])]
    assert len(numbers) > 15 and max(map(len, numbers)) <= 120
    assert "LSE: n/a (weights not found" in table
    assert "toy_l1_shuffled" in table


def test_per_clip_csv_has_every_row_and_clip(whole):
    out, result, _ = whole
    lines = list(csv.DictReader((out / "per_clip.csv").open()))
    assert len(lines) == 4 * 3
    first = next(line for line in lines if (line["row"], line["clip"]) == ("still", "bob/one"))
    assert int(first["frames"]) == 26
    stored = next(c for c in result.clips if (c.row, c.clip_id) == ("still", "bob/one"))
    assert float(first["psnr"]) == pytest.approx(stored.values["psnr"], rel=1e-4)
    assert first["lse_c"] == ""
    entries = json.loads((out / "per_clip.json").read_text())
    entry = next(entry for entry in entries if (entry["row"], entry["clip_id"]) == ("still", "bob/one"))
    assert entry["values"]["psnr"] == stored.values["psnr"]
    assert entry["video"] == "videos/still/bob_one.mp4"
    assert entry["frames"]["psnr"] == 26


def test_videos_are_written(whole):
    out, _, _ = whole
    info = probe(out / "samples" / "ann_one.mp4")
    assert (info.width, info.height, info.has_audio) == (3 * SIZE, SIZE + 24, True)
    assert count_frames(out / "samples" / "ann_one.mp4") == 30
    assert count_frames(out / "videos" / "shuffled" / "ann_two.mp4") == 26  # its donor is bob's shorter clip
    assert [p.name for p in sorted((out / "samples").iterdir())] == ["ann_one.mp4", "ann_one.png"]
    assert {p.name for p in (out / "videos").iterdir()} == {"generated", "still", "shuffled"}


def test_the_page_shows_every_clip_and_why_figures_are_missing(clips, whole, tmp_path):
    out, _, _ = whole
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<video ") == 1 + 3, "the typical clip, then the best and worst"
    assert page.count("<img ") == 1 + 1, "the picture strip of the typical clip, then of all samples"
    for words in ("best 1", "worst 1", "mouth_corr", "weights not found", "toy_l1_shuffled", "toy 1 ibug68 static"):
        assert words in page
    evaluate(clips[:1], tmp_path, ("PSNR",), rows=("generated",), html=False)
    assert (tmp_path / "metrics.json").exists() and not (tmp_path / "report.html").exists()


def test_still_face_is_the_other_clips_face_in_the_true_box(clips, whole):
    out, _, _ = whole
    still = list(VideoReader(out / "videos" / "still" / "ann_one.mp4"))
    real = list(VideoReader(clips[0].video))
    mouths = [frame[40:86, 44:52].astype(int) for frame in still]
    assert max(np.abs(mouth - mouths[0]).mean() for mouth in mouths) < 3
    assert np.abs(still[5][:10].astype(int) - real[5][:10]).mean() < 2


def test_a_clip_that_fails_is_left_out_of_every_row(clips, tmp_path):
    result, _ = evaluate(clips, tmp_path, ("PSNR",), fail=("ann/two",))
    assert [row.clips for row in result.rows.values()] == [2, 2, 2, 2]
    assert ("generated", "ann/two", "clip") in [skip[:3] for skip in result.skipped]
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert "is no good" in report["skipped"][0]["reason"]
    assert report["details"]["still"]["clips_left_out"] == {"psnr": 1, "psnr_mouth": 1}
    assert "skipped ann/two (generated, clip)" in result.table()
    with pytest.raises(DataError, match="none of 2 clips could be scored; the first: .*is no good"):
        evaluate(clips[:2], tmp_path, ("PSNR",), fail=("ann/one", "ann/two"))
    with pytest.raises(DataError, match="list of clips is empty"):
        evaluate([], tmp_path)


def test_a_metric_that_fails_on_one_clip_keeps_the_others(clips, tmp_path):
    class NoFaceInAnnTwo(ToyProvider):
        def detect(self, frame):
            return [] if frame[30, 30, 0] > 130 else super().detect(frame)

    judge = Evaluator(ToyPipeline(), setup(("LMD", "PSNR"), provider=NoFaceInAnnTwo(), rows=("generated",)))
    result = judge.run(clips, tmp_path, stage_scores=False)
    assert [(clip, what) for _, clip, what, _ in result.skipped] == [("bob/one", "LMD")]
    assert "no face found" in result.skipped[0][3]
    assert result.rows["generated"].scored["m_lmd"] == 2
    assert result.rows["generated"].scored["psnr"] == 3


def test_evaluation_while_training_is_one_row_and_finds_landmarks_once(clips, tmp_path):
    ToyProvider.calls = 0
    result, pipeline = evaluate(clips[:1], tmp_path, run={"rows": ("generated",), "quiet": True})
    assert len(pipeline.asked) == 1
    assert ToyProvider.calls == 30  # LMD and MOUTH share them, the real video's are on disk
    assert result.flat("eval/")["eval/mouth_corr"] == result.values("generated")["mouth_corr"]
    assert not (tmp_path / "samples").exists()
    assert not (tmp_path / "report.html").exists()
    assert all(math.isfinite(value) for value in result.flat().values())


def test_other_length_is_noted(clips, tmp_path):
    class Short(ToyPipeline):
        def generate_file(self, source, audio, output, progress=False):
            super().generate_file(source, type(audio)(audio.samples[: 640 * 20]), output)

    judge = Evaluator(Short(), setup(("PSNR",), rows=("generated",)))
    result = judge.run(clips[:1], tmp_path)
    assert result.clips[0].notes == ["20 frames, the real video has 30"]
    assert result.clips[0].frames["psnr"] == 20


def test_undefined_figures_are_left_out_and_counted(clips, tmp_path):
    result, _ = evaluate(clips[:2], tmp_path, ("PSNR",), rows=("real",), ssim_variant="skimage")
    assert "psnr" not in result.values("real")  # equal frames: infinite
    assert result.rows["real"].non_finite == {"psnr": 2, "psnr_mouth": 2}
    assert json.loads((tmp_path / "metrics.json").read_text())["rows"]["real"]["psnr"] is None
    assert result.clips[0].excluded["psnr"] == 30


def test_a_metric_whose_rows_are_not_there_says_what_to_set_and_strict_does_not_mind(clips, tmp_path):
    result, _ = evaluate(clips[:1], tmp_path, ("SWAP", "PSNR"), rows=("generated", "real"), strict=True)
    reason = 'needs the rows generated and shuffled; set --evaluation.rows="[generated, shuffled, real]"'
    assert result.unavailable == {"SWAP": reason}
    assert f"SWAP: n/a ({reason})" in result.table()
    assert json.loads((tmp_path / "metrics.json").read_text())["unavailable"]["SWAP"]["reason"] == reason
    assert "needs the rows generated and shuffled" in (tmp_path / "report.html").read_text(encoding="utf-8")
    files = Evaluator(None, setup(("SWAP",)))._needed_rows(make_metric("SWAP"), ("generated",))
    assert files == "needs the rows generated and shuffled, which only a model can make that is given another voice"


class Upper(Metric):
    """Height of the highest landmark of the real video: no detector is needed for it."""

    name = "UPPER"
    uses_landmarks = True
    figures = {"upper": Figure("px", None, "height")}

    def score(self, sample):
        return {"upper": float(np.nanmin(sample.real_track().points_px[..., 1]))}


def test_the_detector_behind_prepared_landmarks_is_named_where_none_was_at_work(clips, tmp_path):
    judge = Evaluator(ToyPipeline(), setup((Upper(), "PSNR"), provider=None, rows=("real",)))
    result = judge.run(clips[:2], tmp_path, quiet=True)
    assert judge.tracker.describe() == {}
    assert result.provenance["landmarks"] == {"provider": "toy", "version": "1", "layout": "ibug68", "mode": "static"}
    assert result.definitions["upper"] == {"landmarks": "toy 1 ibug68 static"}
    assert result.definitions["psnr_mouth"]["landmarks"] == "toy 1 ibug68 static"
    assert "landmarks" not in result.definitions["psnr"]


def test_detectors_of_the_evaluation_run_on_its_device(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "talkingface.evaluation.tracking.make_provider", lambda *a, **k: asked.append(k) or ToyProvider()
    )
    settings = LandmarkConfig(provider="s3fd")
    Evaluator(None, EvaluationSetup(landmarks=settings, weights_dir="/w", device="cpu")).tracker.prepare()
    Tracker(settings, place=Place("/w", "cuda:1")).prepare()
    assert [k["place"] for k in asked] == [("/w", "cpu"), ("/w", "cuda:1")]


def test_strict_refuses_a_missing_metric(clips, tmp_path):
    with pytest.raises(DataError, match="metric LSE is not available: weights not found"):
        evaluate(clips, tmp_path, ("LSE",), strict=True)


@pytest.mark.parametrize("region", ["face", "mouth"])
def test_region_changes_the_main_figure(clips, tmp_path, region):
    result, _ = evaluate(clips[:1], tmp_path, ("PSNR",), rows=("generated",), region=region)
    values = result.values()
    assert (values["psnr"] == values["psnr_mouth"]) == (region == "mouth")
    assert result.definitions["psnr"]["region"] == region


def test_sync_scores_go_through_the_whole_chain(clips, tmp_path):
    import torch

    from talkingface.networks.syncnet_v2 import SyncNetV2

    torch.manual_seed(0)
    torch.save(SyncNetV2().state_dict(), tmp_path / "random.model")
    options = {"rows": ("generated", "real"), "lse_checkpoint": str(tmp_path / "random.model")}
    result, _ = evaluate(clips[:1], tmp_path, ("LSE",), **options)
    assert set(result.values()) == {"lse_c", "lse_d", "av_offset"}
    assert result.clips[0].frames["lse_c"] == 25  # 30 frames: the last of 26 windows is left out
    assert result.definitions["lse"]["protocol"] == "clip"
    assert result.definitions["lse"]["weights"]["published"] is False


@pytest.fixture(scope="module")
def fast_clips(tmp_path_factory):
    """Clips prepared at 32 fps: 500 samples to the frame."""
    root = tmp_path_factory.mktemp("fast")
    return [make_clip(root, "ann", name, frames=38, fps=32.0) for name in ("one", "two")]


def test_clips_are_generated_and_scored_at_their_own_rate(fast_clips, tmp_path):
    import torch

    from talkingface.networks.syncnet_v2 import SyncNetV2

    torch.manual_seed(0)
    torch.save(SyncNetV2().state_dict(), tmp_path / "random.model")
    options = {"lse_checkpoint": str(tmp_path / "random.model"), "samples": 1}
    result, _ = evaluate(fast_clips, tmp_path, ("PSNR", "LMD", "MOUTH", "LSE"), **options)
    assert result.skipped == []
    for row in ("generated", "real", "still", "shuffled"):
        scores = [clip for clip in result.clips if clip.row == row]
        assert [clip.frames["psnr"] for clip in scores] == [38, 38]
        assert [clip.notes for clip in scores] == [["LSE: resampled from 32.00 to 25 fps"]] * 2
        assert [clip.frames["lse_c"] for clip in scores] == [24, 24]  # 38 frames at 32 fps are 29 audio frames
    generated = result.values()
    assert generated["mouth_corr"] > 0.95 and generated["mouth_lag"] == 0
    assert result.values("real")["mouth_corr"] == pytest.approx(1.0)
    assert result.values("shuffled")["mouth_corr_donor"] > 0.95
    for video in (*(tmp_path / "videos").rglob("*.mp4"), tmp_path / "samples" / "ann_one.mp4"):
        assert probe(video).fps == pytest.approx(32, abs=0.01), video
    assert result.provenance["fps"] == 32


def test_references_of_another_rate_serve_and_donors_do_not(clips, fast_clips, tmp_path):
    chosen = [clips[0], fast_clips[1]]  # one speaker, so each is the other's reference
    result, pipeline = evaluate(chosen, tmp_path, ("PSNR", "MOUTH"))
    assert [row.clips for row in result.rows.values()] == [2, 2, 2, 0]
    assert pipeline.asked == [("ann/one", "ann/two"), ("ann/two", "ann/one")]
    assert {reason for row, _, _, reason in result.skipped} == {
        "no other clip of 25 fps to lend its audio",
        "no other clip of 32 fps to lend its audio",
    }
    assert result.provenance["fps"] == [25, 32]


def test_a_lone_clip_gets_its_donor_from_the_pool_and_the_report_says_so(clips, tmp_path):
    result, _ = evaluate(clips[:1], tmp_path, ("MOUTH",), rows=("generated", "shuffled"), pool=clips)
    assert result.values("shuffled")["mouth_corr_donor"] > 0.95
    assert result.stage_figures == {"toy_l1": 0.5, "toy_l1_shuffled": 1.0}
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["donors"] == {"ann/one": "bob/one"}, "another speaker is preferred"
    assert report["donors_from_outside_the_list"] == ["bob/one"]


def test_the_shuffled_row_says_how_the_mouth_answers_another_audio(clips, tmp_path):
    result, _ = evaluate(clips, tmp_path, ("SWAP",))
    answered = result.values("shuffled")
    assert answered["swap_opening"] == pytest.approx(1.0, abs=0.1)
    assert answered["swap_mouth"] > 10 > 1 > answered["swap_rest"]
    assert [result.values(row) for row in ("generated", "real", "still")] == [{}, {}, {}]
    assert result.skipped == []
    assert evaluate(clips, tmp_path, ("SWAP",), rows=("shuffled",))[0].values("shuffled") == {}


def test_output_that_cannot_be_written_stops_at_once(clips, tmp_path):
    class FullDisk(ToyPipeline):
        def generate_file(self, source, audio, output, progress=False):
            error = OSError(errno.ENOSPC, "no space")
            raise output_error(output, error) from error

    with pytest.raises(OutputError, match="disk is full"):
        Evaluator(FullDisk(), setup(("PSNR",))).run(clips, tmp_path)


def test_a_video_that_cannot_be_encoded_is_left_out_like_any_other(clips, tmp_path):
    class Choosy(ToyPipeline):
        def generate_file(self, source, audio, output, progress=False):
            if source.clip.clip_id == clips[0].clip_id:
                raise OutputError(f"{output}: cannot be encoded")
            super().generate_file(source, audio, output, progress)

    result = Evaluator(Choosy(), setup(("PSNR",), rows=("generated",), html=False)).run(clips, tmp_path)
    assert result.failed("generated")[0][0] == clips[0].clip_id and result.rows["generated"].clips == len(clips) - 1


def test_configuration_and_manifest_reach_the_evaluator(clips, tmp_path):
    (tmp_path / "manifest.json").write_text('{"synthetic": true}')
    settings = EvaluationConfig(ssim_variant="wang", max_clips=1, rows=("generated",))
    config = Config(
        model_name="Toy", dataset="toys", data_root=str(tmp_path), metrics=["psnr", "LSE"], evaluation=settings,
        weights_dir=str(tmp_path / "w"),
    )  # fmt: skip
    pipeline = ToyPipeline()
    pipeline.checkpoint = tmp_path / "best.pt"
    pipeline.model.inference_precision = "bf16"
    result = Evaluator.from_config(config, pipeline, clips).run(clips[2:] + clips, tmp_path / "out")
    assert result.provenance["checkpoint"].endswith("best.pt")
    assert result.content["inference_precision"] == "bf16"
    assert (result.provenance["synthetic"], result.provenance["clips"]) == (True, 1)
    assert result.definitions["psnr"]["variant"] == "skimage"
    assert str(tmp_path / "w") in result.unavailable["LSE"]


def test_a_plugin_metric_is_scored_like_the_others(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("talkingface.plugin.metrics.METRICS", METRICS)

    @register_metric("Frames")
    class Frames(Metric):
        """Number of frames."""

        name = "FRAMES"
        figures = {"frames": Figure("frames", None, "length")}

        def score(self, sample):
            return {"frames": sum(1 for _ in sample.pairs())}

    try:
        assert METRICS["FRAMES"].line == "Number of frames."
        result, _ = evaluate(clips, tmp_path, ("frames",), rows=("real",))
        assert result.values("real") == {"frames": pytest.approx((30 + 30 + 26) / 3)}
        with pytest.raises(RegistryError, match="already taken"):
            register_metric("PSNR")(Frames)
    finally:
        METRICS.pop("FRAMES")


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
