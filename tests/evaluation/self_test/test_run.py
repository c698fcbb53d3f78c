"""`evaluate --self_test`: healthy metrics pass, and a metric that is broken on purpose is named, with exit code 1."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.toy_faces import ToyProvider, draw
from talkingface.cli.commands import main
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import EvaluationConfig, LandmarkConfig
from talkingface.errors import Unavailable
from talkingface.evaluation.folders import FileClip
from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.metrics import image, lse, mouth
from talkingface.evaluation.metrics.image import SSIM
from talkingface.evaluation.metrics.lpips import LPIPS
from talkingface.evaluation.metrics.silence import Silence
from talkingface.evaluation.self_test import run as self_test_module
from talkingface.evaluation.self_test.bench import Bench, Broken, random_weights, score
from talkingface.evaluation.self_test.checks import Check, all_checks
from talkingface.evaluation.self_test.run import Outcome, run_checks
from talkingface.evaluation.self_test.sound import clearness, offsets, own_sound, scores
from talkingface.evaluation.tracking import TrackCache, Tracker
from talkingface.lipsync.mouth_motion import best_lag, correlation
from talkingface.media import VideoWriter

FRAMES = 45


def write_toy(path: Path, seed: int) -> Path:
    """A face that opens its mouth as loud as it speaks."""
    rng = np.random.default_rng(seed)
    opening = np.convolve(rng.uniform(0, 1, FRAMES + 2), np.ones(3) / 3, "valid")
    opening = 4 + 14 * (opening - opening.min()) / np.ptp(opening)
    noise = rng.uniform(-1, 1, FRAMES * 640)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=25.0, audio=(np.repeat(opening, 640) / 40 * noise).astype(np.float32)) as writer:
        for value in opening:
            writer.write(draw(value, 120))
    return path


@pytest.fixture(autouse=True)
def toy_landmarks(monkeypatch):
    monkeypatch.setattr(Tracker, "_make", lambda self: ToyProvider())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("self_test")
    names = [f"p{index}/a" for index in range(3)]
    for index, name in enumerate(names):
        write_toy(root / "data" / f"{name}.mp4", index)
    (root / "data" / "broken.mp4").write_bytes(b"\0" * 100)
    lists = root / "lists"
    lists.mkdir()
    for split, entries in {"train": names[:1], "val": names[:1], "test": ["broken", *names]}.items():
        (lists / f"{split}.txt").write_text("\n".join(entries))
    return root


def self_test(data, out, *options, metrics="[SSIM, PSNR, LMD, MOUTH, JITTER, SILENCE, SWAP]"):
    lists = [f"--{split}_filelist={data / 'lists' / f'{split}.txt'}" for split in ("train", "val", "test")]
    places = [f"--data_root={data / 'data'}", f"--output={out}", f"--weights_dir={out}", f"--saved_dir={out}"]
    command = ["evaluate", "--self_test", "--dataset=folder", "--device=cpu", f"--metrics={metrics}"]
    return main([*command, *places, *lists, *options])


def results(out):
    content = json.loads((out / "self_test.json").read_text())
    return {(check["metric"], check["title"], check["machinery"]): check for check in content["checks"]}, content


@pytest.mark.parametrize("remarks", [[], ["expert_* come from an expert that is right in 50% of cases: no evidence"]])
def test_a_judge_that_is_known_to_be_bad_is_the_reason_given(remarks):
    class Deaf(Metric):
        name = "DEAF"
        figures = {"deaf": Figure("", True, "nothing")}

        def score(self, sample):
            return {"deaf": 0.5}

    Deaf.remarks = lambda self: remarks
    clip = SimpleNamespace(audio=lambda: np.zeros(16000, np.float32))
    bench = SimpleNamespace(
        clips=[clip], metric=lambda name: Deaf(), donor=lambda clip: clip, sample=lambda clip, audio: None
    )
    with pytest.raises(
        Broken, match=r"deaf 0\.5 against 0\.5.*" + (re.escape(remarks[0]) if remarks else "who speaks")
    ):
        own_sound(bench, "DEAF")


def test_healthy_metrics_pass_every_check(data, tmp_path, capsys):
    assert self_test(data, tmp_path) == 0
    checks, content = results(tmp_path)
    undefined = [check["metric"] for check in checks.values() if check["status"] != "ok"]
    assert undefined == ["MOUTH", "SILENCE"]  # the drawn still face has an even mouth, and there is no pause
    assert content["clips"] == ["p0/a", "p1/a", "p2/a"]  # the broken one is passed over
    assert content["counts"] == {"ok": len(checks) - 2, "FAILED": 0, "n/a": 2}
    assert {metric for metric, _, _ in checks} == {"SSIM", "PSNR", "LMD", "MOUTH", "JITTER", "SILENCE", "SWAP"}
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "self-test on 3 clips of folder, networks on cpu"
    assert len(printed) == len(checks) + 2
    assert printed[1].startswith("ok     MOUTH   own sound beats another clip's ")
    assert "moved picture moves the lag by as much" in printed[2] and "-10 to 10 frames" in printed[2]


def test_without_weights_the_machinery_is_tried_and_the_metric_reads_na(data, tmp_path, capsys, caplog):
    logging.getLogger("talkingface").addHandler(caplog.handler)
    assert self_test(data, tmp_path, metrics="[LSE, LPIPS]") == 0
    logging.getLogger("talkingface").removeHandler(caplog.handler)
    checks, _ = results(tmp_path)
    found = {key: (check["status"], check["detail"]) for key, check in checks.items()}
    assert found["LSE", "moved sound moves the offset by as much", False][0] == "n/a"
    assert "weights not found" in found["LSE", "moved sound moves the offset by as much", False][1]
    assert found["LSE", "moved sound moves the offset by as much", True] == ("ok", "-10 to 10 frames, 27 windows")
    assert found["LPIPS", "batch size does not matter", True][0] == "ok"
    printed = capsys.readouterr().out
    assert "n/a    LSE     batch size does not matter                          as above" in printed
    assert not [record for record in caplog.records if "used all the same" in record.getMessage()]


def test_strict_makes_a_check_that_cannot_run_an_error(data, tmp_path, monkeypatch, capsys):
    def na(bench):
        raise Unavailable("no weights")

    monkeypatch.setattr(self_test_module, "all_checks", lambda: [Check("a", "LPIPS", na)])
    assert self_test(data, tmp_path, metrics="[LPIPS]") == 0
    assert self_test(data, tmp_path, "--metrics_strict=true", metrics="[LPIPS]") == 2
    assert "error: LPIPS could not be checked: no weights" in capsys.readouterr().err


def test_a_failed_check_is_exit_code_1_whatever_else_could_not_run(data, tmp_path, monkeypatch):
    def na(bench):
        raise Unavailable("no weights")

    def fail(bench):
        raise Broken("0.9 instead of 1")

    checks = [Check("a", "LPIPS", na), Check("b", "LPIPS", fail)]
    monkeypatch.setattr(self_test_module, "all_checks", lambda: checks)
    assert self_test(data, tmp_path, "--metrics_strict=true", metrics="[LPIPS]") == 1


def test_a_metric_without_any_value_is_broken(bench, monkeypatch):
    monkeypatch.setattr(SSIM, "score", lambda self, sample: {})
    found = outcome(bench, "identical videos score best", "SSIM", machinery=False)
    assert (found.status, found.detail.split(",")[0]) == ("FAILED", "no value of ssim")


def leaky(self):
    """Means of the last clip alone."""
    return dict(self._clips[-1][0])


def deaf_energy(audio, frames, *others, **named):
    return np.random.default_rng(0).normal(size=frames)


def late(compare):
    return lambda *given, **named: (compare(*given, **named)[0] + 1, 1.0)


BROKEN = {
    "SSIM": (SSIM, "function", staticmethod(lambda a, b, variant: 0.9999), "identical videos score best"),
    "PSNR": (image, "psnr_variant", lambda variant: "piq", "identical videos score best"),
    "LMD": (Metric, "compute", leaky, "order of clips does not matter"),
    "MOUTH": (mouth, "best_lag", late(best_lag), "moved picture moves the lag by as much"),
    "JITTER": ("talkingface.evaluation.metrics.jitter.pixel_jitter", None, lambda *given: [0.1], "does not tremble"),
    "SILENCE": (Silence, "score", lambda self, sample: {"silence_motion": 1e-6}, "a frozen mouth"),
    "SWAP": ("talkingface.evaluation.metrics.swap.frame_change", None, lambda *given: (0.0, 1e-3), "answers it by 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_metric_is_named(data, tmp_path, monkeypatch, capsys, name):
    place, attribute, instead, title = BROKEN[name]
    monkeypatch.setattr(place, *([attribute] if attribute else []), instead)
    assert self_test(data, tmp_path, metrics=f"[{name}]") == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert any(title in line for line in failed), failed
    assert any(check["status"] == "FAILED" for check in results(tmp_path)[0].values())


def test_a_metric_that_does_not_listen_is_found(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mouth, "log_energy", deaf_energy)
    assert self_test(data, tmp_path, metrics="[MOUTH]") == 1
    assert "FAILED MOUTH   own sound beats another clip's" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bench(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    find = TrackCache(Tracker(LandmarkConfig(), ToyProvider()), folder)
    videos = [data / "data" / f"p{index}" / "a.mp4" for index in range(3)]
    clips = [FileClip(video, ClipItem(video.parent.name, video), find) for video in videos]
    return Bench(clips, EvaluationConfig(), str(folder), "cpu", find, folder)


def outcome(bench: Bench, title: str, metric: str, machinery: bool) -> Outcome:
    chosen = [c for c in all_checks() if (c.title, c.metric, c.machinery) == (title, metric, machinery)]
    (found,) = run_checks(bench, chosen)
    return found


def test_an_offset_of_the_wrong_sign_is_found(bench, monkeypatch):
    title = "moved sound moves the offset by as much"
    score = lse.score_embeddings
    monkeypatch.setattr(lse, "score_embeddings", lambda lip, audio, **named: score(audio, lip, **named))
    found = outcome(bench, title, "LSE", machinery=True)
    assert (found.status, found.detail) == ("FAILED", "sound -10 frames earlier: av_offset 10, expected -10")


def test_an_influence_of_the_batch_is_found(bench, monkeypatch):
    compare = LPIPS._compare
    monkeypatch.setattr(
        LPIPS, "_compare", lambda self, pairs: [v * (1 + 1e-3 * len(pairs)) for v in compare(self, pairs)]
    )
    found = outcome(bench, "batch size does not matter", "LPIPS", machinery=True)
    assert found.status == "FAILED" and "between batches of (1, 3, 8)" in found.detail


# -- a real judge ------------------------------------------------------------------------------------------------------


class Judge(Metric):
    """Finds the offset at which the mouth is open where the sound is loud; `slip` makes it err at one offset."""

    name = "JUDGE"
    figures = {"agreement": Figure("", True, ""), "judge_offset": Figure("frames", None, "")}
    slip: int | None = None
    noise = 0.0

    def score(self, sample):
        opened = sample.generated_track().opening()
        loud = np.abs(sample.driving_audio()[: 640 * len(opened)].reshape(len(opened), 640)).mean(axis=1)
        curve = [correlation(opened, np.roll(loud, offset)) for offset in range(-15, 16)]
        curve = np.array(curve) * (1 - self.noise) + self.noise * np.random.default_rng(0).uniform(-1, 1, 31)
        sample.curves["judge"] = curve.tolist()
        offset = int(np.argmax(curve)) - 15
        return {"agreement": float(curve.max()), "judge_offset": float(offset + (offset == self.slip))}


def test_the_offset_of_a_judge_follows_the_sound_or_is_broken_or_cannot_be_told(bench, monkeypatch):
    judge = Judge()
    monkeypatch.setattr(Bench, "metric", lambda self, name, **settings: judge)
    assert offsets(bench, "EXPERT").startswith("judge_offset 0 of p")
    judge.slip = 7
    with pytest.raises(Broken, match="judge_offset 0, with the sound 7 frames earlier 8"):
        offsets(bench, "EXPERT")
    judge.slip, judge.noise = None, 1.0
    with pytest.raises(Unavailable, match="none of 3 clips has a clear offset"):
        offsets(bench, "EXPERT")


def test_clearness_is_the_lead_over_the_second_best():
    curve = np.ones(31)
    curve[15], curve[16] = 11.0, 7.0
    assert clearness(curve, 0) == pytest.approx(0.4)
    assert clearness(-curve, 0) == pytest.approx(0.4), "distances as well"
    assert clearness(np.roll(curve, 6), 6) == 0.0, "it cannot be moved by ten frames in the range"
    assert clearness(np.zeros(31), 0) == 0.0


# -- machinery ---------------------------------------------------------------------------------------------------------


def test_a_fallback_runs_only_where_the_real_check_cannot(bench, capsys):
    def na(bench):
        raise Unavailable("no weights")

    def crash(bench):
        raise ZeroDivisionError("division by zero")

    real = [Check("a", "X", lambda bench: "fine"), Check("b", "X", na), Check("c", "X", crash)]
    fallbacks = [Check(name, "X", lambda bench: "random", True, fallback=True) for name in "abc"]
    found = [(o.check.title, o.check.fallback, o.status, o.detail) for o in run_checks(bench, [*real, *fallbacks])]
    assert found == [
        ("a", False, "ok", "fine"),
        ("b", False, "n/a", "no weights"),
        ("c", False, "FAILED", "ZeroDivisionError: division by zero"),
        ("b", True, "ok", "random"),
    ]
    (fallback,) = (o for o in run_checks(bench, [*real[1:2], *fallbacks[1:2]]) if o.check.fallback)
    assert fallback.line().split() == ["ok", "X", "b", "(machinery)", "random"]
    assert capsys.readouterr().out == "", "only the command prints"


def test_random_networks_tell_pictures_apart_and_are_the_same_every_time(bench):
    from talkingface.networks.syncnet_v2 import SyncNetV2

    first, second = random_weights(SyncNetV2()), random_weights(SyncNetV2())
    assert all((first[key] == second[key]).all() for key in first if key.endswith("weight"))
    values = bench.random("LPIPS").score(bench.sample(bench.pieces[0], bench.still(bench.pieces[0])))
    assert values["lpips_mouth"] > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=IPLAP"], "--model does not go with --self_test"),
        (["--evaluation.batches=3"], "unknown key 'evaluation.batches', did you mean 'batch'?"),
        (["--metrics=[FID]", "--metrics=[LSE]"], "--metrics is given twice"),
        (["--data_root=nowhere"], "no videos of data set 'folder' found"),
        (["--test_filelist={data}/lists/short.txt"], "needs two test clips with face and sound, here are 1; the first"),
    ],
)
def test_users_errors_are_one_line_and_exit_code_2(data, tmp_path, capsys, options, message):
    (data / "lists" / "short.txt").write_text("broken\np0/a\n")
    given = {option.partition("=")[0] for option in options}
    lists = [f"--{split}_filelist={data / 'lists' / f'{split}.txt'}" for split in ("train", "val", "test")]
    rest = [o for o in [*lists, f"--data_root={data / 'data'}"] if o.partition("=")[0] not in given]
    options = [option.format(data=data) for option in options]
    assert main(["evaluate", "--self_test", "--dataset=folder", f"--output={tmp_path}", *rest, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_judge_that_recalls_the_lips_says_the_same(bench):
    metric, clip = bench.random("LSE"), bench.pieces[0]
    sounds = [clip.audio(), clip.audio()[::-1].copy()]
    network = metric._network
    recalled = list(scores(bench, metric, clip, sounds))
    assert metric._network is network, "afterwards it looks again"
    plain = [score(metric, bench.sample(clip, audio=lambda sound=sound: sound)) for sound in sounds]
    assert recalled == plain
    assert recalled[0] != recalled[1]
