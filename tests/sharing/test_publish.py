"""`publish`: a folder that somebody else can use, and that says nothing of the machine it comes from."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from helpers.checkpoints import random_checkpoint
from helpers.local_hub import LocalHub
from helpers.results import make_result
from talkingface.cli.commands import main
from talkingface.evaluation.report.write import write_report
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.pipeline import Pipeline
from talkingface.plugin.configuration import load_config
from talkingface.plugin.trained import read_trained
from talkingface.sharing.privacy import shared_report, shared_settings, without_places
from talkingface.weights import checkpoint

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("safetensors")

LICENCES = ["--licence=cc-by-4.0", "--data_licence=clips of actors, with their consent"]


@pytest.fixture
def run(tmp_path, toys):
    """A run of the toy that was evaluated, in a folder whose name is nobody's business."""
    folder = tmp_path / "home" / "ada"
    random_checkpoint("ToyGAN", folder, data_root=str(folder / "films"), saved_dir=str(folder))
    result = make_result({"generated": {"ssim": {"a": 0.5, "b": 0.75}}, "real": {"ssim": {"a": 1.0, "b": 1.0}}})
    result.provenance |= {"model": "ToyGAN", "checkpoint": str(folder / "gan" / "last.pt"), "synthetic": True}
    write_report(result, folder / "eval")
    return folder


def test_a_folder_has_all_that_is_needed_and_is_a_checkpoint_elsewhere(run, tmp_path, capsys):
    out = tmp_path / "shared"
    assert main(["publish", str(run), str(out), *LICENCES]) == 0
    assert {file.name for file in out.iterdir()} == {"model.safetensors", "config.yaml", "README.md", "metrics.json"}
    moved = shutil.move(out, tmp_path / "elsewhere")
    weights = checkpoint.load(run / "gan" / "last.pt").networks
    shutil.rmtree(run)
    for given in (moved, Path(moved) / "model.safetensors"):
        state = read_trained("ToyGAN", given).model.generator.state_dict()
        assert all((state[key] == value).all() for key, value in weights["generator"].items())


@pytest.mark.parametrize("relative", [False, True])
def test_nothing_tells_of_the_machine(tmp_path, toys, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    root = Path("homestead") if relative else tmp_path / "homestead"
    run, films = root / "ToyGAN-toys" / "ada-secret", root / "ada-secret" / "recordings"
    places = {"data_root": str(films), "landmarks_root": str(films), "saved_dir": str(root)}
    random_checkpoint("ToyGAN", run, **places, **{"preprocess.ray_address": "ada-secret:6379"})
    result = make_result({"generated": {"ssim": {"a": 0.5}}}, checkpoint=str(run / "gan" / "last.pt"))
    result.skipped = [("generated", "b", "clip", f"{films / 'b.mp4'}: no face in 3/50 frames")]
    result.unavailable = {"expert_sync": f"its judge ({run}) has not ended; see https://huggingface.co/docs/hub."}
    write_report(result, run / "eval")
    out = tmp_path / "shared"
    assert main(["publish", str(run), str(out)]) == 0
    for file in out.iterdir():
        content = file.read_bytes()
        for word in (b"ada-secret", b"recordings", b"homestead", str(tmp_path).encode()):
            assert word not in content, file.name
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert {"data_root", "saved_dir", "experts", "device"}.isdisjoint(config) and config["dataset"] == "folder"
    told = json.loads((out / "metrics.json").read_text())
    assert "checkpoint" not in told and told["skipped"][0]["reason"] == "b.mp4: no face in 3/50 frames"
    reason = told["unavailable"]["expert_sync"]["reason"]
    assert reason == "its judge (...) has not ended; see https://huggingface.co/docs/hub."


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/ada/my films/x.mp4: 3/50 frames", "x.mp4: 3/50 frames"),
        ("/home/ada", "..."),
        ("C:\\Users\\ada\\x.pt is gone, and ~/y.pt", "x.pt is gone, and y.pt"),
        ("`runs/ada/best.pt` of runs/ada.", "`best.pt` of ...."),
        ("listed in lists/ada.txt.", "listed in ada.txt."),
        ("../..", "..."),
        ("ada's films/x.mp4", "x.mp4"),
        ("id00/00006, 25 frames/s, n/a, 1 / 2, all runs", "id00/00006, 25 frames/s, n/a, 1 / 2, all runs"),
        ("checkpoints/LSE/syncnet_v2.model", "checkpoints/LSE/syncnet_v2.model"),
    ],
)
def test_paths_leave_and_other_words_stay(text, left):
    config = {"saved_dir": "runs/", "data_root": "ada's films", "train_filelist": "lists/ada.txt", "experts": {}}
    assert without_places({"a": [text]}, config) == {"a": [left]}


