"""What can be known before the long work is told before it, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talkingface import readiness
from talkingface.cli.commands import main
from talkingface.config.layers import leaves, to_plain
from talkingface.demo.corpus import ensure_demo_corpus
from talkingface.errors import ConfigError, DataError
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.readiness import on_the_data_of
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent
from talkingface.weights.runs import RunFolder
from talkingface.workflow import calls, scoring

VGG = "--model.loss.reconstruction=perceptual"


@pytest.fixture
def lrs2(tmp_path, monkeypatch):
    """Options for a tree as LRS2's, in which no work may begin."""

    def prepare(*args, **more):
        raise AssertionError("preprocessing began")

    for module, name in ((calls, "prepare"), (calls, "prepared_clips"), (scoring, "prepare")):
        monkeypatch.setattr(module, name, prepare)
    data = tmp_path / "lrs2"
    for name in ("a/00001", "a/00002", "b/00001"):
        file = data / "data" / "main" / f"{name}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for split in ("train", "val", "test"):
        file = data / "filelist" / f"{split}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("a/00001\na/00002\nb/00001\n")
    return [
        *["--dataset=lrs2", "--profile=tiny", f"--data_root={data / 'data'}", f"--weights_dir={tmp_path / 'weights'}"],
        *[f"--{split}_filelist={data / 'filelist' / f'{split}.txt'}" for split in ("train", "val", "test")],
        *[f"--preprocessed_root={data / 'preprocessed_data'}", f"--saved_dir={tmp_path / 'saved'}"],
    ]


def finished_run(tmp_path, model="IPLAP") -> Path:
    run = RunFolder(tmp_path / "saved" / f"{model}-lrs2" / "mine")
    run.path.mkdir(parents=True)
    run.set_status("finished")
    return run.path


