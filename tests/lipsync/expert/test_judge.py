"""A trained expert as judge: how it is found and loaded, what it says of moved sound, and when it is marked."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.sync_clips import faces_of, loudness, track_of
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import CheckpointError, DataError, Unavailable
from talkingface.evaluation.metric import MetricContext, make_metric
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.expert import judge as sync_judge
from talkingface.lipsync.expert.embedding import batch_statistics, embed_clip
from talkingface.lipsync.expert.inputs import CROP, MEL_CONFIG
from talkingface.lipsync.expert.judge import (
    Judge,
    _shapes,
    _width,
    find_judge,
    load_judge,
    loss_judge,
    trained_against,
    weights_hash,
)
from talkingface.lipsync.expert.scores import sweep_of
from talkingface.networks.sync_expert import SyncExpert
from talkingface.plugin.contract import Borrowed, Official
from talkingface.sound.mel import melspectrogram
from talkingface.weights.hashes import weights_hash as state_hash
from talkingface.weights.published import sha256_of
from talkingface.weights.runs import RunFolder

CARRIER = 0.4 * np.sin(2 * np.pi * 300 * np.arange(16000 * 4) / 16000)


def spoken(loud: np.ndarray) -> np.ndarray:
    """(n,) 16 kHz: a tone whose level in dB follows the loudness, from -40 dB."""
    samples = 640 * len(loud)
    level = np.interp(np.arange(samples) / 640 - 0.5, np.arange(len(loud)), loud)
    return (CARRIER[:samples] * 10 ** (2 * (level - 1))).astype(np.float32)


@pytest.fixture(scope="module")
def scene():
    """Loudness, frames (F, 128, 128, 3), landmarks and sound of one talking face of 70 frames."""
    loud = loudness(65, np.random.default_rng(5))
    frames = np.full((70, 128, 128, 3), 40, np.uint8)
    frames[:, 10:100, 10:100] = faces_of(loud, np.random.default_rng(1), 90)
    track = track_of(loud)
    track.points_px[:, 0], track.points_px[:, 1] = (10, 10), (100, 108)  # the corners of the box
    return loud, frames, track, spoken(loud)


def small_judge(seed: int = 0, size: tuple[int, int] = (24, 48)) -> Judge:
    torch.manual_seed(seed)
    network = SyncExpert(size, 0.0625)
    network(torch.randn(8, 1, 80, 16), torch.rand(8, 15, *size))
    network.eval().requires_grad_(False)
    crop = CROP.model_copy(update={"size": size[1], "margin": 0.0, "box": "frame"})
    return Judge(network, crop, "here", 0.9, weights_hash(network))


# -- loading -----------------------------------------------------------------------------------------------------------


def test_a_run_becomes_a_judge_with_its_accuracy_and_crop(sync_run):
    judge = load_judge(sync_run)
    records = [json.loads(line) for line in (sync_run / "log.jsonl").read_text().splitlines()]
    assert judge.accuracy == [r["val/accuracy"] for r in records if "val/accuracy" in r][-1] > 0.6
    assert judge.crop.size == 48 and judge.crop.box == "fixed"
    assert judge.run == str(sync_run) and len(judge.sha256) == 64
    assert not judge.network.training and not any(p.requires_grad for p in judge.network.parameters())
    assert load_judge(sync_run / "expert" / "last.pt").sha256 == judge.sha256


@pytest.mark.parametrize(
    ("value", "tail", "accuracy"),
    [
        ("0.75", "", 0.75),
        ("0.75", '{"val/accuracy": 0.', 0.75),
        ('"high"', "", None),
        ("NaN", "", None),
        ("7", "", None),
        ("null", "", None),
    ],
)
def test_the_accuracy_in_a_log_is_a_share_or_nothing_and_a_line_that_is_cut_does_no_harm(
    tmp_path, sync_run, value, tail, accuracy
):
    """A log ends in the middle of a line when the training was killed."""
    shutil.copytree(sync_run, tmp_path / "run")
    content = torch.load(sync_run / "expert" / "best.pt", weights_only=True)
    record = f'{{"stage": "expert", "step": {content["step"]}, "val/accuracy": {value}}}'
    (tmp_path / "run" / "log.jsonl").write_text(f'{{"val/accuracy"\n{record}\n{tail}')
    assert load_judge(tmp_path / "run" / "expert" / "best.pt").accuracy == accuracy


@pytest.mark.parametrize(("size", "side"), [((48, 96), 96), ((64, 128), 128), ((24, 48), 48)])
def test_the_form_of_a_published_file_is_seen_from_its_shapes(tmp_path, size, side):
    torch.manual_seed(0)
    network = SyncExpert(size, 0.25)
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "expert.pth")
    judge = load_judge(tmp_path / "expert.pth")
    assert judge.network.size == size and judge.crop.size == side and judge.accuracy is None
    assert judge.sha256 == weights_hash(network)
    # Published experts learnt from the boxes of S3FD as they are.
    assert (judge.crop.margin, judge.crop.box, judge.crop.rule) == (0.0, "frame", "mesh")


def test_what_holds_no_expert_is_refused_by_name(tmp_path, sync_run):
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: not a lip-sync expert of Wav2Lip's or HyperLips' kind"):
        load_judge(tmp_path / "other.pth")
    content = torch.load(sync_run / "expert" / "last.pt", weights_only=True)
    torch.save({**content, "model": "IPLAP", "networks": {"renderer": {}}}, tmp_path / "iplap.pt")
    with pytest.raises(CheckpointError, match=r"iplap\.pt: a checkpoint of IPLAP, which holds no lip-sync expert"):
        load_judge(tmp_path / "iplap.pt")
    with pytest.raises(CheckpointError, match="no such checkpoint file or run folder"):
        load_judge(tmp_path / "nothing")


def test_an_expert_inside_a_run_of_another_model_judges_too(tmp_path, sync_run):
    content = torch.load(sync_run / "expert" / "last.pt", weights_only=True)
    config = {"model": {"crop": {**content["config"]["model"]["crop"], "size": 64}}}
    networks = {**content["networks"], "generator": {}}
    torch.save({**content, "model": "Wav2Lip", "config": config, "networks": networks}, tmp_path / "generator.pt")
    judge = load_judge(tmp_path / "generator.pt")
    assert judge.sha256 == load_judge(sync_run).sha256
    assert judge.crop.size == 48  # the expert's, not that of the generated faces


def test_the_hash_is_of_the_weights_whatever_the_file_and_however_much_they_were_used():
    judge, other = small_judge(), small_judge(1)
    before = weights_hash(judge.network)
    with batch_statistics(judge.network):
        judge.network.embed_audio(torch.randn(4, 1, 80, 16))
    judge.network.face_encoder[0].conv_block[1].num_batches_tracked += 7
    assert weights_hash(judge.network) == before != weights_hash(other.network)
    judge.network.face_encoder[3].conv_block[1].running_mean[0] += 1e-3
    assert weights_hash(judge.network) != before


@pytest.mark.parametrize("size", [(24, 48), (64, 128)])
def test_the_width_of_an_expert_is_found_whatever_it_is(size):
    """Channels are rounded and never fewer than four, so they do not simply scale with the width."""
    for width in (*np.arange(1, 97, 8) / 96, 0.3, 0.0078125, 1.5):
        shapes = _shapes(size, float(width))
        found = _width(shapes, _shapes(size, 1.0))
        assert found is not None and _shapes(size, found) == shapes, width
    shapes["face_encoder.0.conv_block.0.weight"] = (7, 15, 7, 7)
    assert _width(shapes, _shapes(size, 1.0)) is None


def test_a_narrow_expert_comes_back_as_it_was(tmp_path):
    torch.manual_seed(0)
    network = SyncExpert((24, 48), 0.07)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "narrow.pth")
    assert load_judge(tmp_path / "narrow.pth").sha256 == weights_hash(network)


def test_an_expert_that_was_saved_along_without_training_is_refused(tmp_path, sync_run):
    content = torch.load(sync_run / "expert" / "last.pt", weights_only=True)
    torch.save({**content, "model": "Wav2Lip", "ready": ["generator"]}, tmp_path / "generator.pt")
    with pytest.raises(CheckpointError, match=r"generator\.pt: its lip-sync expert was never trained"):
        load_judge(tmp_path / "generator.pt")


# -- finding -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path, sync_run):
    """Copies of the run: `old` and `new` are finished, `open` is not; all of data set `drawn`."""
    for age, name in enumerate(("open", "new", "old")):
        shutil.copytree(sync_run, tmp_path / "SyncNet-drawn" / name)
        when = 1_700_000_000 - 1000 * age
        if name == "open":
            RunFolder(tmp_path / "SyncNet-drawn" / name).set_status("running")
        os.utime(tmp_path / "SyncNet-drawn" / name / "run.json", (when, when))
    return tmp_path


def test_auto_takes_the_latest_finished_run_on_the_data_set(runs):
    assert Path(find_judge("auto", runs, "drawn", runs, "cpu").run).name == "new"
    assert Path(find_judge("auto", runs, "", runs, "cpu").run).name == "new"  # plain folders: any data set


def test_auto_goes_by_what_a_run_trained_last_and_not_by_the_name_of_its_model(runs, sync_run):
    """`Wav2Lip` trained an expert and then a generator to please it; `Sharp` is an expert of another name."""
    content = torch.load(sync_run / "expert" / "last.pt", weights_only=True)
    for model, trained in (("Wav2Lip", ["generator"]), ("Sharp", ["sync_expert"])):
        folder = runs / f"{model}-drawn" / "first"
        (folder / "last").mkdir(parents=True)
        torch.save({**content, "model": model, "trained": trained}, folder / "last" / "last.pt")
        RunFolder(folder).set_status("finished")
    (runs / "Empty-drawn" / "first").mkdir(parents=True)
    RunFolder(runs / "Empty-drawn" / "first").set_status("finished")
    assert find_judge("auto", runs, "drawn", runs, "cpu").run == str(runs / "Sharp-drawn" / "first")
    (runs / "Sharp-drawn").rename(runs / "Sharp-well-drawn")
    assert Path(find_judge("auto", runs, "drawn", runs, "cpu").run).name == "new", "of another data set"


def test_without_a_run_the_models_own_expert_judges_else_a_message_says_what_to_do(runs):
    own = small_judge()
    assert find_judge("auto", runs, "other", runs, "cpu", lambda: own) is own
    with pytest.raises(Unavailable, match="train one with `python run_talkingface.py --model=SyncNet --dataset=other`"):
        find_judge("auto", runs, "other", runs, "cpu")
    with pytest.raises(Unavailable, match="switched off by evaluation.judge=none"):
        find_judge("none", runs, "drawn", runs, "cpu", lambda: own)
    assert loss_judge(Evaluated(own.network)).network is own.network
    assert loss_judge(Evaluated(SyncExpert((24, 48), 0.0625).eval())) is None, "nothing ever trained it"


def test_an_own_expert_that_cannot_hear_here_does_not_keep_another_from_judging(runs):
    def deaf():
        raise Unavailable("the expert hears with deepspeech_onnx, whose file is not there")

    path = runs / "SyncNet-drawn" / "old"
    assert find_judge(str(path), runs, "drawn", runs, "cpu", deaf).run.endswith("old")
    assert find_judge("auto", runs, "drawn", runs, "cpu", deaf).run
    with pytest.raises(Unavailable, match="deepspeech_onnx"):
        find_judge("auto", runs, "other", runs, "cpu", deaf)


def test_a_path_wins_and_is_also_looked_for_among_the_weights(runs, tmp_path):
    assert find_judge(str(runs / "SyncNet-drawn" / "old"), runs, "drawn", runs, "cpu").run.endswith("old")
    assert find_judge("SyncNet-drawn/old", runs, "drawn", runs, "cpu").run.endswith("old")


# -- judging -----------------------------------------------------------------------------------------------------------


def test_the_offset_moves_with_the_sound_and_positive_means_earlier_audio(scene):
    """An expert that is a plain loudness meter, so that the right answer is known."""
    loud, _, track, sound = scene
    columns = melspectrogram(sound, MEL_CONFIG).max(axis=0)
    halves = np.repeat((255 * loud).astype(np.uint8), 24 * 48 * 3).reshape(len(loud), 24, 48, 3)

    class Meter(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.cosine, self.bgr, self.hears = True, True, "mel"

        @staticmethod
        def on_circle(level, middle, spread):
            angle = (level - middle) / spread
            return torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)

        def embed_faces(self, faces):
            return self.on_circle(faces.mean((1, 2, 3)), loud.mean(), loud.std())

        def embed_audio(self, mel):
            return self.on_circle(mel.amax(2).mean((1, 2)), columns.mean(), columns.std())

    judge = Judge(Meter(), CROP, "meter", None, "")
    peaks = {}
    for shift in (0, -4, 6):
        heard = np.roll(loud, -shift)  # what frame t shows is heard `shift` frames earlier
        sweep = sweep_of(judge.embed(halves, track.valid, spoken(heard)), max_offset=8)
        assert sweep.prominence > 0.2 and len(sweep.curve) == 17
        peaks[shift] = sweep.peak
    # The loudness of a window with its 0.2 s of sound stands a little before that of its five pictures.
    assert peaks[0] in (-1, 0) and peaks[-4] == peaks[0] - 4 and peaks[6] == peaks[0] + 6


def test_faces_are_cut_where_the_landmarks_say(scene):
    _, frames, track, _ = scene
    halves = small_judge().lower_halves(frames, track)
    assert halves.shape == (70, 24, 48, 3)
    import cv2

    expected = cv2.resize(frames[7, 10:108, 10:100], (48, 48), interpolation=cv2.INTER_LINEAR)[24:]
    assert np.abs(halves[7].astype(int) - expected).max() <= 1
    assert small_judge().lower_halves(frames[:20], track).shape[0] == 20
    with pytest.raises(DataError, match="frames of 64x64, but landmarks of 128x128"):
        small_judge().lower_halves(frames[:, :64, :64], track)


def sample(scene, monkeypatch, audio=None) -> EvalSample:
    _, frames, track, sound = scene
    made = EvalSample(
        "c", "generated", Path("made.mp4"), Path("real.mp4"), audio=lambda: sound if audio is None else audio
    )
    made.reference_track = lambda: track
    monkeypatch.setattr(EvalSample, "generated_frames", lambda self, fps=None: iter(frames))
    return made


class Evaluated(nn.Module):
    """A model that was trained against an expert."""

    loss_experts = ("sync_expert",)

    def __init__(self, network):
        super().__init__()
        self.sync_expert = network
        self.config = type("Config", (), {"crop": CROP})()


def metric(judge="auto", model=None, saved="nowhere", dataset="drawn", **settings):
    context = MetricContext(str(saved), dataset, model)
    return make_metric("EXPERT", EvaluationConfig(judge=str(judge), **settings), "nowhere", "cpu", context)


def test_the_metric_scores_a_video_and_leaves_the_curve_for_the_report(scene, monkeypatch, sync_run):
    judge = metric(sync_run)
    judge.prepare()
    item = sample(scene, monkeypatch)
    values = judge.update(item)
    assert set(values) == set(judge.figures)
    assert len(item.curves["expert"]) == 31 and np.nanmax(item.curves["expert"]) <= 1
    assert values["expert_sync"] == pytest.approx(item.curves["expert"][15], abs=1e-6)
    assert values["expert_offset"] == np.nanargmax(item.curves["expert"]) - 15
    assert item.frames["expert_sync"] == 66
    definition = judge.definition()["expert"]["judge"]
    assert definition["run"] == str(sync_run) and definition["accuracy"] > 0.6 and len(definition["sha256"]) == 64
    assert definition["also_in_loss"] is False and judge.remarks() == []


def test_the_expert_judges_while_the_frames_arrive(scene, monkeypatch, sync_run):
    judge, item = metric(sync_run, batch=4), sample(scene, monkeypatch)
    judge.prepare()
    pulled, seen = [], []
    monkeypatch.setattr(item, "generated_frames", lambda: (pulled.append(1) or frame for frame in scene[1]))
    embed_faces = judge._judge.network.embed_faces
    monkeypatch.setattr(
        judge._judge.network, "embed_faces", lambda faces: seen.append(len(pulled)) or embed_faces(faces)
    )
    judge.update(item)
    assert seen == [8, 12, *range(16, 69, 4), 70]  # 66 windows, the first with the fifth frame


def test_windows_that_reach_beyond_the_last_frame_are_left_out():
    network, mel = small_judge().network, np.zeros((80, 200), np.float32)
    faces = np.random.default_rng(0).integers(0, 255, (9, 24, 48, 3)).astype(np.uint8)
    found = embed_clip(network, iter(faces), mel, np.array([0, 3, 4, 5, 8]), batch=2)
    assert found.starts.tolist() == [0, 3, 4] and len(found.mouths) == len(found.sounds) == 3
    np.testing.assert_allclose(found.mouths[1], embed_clip(network, faces[3:], mel, np.array([0])).mouths[0], atol=1e-6)
    nothing = embed_clip(network, faces[:4], mel, np.array([0]))
    assert len(nothing.starts) == len(nothing.mouths) == len(nothing.sounds) == 0


def test_scores_do_not_depend_on_the_batch(scene, monkeypatch, sync_run):
    scores = []
    for batch in (1, 64):
        judge = metric(sync_run, batch=batch)
        judge.prepare()
        scores.append(judge.update(sample(scene, monkeypatch)))
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_an_expert_that_was_the_loss_is_marked_by_its_weights_not_by_its_path(tmp_path, sync_run):
    """The evaluated model carries a copy of the run's weights, which were never named by their path."""
    copy = load_judge(sync_run).network
    judge = metric("auto", Evaluated(copy), sync_run.parent.parent)
    judge.prepare()
    assert judge.definition()["expert"]["judge"]["also_in_loss"] is True
    assert judge.remarks() == ["expert_* are judged by the expert that trained the model: no evidence"]
    other = metric("auto", Evaluated(small_judge().network), sync_run.parent.parent)
    other.prepare()
    assert other.definition()["expert"]["judge"]["also_in_loss"] is False and not other.remarks()