@pytest.mark.parametrize("judge", ["experts/ada-secret/judge", "ada-secret"])
def test_files_and_runs_of_an_evaluation_keep_names_of_files_alone(judge):
    weights = {"evaluation": {"judge": judge, "lse_checkpoint": "ada-secret/lse.model", "csim_checkpoint": None}}
    filters = {"filters": {"sync": {"expert": judge}}, "landmarks": {"model_path": "ada-secret/s3fd.pth"}}
    config = {**weights, "preprocess": filters, "demo": {"portraits": "ada-secret"}}
    told = shared_settings(config)
    assert "ada-secret" not in str(told) and "experts" not in str(told)
    assert told["evaluation"] == {"judge": "...", "lse_checkpoint": "lse.model", "csim_checkpoint": None}
    kept = {"evaluation": {"judge": "auto"}, "preprocess": {"filters": {"sync": {"expert": "none"}}}}
    assert shared_settings(kept) == kept


@pytest.mark.parametrize(
    ("reason", "left"),
    [
        ("ada-films/b.mp4: no face in 3/50 frames", "b.mp4: no face in 3/50 frames"),
        ("ada's new films/b.mp4: no face", "b.mp4: no face"),
        ("no face in 3/50 frames of b.mp4: 2.5 frames/s, n/a", "no face in 3/50 frames of b.mp4: 2.5 frames/s, n/a"),
        ("id00/00006 lends to id01/00001.", "id00/00006 lends to id01/00001."),
        ("films/id00/00006.mp4 and films/id00 end early.", "00006.mp4 and ... end early."),
        ("give --evaluation.judge=ada/run, or see (docs/data_layout.md#clips)",)
        + ("give --evaluation.judge=..., or see (data_layout.md#clips)",),
        ("not found: ada\\lse.model (by hand from https://a.org/b/lse.model)",)
        + ("not found: lse.model (by hand from https://a.org/b/lse.model)",),
    ],
)
def test_reports_on_other_data_tell_of_no_folder(reason, left):
    skipped = [{"row": "generated", "clip": "id00/00006", "what": "clip", "reason": reason}]
    definitions = {"expert": {"judge": {"run": "ada-secret"}}, "sync": {"judge": {"run": "DINet.sync_expert"}}}
    report = {"skipped": skipped, "references": {"clip": {"a b/c": "id01/00001"}}, "definitions": definitions}
    told = shared_report({**report, "checkpoint": "ada", "figures": {"rate": {"unit": "px/frame"}}}, {})
    assert told["skipped"] == [{**skipped[0], "reason": left}] and told["references"] == report["references"]
    assert told["definitions"] == {"expert": {"judge": {"run": "..."}}, "sync": {"judge": {"run": "DINet.sync_expert"}}}
    assert told["figures"] == {"rate": {"unit": "px/frame"}} and "checkpoint" not in told


def test_the_card_is_one_that_the_hub_reads(run, tmp_path):
    out = tmp_path / "shared"
    assert main(["publish", str(run), str(out), *LICENCES, "--author=A. L."]) == 0
    card = huggingface_hub.ModelCard.load(out / "README.md")
    data = card.data
    assert (data.license, data.library_name) == ("cc-by-4.0", "talkingface") and "synthetic-media" in data.tags
    [figure] = [result for result in data.eval_results if result.metric_type == "ssim"]
    assert figure.metric_value == 0.625 and figure.metric_args["interval95"] == [0.5, 0.75]
    assert "0.6250 [0.5000, 0.7500]" in card.text or "0.625 [0.5, 0.75]" in card.text
    for wanted in ("synthetic video", "clips of actors, with their consent", "made by: A. L.", "hub:USER/NAME"):
        assert wanted in card.text
    assert "The clips are synthetic: no evidence of quality" in card.text
    assert json.loads((out / "metrics.json").read_text())["details"]["generated"]["interval95"]["ssim"] == [0.5, 0.75]


def test_what_nobody_has_stated_is_said_to_be_so(run, tmp_path, capsys):
    shutil.rmtree(run / "eval")
    assert main(["publish", str(run), str(tmp_path / "shared")]) == 0
    assert "its card says that licences are not stated" in capsys.readouterr().out
    card = huggingface_hub.ModelCard.load(tmp_path / "shared" / "README.md")
    assert (card.data.license, card.data.license_name) == ("other", "not-stated")
    assert "It was not evaluated." in card.text and "weights: not stated" in card.text
    assert not (tmp_path / "shared" / "metrics.json").exists()