@pytest.mark.parametrize("command", ["run", "train"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([VGG], "vgg19-dcbb9e9d.pth: the weights of 'vgg19' are not there"),
        (["--run_name=mine"], "mine: a run of this name is there already"),
        (["--resume=nowhere"], "nowhere: no run to resume here"),
        (["--stages.landmark.init_from=gone.pt"], "stage 'landmark' starts from stage 'gone.pt', but "),
        (["--stages.landmark.init_from={text}"], "list.txt: "),
        (["--saved_dir={text}/saved"], "list.txt: cannot be written, a part of this path is a file"),
    ],
)
def test_what_cannot_end_well_is_refused_before_any_work(lrs2, tmp_path, capsys, command, options, message):
    finished_run(tmp_path)
    text = tmp_path / "list.txt"
    text.write_text("no weights\n")
    before = sorted(tmp_path.rglob("*"))
    given = [option.format(text=text) for option in options]
    named = {option.split("=")[0] for option in given}
    assert main([command, "--model=IPLAP", *(o for o in lrs2 if o.split("=")[0] not in named), *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("error:") == 1 and "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before, "a start that fails leaves nothing"


def test_stages_that_contradict_the_settings_of_their_model_are_refused_before_any_work(lrs2, capsys):
    memory = ["--model.generator.temporal=True", "--model.inference.fps=25", "--stages.base.data.frames=1"]
    assert main(["run", "--model=HyperLipsBase", *lrs2, *memory]) == 2
    assert "stages.base.data.frames is 1: with model.generator.temporal" in capsys.readouterr().err


def test_a_place_for_prepared_clips_must_be_writable_unless_there_are_some(lrs2, tmp_path, capsys, monkeypatch):
    options = [option for option in lrs2 if not option.startswith("--preprocessed_root")]
    (tmp_path / "file").touch()
    nowhere = f"--preprocessed_root={tmp_path / 'file' / 'pre'}"
    assert main(["run", "--model=IPLAP", *options, nowhere]) == 2
    assert "file: cannot be written, a part of this path is a file" in capsys.readouterr().err
    (tmp_path / "shared" / "a").mkdir(parents=True)
    (tmp_path / "shared" / "a" / "clip.json").write_text("{}")
    looked_at: list[str] = []
    monkeypatch.setattr(readiness, "check_can_be_made", lambda folder: looked_at.append(str(folder)))
    for command in (["train", nowhere], ["run", f"--preprocessed_root={tmp_path / 'shared'}"]):
        with pytest.raises(AssertionError, match="preprocessing began"):
            main([*command[:1], "--model=IPLAP", *options, *command[1:]])
    assert all("saved" in folder for folder in looked_at), "read-only data can be trained on"


def test_a_failed_start_takes_nothing_along_that_was_there(tmp_path):
    run = RunFolder(tmp_path / "run")
    (run.path / "eval").mkdir(parents=True)
    (run.path / "eval" / "report.html").touch()
    (run.path / "landmark").mkdir()
    run.set_status("running")
    run.forget_untrained(["landmark"])
    assert sorted(path.name for path in run.path.rglob("*")) == ["eval", "report.html"]


def test_a_metric_that_must_be_there_is_looked_for_first(lrs2, tmp_path, capsys):
    assert main(["run", "--model=IPLAP", *lrs2, "--metrics=[LSE]", "--evaluation.strict=true"]) == 2
    assert "metric LSE is not available" in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


def test_a_stage_to_come_is_no_missing_file(lrs2):
    with pytest.raises(AssertionError, match="preprocessing began"):
        main(["run", "--model=IPLAP", *lrs2])


def test_a_single_stage_needs_the_one_before(lrs2, capsys):
    assert main(["train", "--model=IPLAP", *lrs2, "--stage=render"]) == 2
    assert "train it first, or name its run with --resume=RUN" in capsys.readouterr().err


def test_a_training_that_fails_before_its_first_step_leaves_no_run(tiny_dataset, tmp_path, capsys, monkeypatch):
    keys = [f"--{key}={json.dumps(value)}" for key, value in tiny_dataset.items()]
    saved = tmp_path / "saved"
    command = ["train", "--model=IPLAP", "--device=cpu", *keys, f"--saved_dir={saved}", "--stage=landmark"]
    assert main([*command, "--stages.landmark.data.min_frames=100000"]) == 2
    assert not list(saved.rglob("run.json")) and not list(saved.glob("*/*"))


# -- the data of a run -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, toys) -> Path:
    """A run on a demo corpus of its own settings, which is drawn."""
    size = {"demo.identities": 1, "demo.clips": 3, "demo.unseen": 0, "demo.seconds": 0.4, "demo.size": 64}
    places = {"data_root": str(tmp_path / "data"), "preprocessed_root": str(tmp_path / "prepared")}
    lists = {f"{split}_filelist": str(tmp_path / "filelist" / f"{split}.txt") for split in ("train", "val", "test")}
    keys = {**size, **places, **lists, "preprocess.max_missing": 0.25, "preprocess.workers": 3}
    config = load_config("ToyGAN", "demo", (), keys).config
    ensure_demo_corpus(config)
    networks = {"generator": get_spec("ToyGAN").model(config.model).generator.state_dict()}
    content = CheckpointContent(model="ToyGAN", config=to_plain(config), networks=networks, stage="gan")
    checkpoint.save(tmp_path / "run" / "gan" / "last.pt", content)
    return tmp_path / "run" / "gan" / "last.pt"


def asked(run, dataset="demo", **overrides):
    return on_the_data_of(load_config("ToyGAN", dataset, (), overrides), run).config


def test_the_data_settings_of_the_run_hold_where_nobody_asks_for_others(run, tmp_path):
    config = asked(run, **{"preprocess.workers": 1, "evaluation.max_clips": 2})
    assert (config.demo.seconds, config.demo.clips, config.preprocess.max_missing) == (0.4, 3, 0.25)
    assert config.data_root == str(tmp_path / "data") and config.test_filelist.endswith("filelist/test.txt")
    assert (config.preprocess.workers, config.evaluation.max_clips) == (1, 2)  # of this machine, and of this scoring
    ensure_demo_corpus(config, redraw=False)
    assert asked(run, "folder").data_root == "dataset/folder/data", "another data set is another data set"


def test_a_place_in_other_words_is_the_same_place(run, tmp_path):
    with pytest.raises(ConfigError, match="demo.seconds is 1.6"):
        asked(run, **{"demo.seconds": 1.6, "data_root": f"{tmp_path}/./data/"})


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("demo.seconds", 1.6, "demo.seconds is 1.6, not 0.4"), ("preprocess.max_missing", 0.5, "is 0.5, not 0.25")],
)
def test_other_settings_of_the_same_data_are_refused(run, tmp_path, key, value, told):
    with pytest.raises(ConfigError, match=f"last.pt: was trained on data of other settings: .*{told}"):
        asked(run, **{key: value})
    other = asked(run, **{key: value, "data_root": str(tmp_path / "others")})
    assert other.data_root == str(tmp_path / "others") and dict(leaves(to_plain(other)))[tuple(key.split("."))] == value


def test_evaluating_never_draws_over_another_corpus(run, tmp_path, capsys):
    films = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.mp4")}
    again = asked(run).model_copy(update={"demo": asked(run).demo.model_copy(update={"seconds": 0.8})})
    with pytest.raises(DataError, match=r"data: holds a demo corpus of other settings \(seconds 0.4 instead of 0.8\)"):
        ensure_demo_corpus(again, redraw=False)
    command = ["evaluate", "--model=ToyGAN", "--dataset=demo", f"--checkpoint={run}", "--demo.seconds=0.8"]
    assert main(command) == 2
    assert "demo.seconds is 0.8, not 0.4" in capsys.readouterr().err
    assert films == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.mp4")}