def test_where_only_the_models_own_expert_can_judge_it_is_marked(tmp_path):
    judge = metric("auto", Evaluated(small_judge(size=(48, 96)).network), tmp_path)
    judge.prepare()
    assert judge.definition()["expert"]["judge"]["run"] == "Evaluated.sync_expert"
    assert judge.remarks()
    assert loss_judge(nn.Linear(2, 2)) is None and loss_judge(None) is None


def test_an_expert_that_a_borrowed_network_learnt_to_please_is_marked(tmp_path):
    judge, model, file = small_judge(3), Evaluated(small_judge(4).network), tmp_path / "best.pt"
    model.borrows = {"generator": Borrowed("HyperLipsBase")}
    for key, found in (("generator_sync_expert", True), ("generator", False), ("other_sync_expert", False)):
        config = {"experts_weights": {key: state_hash(judge.network.state_dict())}}
        torch.save({"format": 1, "stage": "hr", "model": "HyperLipsHR", "config": config, "networks": {}}, file)
        assert trained_against(judge, model, file, tmp_path) is found
        assert not trained_against(small_judge(5), model, file, tmp_path)


def test_imported_weights_were_trained_against_the_published_expert(tmp_path, monkeypatch):
    """The model itself carries no expert; `judge` has the published one from its file or in an imported checkpoint."""
    published, entry = small_judge(3).network, Official("lipsync_expert.pth", "sync_expert")
    place = tmp_path / "Wav2Lip" / "lipsync_expert.pth"
    place.parent.mkdir()
    torch.save({"state_dict": published.state_dict()}, place)
    state = {"sync_expert": published.state_dict()}
    torch.save(
        {"format": 1, "stage": "imported", "model": "SyncNet", "config": {}, "networks": state}, tmp_path / "expert.pt"
    )
    torch.save(
        {"format": 1, "stage": "imported", "model": "Wav2Lip", "config": {}, "networks": {}}, tmp_path / "imported.pt"
    )
    torch.save(
        {"format": 1, "stage": "generator", "model": "Wav2Lip", "config": {}, "networks": {}}, tmp_path / "own.pt"
    )
    digest = sha256_of(place)
    monkeypatch.setattr(sync_judge, "is_published", lambda name, sha: (name, sha) == ("lipsync_expert", digest))
    model = Evaluated(SyncExpert((24, 48), 0.0625))
    model.official = (entry,)
    other = small_judge(4)
    for judge in (load_judge(place), load_judge(tmp_path / "expert.pt")):
        assert trained_against(judge, model, tmp_path / "imported.pt", tmp_path)
        assert not trained_against(judge, model, tmp_path / "own.pt", tmp_path)
        assert not trained_against(judge, model, None, tmp_path)
    assert not trained_against(other, model, tmp_path / "imported.pt", tmp_path)
    context = MetricContext("nowhere", "drawn", model, tmp_path / "imported.pt")
    expert = make_metric("EXPERT", EvaluationConfig(judge=str(place)), tmp_path, "cpu", context)
    expert.prepare()
    assert expert.definition()["expert"]["judge"]["also_in_loss"] is True and expert.remarks()