def evaluated(checkpoint_file, ssim, out, name="ToyGAN"):
    """A report of a checkpoint as `evaluate` writes it."""
    loaded = load_config(name, "folder").config
    pipeline = Pipeline.from_checkpoint(name, checkpoint_file, "cpu")
    result = make_result({"generated": {"ssim": {"a": ssim, "b": ssim}}})
    result.provenance |= EvaluationSetup.from_config(loaded, pipeline).identity
    write_report(result, out)


def published_figure(given, out):
    """The `ssim` on the card that `publish` makes; None: not evaluated."""
    assert main(["publish", str(given), str(out)]) == 0
    card = huggingface_hub.ModelCard.load(out / "README.md")
    assert (out / "metrics.json").exists() == ("not evaluated" not in card.text)
    figures = [figure.metric_value for figure in card.data.eval_results or () if figure.metric_type == "ssim"]
    return figures[0] if figures else None


def test_a_card_has_the_figures_of_its_own_weights_alone(run, tmp_path, capsys):
    last, first = run / "gan" / "last.pt", run / "warm" / "best.pt"
    content = checkpoint.load(last)
    evaluated(last, 0.5, run / "eval")
    other = {name: {key: value + 1 for key, value in state.items()} for name, state in content.networks.items()}
    checkpoint.save(first, replace(content, stage="warm", networks=other))
    assert published_figure(run / "gan", tmp_path / "whole") == 0.5
    capsys.readouterr()
    assert published_figure(first, tmp_path / "of_first") is None, "another stage's weights"
    told = capsys.readouterr().err
    assert f"{run / 'eval' / 'metrics.json'}: has not scored these weights" in told
    assert f"--dataset=folder --checkpoint={first} --output={run / 'eval'}`" in told
    evaluated(first, 0.25, run / "warm" / "eval")  # as evaluating the stage's folder leaves it
    assert published_figure(first, tmp_path / "stage") == 0.25
    evaluated(first, 0.25, run / "eval")  # as evaluating the file leaves it
    assert published_figure(run / "gan", tmp_path / "again") is None
    assert published_figure(tmp_path / "whole", tmp_path / "copy") == 0.5, "they travel with the weights"
    checkpoint.save(tmp_path / "whole.pt", content)
    checkpoint.save(last, replace(content, networks=other))  # the run has trained on
    evaluated(tmp_path / "whole.pt", 0.5, run / "eval")
    assert published_figure(run / "gan", tmp_path / "later") is None


def test_figures_of_weights_whose_scale_is_imported_count_as_their_own(tmp_path):
    constants = tmp_path / "weights" / "MakeItTalk" / "MEAN_STD_AUTOVC_RETRAIN_MEL_AU.txt"
    constants.parent.mkdir(parents=True)
    np.savetxt(constants, np.concatenate([np.full(80, 0.5), np.full(80, 2.0)]))
    settings = {"profile": "tiny", "weights_dir": str(tmp_path / "weights"), "model.scale": "published"}
    path = random_checkpoint("MakeItTalk", tmp_path / "run", **settings)  # brings no scale, as published files
    evaluated(path, 0.5, tmp_path / "run" / "eval", "MakeItTalk")
    assert published_figure(path, tmp_path / "shared") == 0.5
    content = checkpoint.load(path)
    content.networks["content_branch"]["network.fc.0.bias"] += 1
    checkpoint.save(path, content)
    assert published_figure(path, tmp_path / "later") is None


def test_an_evaluation_of_before_hashes_counts_for_the_file_it_names(run, tmp_path, capsys):
    assert published_figure(run, tmp_path / "named") == 0.625
    assert "an older report, without a hash of the weights; taken" in capsys.readouterr().err
    shutil.copy(run / "gan" / "last.pt", run / "gan" / "best.pt")
    assert published_figure(run / "gan" / "best.pt", tmp_path / "other") is None
    later = (run / "eval" / "metrics.json").stat().st_mtime + 60
    os.utime(run / "gan" / "last.pt", (later, later))
    assert published_figure(run / "gan" / "last.pt", tmp_path / "later") is None, "written after its evaluation"


