"""The expert of DINet and LawDNet as judge of videos, and what `check-expert` says of one."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from helpers.dubbing_clips import make_clip
from helpers.toy_tracks import face, track
from talkingface.cli.commands import main
from talkingface.config.layers import to_plain
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import CheckpointError, DataError, Unavailable
from talkingface.evaluation.metric import MetricContext, make_metric
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.dubbing.check import check_expert
from talkingface.lipsync.dubbing.expert import how_to_train, learnt_otherwise
from talkingface.lipsync.dubbing.judge import MouthJudge, load_any_judge, own_judge
from talkingface.lipsync.expert.judge import find_judge, latest_expert_run, load_judge, trained_against
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.plugin.trained import read_trained
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent
from talkingface.weights.runs import RunFolder

FRAMES = 30


def configured(name="SyncNetDINet", **overrides):
    return load_config(name, "folder", (), {"profile": "tiny", **overrides}).config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of SyncNetDINet whose expert has seen something."""
    folder = tmp_path_factory.mktemp("saved") / "SyncNetDINet-drawn" / "run"
    config = configured()
    torch.manual_seed(0)
    network = get_spec("SyncNetDINet").model(config.model).sync_expert
    network(torch.rand(8, 15, 32, 32), torch.randn(8, 29, 9))
    content = CheckpointContent(
        model="SyncNetDINet", config=to_plain(config), networks={"sync_expert": network.state_dict()}, stage="expert"
    )
    checkpoint.save(folder / "expert" / "best.pt", replace(content, trained=["sync_expert"], ready=["sync_expert"]))
    RunFolder(folder).set_status("finished")
    return folder