def test_an_expert_that_judges_badly_is_marked(tmp_path, sync_run):
    shutil.copytree(sync_run, tmp_path / "poor")
    log = tmp_path / "poor" / "log.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(r | {"val/accuracy": 0.52} if "val/loss" in r else r) + "\n" for r in records))
    judge = metric(tmp_path / "poor")
    judge.prepare()
    assert judge.remarks() == ["expert_* come from an expert that is right in 52% of held-out cases: no evidence"]


def test_without_a_judge_the_metric_says_how_to_get_one(tmp_path):
    with pytest.raises(Unavailable, match="--model=SyncNet --dataset=drawn"):
        metric("auto", None, tmp_path).prepare()
    with pytest.raises(Unavailable, match="no such checkpoint"):
        metric(tmp_path / "gone").prepare()


def test_a_video_that_is_too_short_is_an_error_with_the_reason(scene, monkeypatch, sync_run):
    loud, frames, track, sound = scene
    judge = metric(sync_run)
    judge.prepare()
    with pytest.raises(DataError, match="7 windows with a face and sound, the expert needs 10"):
        judge.score(sample((loud, frames[:11], track, sound), monkeypatch))
    with pytest.raises(DataError, match="no 5 consecutive frames with a face and sound"):
        judge.score(sample((loud, frames[:4], track, sound), monkeypatch))
    with pytest.raises(DataError, match="s of sound are too short"):
        judge.score(sample(scene, monkeypatch, sound[:100]))
