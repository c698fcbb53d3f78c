"""Filter `sync`: offsets are measured, mended and judged; the sound that comes out is right, sample by sample."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.clips import write_clip
from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import FiltersConfig, PreprocessConfig
from talkingface.errors import ConfigError, DataError
from talkingface.faces.track import LandmarkTrack
from talkingface.media import write_wav
from talkingface.preprocess import step as preprocess_steps
from talkingface.preprocess.filters import experts as preprocess_experts
from talkingface.preprocess.filters.experts import ExpertSearch, at_rate, find_expert, shift_table
from talkingface.preprocess.filters.offsets import measure_offset
from talkingface.preprocess.filters.sync_plot import KINDS, measured_clips
from talkingface.preprocess.plan import plan_steps
from talkingface.preprocess.prepare import Preprocessor
from talkingface.preprocess.step import Rejected
from talkingface.sound.shift import move_sound

ARTEFACTS = ("audio", "mel")
COUNT, FRAME = 80, 640
CORNERS = np.resize(np.array([[30, 20], [90, 20], [30, 100], [90, 100]], np.float32), (478, 2))
LOUD = np.random.default_rng(3).uniform(0, 1, COUNT)
"""How far the mouth is open, and how loud the sound is, in every frame."""


class OneFace:
    """Stands for a landmark detector."""

    name, version, layout = "one", "1", "mediapipe478"

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        return [CORNERS]


class LoudnessExpert:
    """Compares the height of the dark mouth with the loudness of the sound: true correlation, no network."""

    name, sha256, unit = "loudness", "0" * 64, "likeness"

    def rate(self, fps: float) -> float:
        return fps

    def table(self, frames, track, audio, fps, reach):
        mouths = np.array([float((frame[70:100, 40:80] < 70).mean()) for frame in frames])
        sounds = np.abs(audio[: COUNT * FRAME]).reshape(COUNT, -1).mean(axis=1)
        mouths, sounds = ((v - v.mean()) / v.std() for v in (mouths, sounds))
        mouths[~track.valid] = np.nan
        return shift_table(mouths[:, None], sounds[:, None], reach, lambda m, s: -np.abs(m - s)[:, 0])


def talking_frames() -> list[np.ndarray]:
    frames = []
    for loud in LOUD:
        frame = np.full((120, 120, 3), 60, np.uint8)
        frame[20:100, 30:90] = 200
        frame[70 : 70 + round(30 * loud), 40:80] = 20
        frames.append(frame)
    return frames


def speech() -> np.ndarray:
    noise = np.random.default_rng(4).uniform(-0.9, 0.9, COUNT * FRAME)
    return noise * np.repeat(LOUD, FRAME)


def delayed(sound: np.ndarray, by: int) -> np.ndarray:
    """The sound `by` frames later (earlier when negative), other noise where nothing is known."""
    other = 0.05 * np.random.default_rng(5).uniform(-1, 1, abs(by) * FRAME)
    if by >= 0:
        return np.concatenate([other, sound[: len(sound) - by * FRAME]])
    return np.concatenate([sound[-by * FRAME :], other])


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, ClipItem]:
    """Clips whose sound lies beside them, late or early by so many frames."""
    root = tmp_path_factory.mktemp("sync")
    video, sound = write_clip(root / "talk.mp4", talking_frames(), None), speech()
    half = COUNT // 2 * FRAME
    sounds = {str(by): delayed(sound, by) for by in (0, 3, -4, 12)}
    sounds["drift"] = np.concatenate([delayed(sound, 1)[:half], delayed(sound, 5)[half:]])
    sounds["other"] = np.random.default_rng(6).uniform(-0.9, 0.9, len(sound)) * np.repeat(LOUD[::-1] ** 2, FRAME)
    for name, some in sounds.items():
        write_wav(root / f"{name}.wav", some)
    return {name: ClipItem(name, video, "s", root / f"{name}.wav") for name in sounds}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """Detector and expert of these tests."""
    monkeypatch.setattr(preprocess_steps, "_RESOURCES", {})
    monkeypatch.setattr("talkingface.preprocess.steps.make_provider", lambda *_: OneFace())
    monkeypatch.setattr(preprocess_experts, "find_expert", lambda *_: LoudnessExpert())


def run(items, root, **sync):
    filters = FiltersConfig(sync={"expert": "auto", **sync})
    settings = PreprocessConfig(workers=0, filters=filters)
    return Preprocessor(plan_steps(ARTEFACTS, {}, settings), settings, root, progress=False).run(items)


def pcm(root: Path, name: str, key: str = "audio") -> np.ndarray:
    return np.rint(ClipFolder(root / name).audio(key) * 32768).astype(int)


def test_constant_offset_is_measured_and_mended_exactly(clips, tmp_path):
    report = run([clips["0"], clips["3"], clips["-4"]], tmp_path)
    assert report.ok_ids == ["0", "3", "-4"]
    true = pcm(tmp_path, "0")
    np.testing.assert_array_equal(true, pcm(tmp_path, "0", "audio@raw"), "in step, nothing is touched")
    np.testing.assert_allclose(true, speech() * 32767, atol=2)
    # Late sound: the best match lies later, which is a negative offset.
    for name, offset, inside in (("3", -3, slice(0, -3 * FRAME)), ("-4", 4, slice(4 * FRAME, None))):
        clip, mended = ClipFolder(tmp_path / name), pcm(tmp_path, name)
        facts = clip.facts("sync")
        assert (facts["offset"], facts["halves"], facts["unit"]) == (offset, [offset, offset], "likeness")
        assert clip.facts("audio") == {"moved_frames": offset} and facts["expert"] == "loudness"
        np.testing.assert_array_equal(mended[inside], true[inside])
        assert len(mended) == len(true) and not np.delete(mended, np.arange(len(true))[inside]).any()
        assert (pcm(tmp_path, name, "audio@raw") != mended).any(), "the sound as it came is kept"
    columns = slice(8 * 4, -8 * 4)
    np.testing.assert_array_equal(
        ClipFolder(tmp_path / "3").mel()[:, columns], ClipFolder(tmp_path / "0").mel()[:, columns]
    )


def test_without_repair_only_clips_in_step_are_kept(clips, tmp_path):
    report = run([clips["0"], clips["3"]], tmp_path, repair=False)
    assert report.ok_ids == ["0"]
    assert report.rejected == {"3": "sync offset -3 frames, and filters.sync.repair is off"}
    outcome = report.outcomes["3"]
    assert (outcome.by, outcome.measured, outcome.limit) == ("sync", -3, 0)


def test_large_wandering_and_unsure_offsets_are_rejected(clips, tmp_path):
    report = run([clips["12"], clips["drift"], clips["0"]], tmp_path)
    assert report.ok_ids == ["0"] and report.rejected_by == {"sync": 2}
    assert report.rejected["12"] == "sync offset -12 frames, over filters.sync.max_offset 10"
    assert report.rejected["drift"] == "sync offset is not constant: -1 frames, later -5"
    report = run([clips["other"], clips["0"]], tmp_path, min_confidence=0.8)
    assert report.ok_ids == ["0"] and report.outcomes["other"].measured < 0.6
    assert report.rejected["other"].startswith("sync confidence 0.")
    assert report.rejected["other"].endswith("(likeness), under filters.sync.min_confidence 0.8")


def test_changed_limits_judge_anew_without_the_expert(clips, tmp_path, monkeypatch):
    items = [clips["0"], clips["3"], clips["12"]]
    assert run(items, tmp_path, repair=False).ok_ids == ["0"]
    monkeypatch.setattr(preprocess_steps, "_RESOURCES", {})
    monkeypatch.setattr(preprocess_experts, "find_expert", lambda *_: pytest.fail("asked for the expert again"))
    assert run(items, tmp_path).ok_ids == ["0", "3"]
    assert run(items, tmp_path, max_offset=15).ok_ids == ["0", "3", "12"]
    mended = pcm(tmp_path, "12")
    assert run(items, tmp_path, max_offset=2).ok_ids == ["0"]
    assert not run(items, tmp_path, min_confidence=99).ok_ids
    report = run(items, tmp_path, max_offset=15)
    assert report.ok_ids == ["0", "3", "12"] and not report.made
    np.testing.assert_array_equal(pcm(tmp_path, "12"), mended)


def test_switching_the_filter_off_brings_the_sound_back_as_it_came(clips, tmp_path):
    items = [clips["3"]]
    run(items, tmp_path / "plain", expert="none")
    run(items, tmp_path / "mended")
    assert (pcm(tmp_path / "plain", "3") != pcm(tmp_path / "mended", "3")).any()
    report = run(items, tmp_path / "mended", expert="none")
    assert report.outcomes["3"].made == ARTEFACTS
    np.testing.assert_array_equal(pcm(tmp_path / "plain", "3"), pcm(tmp_path / "mended", "3"))
    np.testing.assert_array_equal(ClipFolder(tmp_path / "plain/3").mel(), ClipFolder(tmp_path / "mended/3").mel())


def test_histogram_and_summary_say_what_was_found(clips, tmp_path, caplog):
    import cv2

    caplog.set_level(logging.INFO, "talkingface")
    run(list(clips.values()), tmp_path, min_confidence=0.8)
    assert "sync of 6 clips by loudness: 1 in step, 2 moved into step, 3 rejected" in caplog.text
    shown = cv2.cvtColor(cv2.imread(str(tmp_path / "sync_histogram.png")), cv2.COLOR_BGR2RGB)
    for name, share in (("in step", 1), ("moved into step", 2), ("rejected", 3)):
        colour = np.array([int(KINDS[name][k : k + 2], 16) for k in (1, 3, 5)])
        assert (np.abs(shown.astype(int) - colour).max(axis=2) < 8).sum() > 100 * share, name


def test_clip_rejected_by_another_filter_is_not_in_the_histogram(clips, tmp_path):
    outcomes = run([clips["0"], clips["3"]], tmp_path).outcomes
    outcomes["3"] = replace(outcomes["3"], status="rejected", by="blur")
    for name in outcomes:
        shutil.rmtree(tmp_path / name)  # outcomes know what was measured, nothing is read again
    assert [kind for kind, _ in measured_clips(outcomes.values())["loudness"]] == ["in step"]


def test_offset_has_the_sign_of_the_published_score():
    from talkingface.evaluation.metrics.lse import score_embeddings

    rng = np.random.default_rng(0)
    sounds = rng.normal(size=(60, 16))
    for late in (-6, 0, 5):
        mouths = np.roll(sounds, -late, axis=0) + 0.1 * rng.normal(size=sounds.shape)
        table = shift_table(mouths, sounds, 15, lambda m, s: -np.linalg.norm(m - s + 1e-6, axis=1))
        score, facts = score_embeddings(mouths, sounds, padding="valid"), measure_offset(table)
        assert facts["offset"] == score.offset == -late and facts["halves"] == [-late, -late]
        assert facts["confidence"] == pytest.approx(score.confidence, abs=1e-4)
        np.testing.assert_allclose(-np.nanmean(table, axis=0)[::-1], score.mean_distance)


def test_offset_that_few_mouths_can_have_does_not_win():
    table = np.zeros((20, 31))
    position = np.arange(20)[:, None] - np.arange(-15, 16)[None]
    table[(position < 0) | (position >= 20)] = np.nan
    table[17:, 15 + 14] = 9.0  # of the few mouths that have a sound 14 frames earlier, three agree by chance
    table[:, 15 + 2] += 1.0
    assert measure_offset(table)["offset"] == 2


def test_half_that_says_nothing_is_no_witness(clips):
    rng = np.random.default_rng(1)
    sounds = rng.normal(size=(60, 16))
    mouths = np.roll(sounds, 2, axis=0)
    mouths[:30] = rng.normal(size=(30, 16))
    facts = measure_offset(shift_table(mouths, sounds, 15, lambda m, s: (m * s).sum(axis=1)))
    assert facts["offset"] == 2 and facts["halves"] == [None, 2]
    settings = PreprocessConfig(filters=FiltersConfig(sync={"expert": "auto"}))
    step = plan_steps((), {}, settings)[-1]
    verdict = step.judge({**facts, "unit": "cosine"})
    assert str(verdict) == "sync offset +2 frames, but too short or too silent to see that it is constant"
    assert step.judge({**facts, "offset": 0, "halves": [None, 0], "unit": "cosine"}) is None
    with pytest.raises(Rejected, match="only 9 windows with a face and sound"):
        measure_offset(shift_table(mouths[:9], sounds[:9], 15, lambda m, s: (m * s).sum(axis=1)))


def sync_step(**sync):
    return plan_steps((), {}, PreprocessConfig(filters=FiltersConfig(sync={"expert": "auto", **sync})))[-1]


def test_halves_must_agree_with_each_other_too():
    facts = {"offset": 0, "confidence": 1.0, "unit": "LSE-C", "halves": [-1, 1]}
    assert str(sync_step().judge(facts)) == "sync offset is not constant: -1 frames, later +1"
    assert sync_step().judge({**facts, "halves": [0, 1]}) is None


def test_limit_for_another_unit_is_refused_before_any_work(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(LoudnessExpert, "unit", "prominence")
    monkeypatch.setattr(LoudnessExpert, "table", lambda *_: pytest.fail("a clip was measured"))
    text = r"min_confidence 2 is beyond what prominence can be, 1 at most .* it is a limit for LSE-C"
    with pytest.raises(DataError, match=text):
        run([clips["0"]], tmp_path, min_confidence=2.0)
    facts = {"offset": 0, "confidence": 0.6, "unit": "prominence", "halves": [0, 0]}
    with pytest.raises(ConfigError, match=text):  # also where clips were measured before
        sync_step(min_confidence=2.0).judge(facts)
    assert sync_step(min_confidence=0.5).judge(facts) is None
    assert sync_step(min_confidence=2.0).judge({**facts, "unit": "LSE-C", "confidence": 3.0}) is None


def test_move_sound_undoes_an_offset_at_any_frame_rate():
    sound = np.arange(1.0, 1601)
    np.testing.assert_array_equal(move_sound(sound, 1, 50.0), np.concatenate([np.zeros(320), sound[:1280]]))
    np.testing.assert_array_equal(move_sound(sound, -2, 50.0), np.concatenate([sound[640:], np.zeros(640)]))
    assert not move_sound(sound, 99, 25.0).any() and len(move_sound(sound, -99, 25.0)) == 1600


def test_public_network_scores_the_crops_around_the_landmarks_as_lse_does(clips):
    import cv2
    import torch

    from talkingface.evaluation.metrics.lse import score_embeddings
    from talkingface.lipsync.public.windows import embed
    from talkingface.networks.syncnet_v2 import SyncNetV2
    from talkingface.sound.mfcc import pcm16

    torch.manual_seed(0)
    network = SyncNetV2().eval().fold()
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (120, 120, 3), dtype=np.uint8) for _ in range(26)]
    seen = np.arange(26) != 12
    points = np.where(seen[:, None, None], CORNERS, np.nan).astype(np.float32)
    sound = speech()[: 26 * FRAME].astype(np.float32)
    expert = preprocess_experts.PublicSyncNet(network, "syncnet_v2.model", "", "cpu")
    whole = LandmarkTrack(np.repeat(CORNERS[None], 26, axis=0), seen | True, seen | True, (120, 120))
    table = expert.table(frames, whole, sound, 25.0, 15)
    # Half the height is 40: 56 to the left of the middle, 40 above it, 112 wide; 110 beyond the edges.
    crops = []
    for frame in frames:
        crop = np.full((112, 112, 3), 110, np.uint8)
        crop[:100, :] = frame[20:120, 4:116]
        crops.append(cv2.resize(crop, (224, 224)))
    score = score_embeddings(*embed(network, crops, pcm16(sound)), padding="valid")
    np.testing.assert_allclose(-np.nanmean(table, axis=0)[::-1], score.mean_distance, atol=1e-4)
    hidden = expert.table(frames, LandmarkTrack(points, seen, seen, (120, 120)), sound, 25.0, 15)
    assert np.isnan(hidden[8:13]).all() and np.isfinite(hidden[[7, 13], 15]).all()
    assert np.isnan(expert.table(frames[:5], whole.slice(0, 5), sound, 25.0, 15)).all(), "too short to compare"


def test_frames_are_picked_by_time_for_an_expert_of_another_rate():
    assert at_rate(4, 25.0, 25.0).tolist() == [0, 1, 2, 3]
    assert at_rate(8, 50.0, 25.0).tolist() == [1, 3, 5, 7]
    assert at_rate(3, 12.5, 25.0).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.fixture
def small_expert(tmp_path) -> Path:
    """A published file of a small expert with random weights."""
    import torch

    from talkingface.networks.sync_expert import SyncExpert

    torch.manual_seed(1)
    path = tmp_path / "weights" / "small.pth"
    path.parent.mkdir()
    torch.save({"state_dict": SyncExpert((24, 48), 0.1).state_dict()}, path)
    return path


def test_trained_expert_measures_what_its_sweep_reports(small_expert, clips):
    from talkingface.lipsync.expert.judge import load_judge
    from talkingface.lipsync.expert.scores import sweep_of

    seen = np.arange(40) != 20
    frames, sound = talking_frames()[:40], speech()[: 40 * FRAME].astype(np.float32)
    track = LandmarkTrack(np.repeat(CORNERS[None], 40, axis=0), seen, seen, (120, 120))
    expert = find_expert("small.pth", ExpertSearch(weights_dir=str(small_expert.parent)))
    assert expert.unit == "prominence" and expert.name == str(small_expert) and len(expert.sha256) == 64
    table = expert.table(frames, track, sound, 25.0, 15)
    judge = load_judge(small_expert)
    sweep = sweep_of(judge.embed(judge.lower_halves(frames, track), seen, sound))
    np.testing.assert_allclose(np.nanmean(table, axis=0), sweep.curve, atol=1e-5)
    assert np.isnan(table[16:21]).all() and np.isfinite(table[[15, 21], 15]).all()
    nobody = LandmarkTrack(track.points_px, ~seen, ~seen, (120, 120))
    assert np.isnan(expert.table(frames, nobody, sound, 25.0, 15)).all()


def test_auto_takes_the_public_network_then_the_latest_run_on_the_data_set(small_expert, tmp_path, monkeypatch):
    import json

    import torch

    content = {
        "networks": {"sync_expert": torch.load(small_expert, weights_only=True)["state_dict"]},
        "model": "SyncNet",
        "trained": ["sync_expert"],
    }
    for run, status in (("SyncNet-mine/a", "finished"), ("SyncNet-mine/b", "running"), ("SyncNet-other/c", "finished")):
        (tmp_path / "saved" / run / "expert").mkdir(parents=True)
        torch.save(content, tmp_path / "saved" / run / "expert" / "best.pt")
        (tmp_path / "saved" / run / "run.json").write_text(json.dumps({"status": status}))
    search = ExpertSearch(str(tmp_path / "weights"), str(tmp_path / "saved"), "mine")
    assert find_expert("auto", search).name == str(tmp_path / "saved/SyncNet-mine/a")
    public = tmp_path / "weights/LSE/syncnet_v2.model"
    public.parent.mkdir()
    torch.save({"netcnnlip.0.weight": torch.zeros(1)}, public)
    monkeypatch.setattr(preprocess_experts.PublicSyncNet, "load", lambda path, device: ("public", path))
    assert find_expert("auto", search) == find_expert(str(public), search) == ("public", public)


def test_missing_expert_ends_the_run_with_one_line(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess_experts, "find_expert", find_expert)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"neither checkpoints.*syncnet_v2\.model nor a finished run .* in saved;"):
        run([clips["0"]], tmp_path)
    with pytest.raises(DataError, match=r"typo\.pt: no such checkpoint"):
        run([clips["0"]], tmp_path, expert="typo.pt")