@pytest.fixture
def sample(monkeypatch):
    """A video of a face whose mouth opens and shuts, and noise."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (FRAMES, 120, 100, 3)).astype(np.uint8)
    sound = rng.normal(0, 0.1, FRAMES * 640).astype(np.float32)
    made = EvalSample("c", "generated", "made.mp4", "real.mp4", audio=lambda: sound)
    made.reference_track = lambda: track([face(opening=k % 7) for k in range(FRAMES)])
    monkeypatch.setattr(EvalSample, "generated_frames", lambda self, fps=None: iter(frames))
    return made


def metric(judge, model=None, saved="nowhere"):
    return make_metric(
        "EXPERT", EvaluationConfig(judge=str(judge)), "nowhere", "cpu", MetricContext(saved, "drawn", model)
    )


def test_a_run_judges_videos_by_its_own_scores(run, sample):
    judge = metric(run)
    values = judge.update(sample)
    assert 0 <= values["expert_sync"] <= 1 and sample.frames["expert_sync"] == FRAMES - 2 - 6
    told = judge.definition()["expert"]["judge"]
    assert told["crop"] == "aligned@40-upright-1.05-1" and told["hears"] == "logmel" and not told["also_in_loss"]
    # By hand: mouths of the crop, the rows around them, and what the network says of these pairs.
    expert = load_any_judge(run)
    assert isinstance(expert, MouthJudge) and not expert.network.training
    mouths = np.stack(list(expert.cut(sample.generated_frames(), sample.real_track())))
    clip = expert.embed(mouths, np.ones(FRAMES, bool), sample.driving_audio())
    assert mouths.shape == (FRAMES, 32, 32, 3) and clip.starts.tolist() == list(range(2, 24))
    assert values["expert_sync"] == pytest.approx(np.diagonal(clip.scores).mean(), abs=1e-6)
    window = torch.from_numpy(mouths[4:9]).movedim(-1, 1).flatten(0, 1)[None].float() / 255
    assert torch.allclose(expert.network.embed_faces(window)[0], torch.from_numpy(clip.mouths[2]), atol=1e-5)


def test_what_cannot_be_judged_says_why(run, sample):
    expert = load_any_judge(run)
    nobody = sample.real_track()
    nobody.valid[:] = False
    with pytest.raises(DataError, match="no frame has a face"):
        list(expert.cut(sample.generated_frames(), nobody))
    with pytest.raises(DataError, match="30 frames per second, where this expert knows 25"):
        expert.embed([], np.ones(9, bool), np.zeros(9 * 640), 30.0)
    with pytest.raises(CheckpointError, match="a lip-sync expert of DINet's kind, which does not serve here"):
        load_judge(run)  # filters and SyncNet's own evaluation want cosines


def test_published_entries_are_known_by_their_form_and_want_their_front_end(tmp_path):
    network = MouthSyncExpert(1 / 16)
    torch.save({"state_dict": {"net": network.state_dict()}}, tmp_path / "syncnet_256mouth.pth")
    with pytest.raises(Unavailable, match=r"hears with deepspeech_onnx, whose file .* is not there"):
        load_any_judge(tmp_path / "syncnet_256mouth.pth", tmp_path)
    file = tmp_path / "DeepSpeech" / "output_graph.onnx"
    file.parent.mkdir()
    file.write_bytes(b"")
    judge = load_any_judge(tmp_path / "syncnet_256mouth.pth", tmp_path)
    assert judge.crop.mouth == 256 and judge.crop.kind == "upright" and judge.accuracy is None


def test_auto_takes_such_a_run_where_no_other_expert_is(run, sync_run, tmp_path):
    saved = tmp_path / "saved"
    shutil.copytree(run.parent.parent, saved)

    def load(path):
        return load_any_judge(path, tmp_path)

    assert latest_expert_run(saved, "drawn") is None
    assert find_judge("auto", saved, "drawn", tmp_path, "cpu", load=load).run.endswith("SyncNetDINet-drawn/run")
    with pytest.raises(Unavailable):  # whoever can use cosines alone
        find_judge("auto", saved, "drawn", tmp_path, "cpu")
    shutil.copytree(sync_run, saved / "SyncNet-drawn" / "old")
    os.utime(saved / "SyncNet-drawn" / "old" / "run.json", (1, 1))
    assert find_judge("auto", saved, "drawn", tmp_path, "cpu", load=load).run.endswith("SyncNet-drawn/old")


def test_an_expert_that_was_the_loss_is_marked(run, sample, tmp_path):
    model = get_spec("DINet").model(configured("DINet").model)
    model.load_expert("sync_expert", run)
    model.eval()
    lent = metric("auto", model, str(run.parent.parent))
    lent.prepare()
    assert lent.definition()["expert"]["judge"]["also_in_loss"] is True and "no evidence" in lent.remarks()[0]
    own = metric("auto", model, str(tmp_path))
    assert own.update(sample)["expert_sync"] == pytest.approx(lent.update(sample)["expert_sync"], abs=1e-6)
    assert own.definition()["expert"]["judge"]["run"] == "DINet.sync_expert" and own.remarks()
    other = get_spec("DINet").model(configured("DINet").model)
    assert not trained_against(load_any_judge(run), other, None, tmp_path)
    assert own_judge(None) is None


@pytest.mark.parametrize("norm", ["none", "group"])
def test_an_expert_without_averages_judges_where_the_checkpoint_calls_it_ready(norm, tmp_path):
    config = configured("DINet", **{"model.expert.norm": norm})
    state = {each: getattr(get_spec("DINet").model(config.model), each).state_dict() for each in ("sync_expert",)}
    for name, ready in (("taught", ["sync_expert"]), ("fresh", [])):
        checkpoint.save(tmp_path / f"{name}.pt", CheckpointContent("DINet", to_plain(config), state, "clip", [], ready))
        judge = metric("auto", read_trained("DINet", tmp_path / f"{name}.pt").model, tmp_path)
        if ready:
            judge.prepare()
            assert judge.definition()["expert"]["judge"]["run"] == "DINet.sync_expert"
            continue
        with pytest.raises(Unavailable, match="no trained lip-sync expert"):
            judge.prepare()


# -- check-expert ------------------------------------------------------------------------------------------------------


class Knows(torch.nn.Module):
    """An expert whose scores are right."""

    cosine, bgr, hears = False, False, "rows"

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def embed_faces(self, mouths):
        return mouths.mean((2, 3))[:, ::3]

    def embed_audio(self, rows):
        return (rows[:, 0, 2:7] + 1) / 2

    def scores(self, mouths, sounds):
        return 1 - (mouths[:, None] - sounds[None]).abs().mean(-1)


@pytest.fixture
def clips(tmp_path):
    config, rng = configured().model, np.random.default_rng(0)
    return [make_clip(tmp_path, f"s/{n}", 40, config=config, signal=rng.uniform(size=40)) for n in range(2)]


def test_an_expert_passes_by_what_it_tells_apart_on_held_out_clips(run, clips, monkeypatch):
    config = configured().model
    assert config.expert.least is not None
    poor = check_expert(run, {"val": clips, "test": []}, config)
    assert list(poor.standings) == ["val"] and not poor.passed and "too little" in poor.table()
    monkeypatch.setattr("talkingface.lipsync.dubbing.judge._shaped_like", lambda state, path: Knows())
    monkeypatch.setattr(checkpoint, "load_state", lambda *_: None)
    good = check_expert(run, {"val": clips, "unseen": clips[:1]}, config)
    assert good.passed and good.standings["val"].figures["two_alternative"] > 0.95
    line = next(line for line in good.table().splitlines() if line.startswith("unseen"))
    assert line.split()[1] == "1" and line.split()[6] == "+0" and "good enough" in good.table()


@pytest.mark.parametrize(("name", "crop"), [("DINet", "kind=upright"), ("LawDNet", "kind=frontal")])
def test_the_command_for_another_expert_trains_one_that_is_not_refused(name, crop):
    config = load_config(name, "folder", (), {}).config.model
    command = how_to_train(config)
    options = dict(word[2:].split("=", 1) for word in command.replace("`", " ").split() if word.startswith("--model."))
    assert f"--model.crop.{crop} " in command
    trained = load_config("SyncNetDINet", "folder", (), {k: yaml.safe_load(v) for k, v in options.items()}).config.model
    assert learnt_otherwise(to_plain(trained), config) is None


def test_what_is_no_such_expert_or_learnt_otherwise_is_refused(run, sync_run, clips):
    with pytest.raises(CheckpointError, match="an expert of SyncNet's kind, not of DINet's"):
        check_expert(sync_run, {"val": clips}, configured().model)
    with pytest.raises(CheckpointError, match="learnt on crops with kind upright, the model's have kind frontal"):
        check_expert(run, {"val": clips}, configured("LawDNet").model)
    with pytest.raises(DataError, match="no clip to measure the expert on"):
        check_expert(run, {"val": []}, configured().model)


def test_the_command_prints_a_table_and_tells_by_its_exit_code(run, clips, tmp_path, capsys):
    (tmp_path / "val.txt").write_text("s/0\ns/1\n")
    data = ["--dataset=folder", "--profile=tiny", f"--preprocessed_root={tmp_path}", "--device=cpu"]
    data += [f"--{split}_filelist={tmp_path / 'val.txt'}" for split in ("train", "val", "test")]
    assert main(["check-expert", str(run), *data]) == 1
    assert "two-alternative accuracy 0." in capsys.readouterr().out
    assert main(["check-expert", str(run), *data, "--model=DINet", "--model.expert.least=0.01"]) == 0
    assert main(["check-expert", *data]) == 2 and "needs the expert" in capsys.readouterr().err
    assert main(["check-expert", str(run), *data, "--model=Wav2Lip"]) == 2
    assert "has no expert of DINet's kind" in capsys.readouterr().err