@pytest.mark.parametrize("named", [None, "last.pt", "/films/other.pt"])
def test_a_report_of_before_hashes_counts_where_it_was_published_with_the_weights(run, tmp_path, capsys, named):
    published = tmp_path / "shared"
    assert published_figure(run, published) == 0.625
    told = json.loads((published / "metrics.json").read_text())
    assert "weights" not in told
    (published / "metrics.json").write_text(json.dumps(told | ({"checkpoint": named} if named else {})))
    capsys.readouterr()
    there = named != "/films/other.pt"
    assert published_figure(published, tmp_path / "copy") == (0.625 if there else None)
    log = capsys.readouterr().err
    assert ("taken since it came with them" in log) == there
    if not there:  # the command that is advised leaves the report where it is found
        weights, place = published / "model.safetensors", published / "eval"
        assert f"--checkpoint={weights} --output={place}`" in log
        evaluated(weights, 0.25, place)
        assert published_figure(published, tmp_path / "scored") == 0.25


def test_a_folder_that_holds_something_stays_as_it_is(run, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["publish", str(run), str(tmp_path)]) == 2
    assert "is not empty; publish to a new folder" in capsys.readouterr().err


def test_untrained_networks_are_not_given_away(tmp_path, toys, capsys):
    path = random_checkpoint("ToyGAN", tmp_path / "run")
    content = checkpoint.load(path)
    content.ready = ["generator"]
    checkpoint.save(path, content)
    assert main(["publish", str(path), str(tmp_path / "shared")]) == 2
    assert "holds no trained discriminator; train it first" in capsys.readouterr().err


def test_the_hub_takes_it_and_gives_it_back(run, tmp_path, monkeypatch, capsys):
    hub = LocalHub(tmp_path / "hub", monkeypatch)
    assert main(["publish", str(run), "hub:ada/toy"]) == 0
    assert hub.private == {"ada/toy": True} and "huggingface.co/ada/toy" in capsys.readouterr().out
    (hub.root / "repositories" / "ada" / "toy" / "evil.py").write_text("1 / 0")
    trained = read_trained("ToyGAN", "hub:ada/toy@main")
    assert trained.path == hub.root / "cache" / "ada" / "toy" / "main" / "model.safetensors"
    assert not (trained.path.parent / "evil.py").exists()


def test_a_card_that_a_person_has_edited_goes_to_the_hub_as_it_is(run, tmp_path, monkeypatch):
    hub = LocalHub(tmp_path / "hub", monkeypatch)
    assert main(["publish", str(run), str(tmp_path / "shared")]) == 0
    card = tmp_path / "shared" / "README.md"
    card.write_text(card.read_text() + "\nMade on a rainy day.\n")
    assert main(["publish", str(tmp_path / "shared"), "hub:ada/toy"]) == 0
    assert "rainy day" in (hub.root / "repositories" / "ada" / "toy" / "README.md").read_text()


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_published_model_serves_wherever_a_checkpoint_does(run, tmp_path, monkeypatch, place):
    from talkingface.config.stages import Origin
    from talkingface.plugin.assembly import _place_of
    from talkingface.training.start import StageStart

    LocalHub(tmp_path / "hub", monkeypatch)
    target = str(tmp_path / "shared") if place == "folder" else "hub:ada/toy"
    assert main(["publish", str(run), target]) == 0
    assert main(["import", "--model=ToyGAN", f"--checkpoint={target}", f"--output={tmp_path / 'back.pt'}"]) == 0
    assert checkpoint.load(tmp_path / "back.pt").ready == ["generator", "discriminator"]
    assert checkpoint.load(checkpoint.find_checkpoint(_place_of(target, "checkpoints"))).model == "ToyGAN"
    for text, network in ((target, None), (f"{target}:generator", "generator")):
        origin = Origin.parse(text)
        assert origin.network == network and StageStart._elsewhere(origin.place).name == "model.safetensors"


def test_a_judge_may_come_from_a_published_folder(tmp_path):
    from talkingface.lipsync.expert.judge import load_judge

    expert = random_checkpoint("SyncNet", tmp_path / "run", profile="tiny")
    assert main(["publish", str(expert), str(tmp_path / "expert")]) == 0
    before, after = load_judge(expert), load_judge(tmp_path / "expert")
    assert before.sha256 == after.sha256 and before.crop == after.crop


def test_without_the_packages_the_command_says_how_to_get_them(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("talkingface.packages.installed", lambda name: None)
    assert main(["publish", str(run), str(tmp_path / "shared")]) == 2
    assert "needs safetensors, huggingface_hub: pip install -c" in capsys.readouterr().err
    assert main(["publish", str(run)]) == 2
    assert "`publish` takes two words" in capsys.readouterr().err
