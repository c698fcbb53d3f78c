"""Values that no training could use are refused at the start, each with the file that it came from."""

from __future__ import annotations

import pytest

from talkingface.config.folder_names import check_folder_name
from talkingface.errors import ConfigError
from talkingface.plugin.configuration import load_config


def problems(model="IPLAP", files=(), **overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(model, "demo", files, overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize(
    "key",
    ["learning_rate", "stages.render.optim.renderer.lr", "demo.seconds", "fps", "model.loss.w_gan", "model.crop.margin"]
    + ["preprocess.filters.duration.max", "evaluation.silence_db", "stages.render.scheduler.gamma"],
)
def test_numbers_that_are_not_finite_are_refused(key, value):
    (line, *_) = [line for line in problems(**{key: value}) if "errors:" not in line]
    assert "expected a finite number, got" in line and line.strip().startswith("command line: '")


@pytest.mark.parametrize("value", [[0.9, 1.0], [-0.1, 0.9], [0.9, 5]])
def test_running_means_keep_less_than_all_of_the_past(value):
    (line,) = problems(**{"stages.render.optim.renderer.betas": value})
    assert "stages.render.optim.renderer.betas" in line


@pytest.mark.parametrize("monitor", ["foo", "loss", "valloss", "train/loss", ""])
def test_a_monitor_that_is_no_figure_is_refused(monitor):
    (line,) = problems(**{"stages.render.monitor": monitor})
    assert "stages.render.monitor" in line and "give val/NAME" in line


def test_weights_for_a_network_that_takes_none_are_refused_by_name():
    (line,) = problems(**{"experts.nope": "x.pth"})
    assert line == "command line: experts.nope: IPLAP takes no such network (there are vgg19, landmark_generator)"
    (line,) = problems("Wav2Lip", **{"experts.sync_expret": "x.pth"})
    assert "did you mean 'sync_expert'?" in line
    load_config("IPLAP", "demo", (), {"experts.nope": None})  # no weights, no harm


def test_a_stage_with_one_mistake_gives_one_line():
    (line,) = problems(**{"stages.landmark.save_every_steps": 3})
    assert "unknown key 'stages.landmark.save_every_steps'" in line
    (line,) = problems(**{"stages.landmark.epochs": "many", "stages.landmark.max_steps": 5})
    assert "stages.landmark.epochs" in line


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "a/b",
        "/abs",
        "a\\b",
        "C:x",
        "x\x1b[2J",
        "x\u202egpj",
        "x\ny",
        "con",
        "NUL.txt",
        " ",
        "x" * 201,
        "a*b",
    ],
)
def test_names_of_runs_and_stages_stay_below_their_folders(name):
    with pytest.raises(ValueError):
        check_folder_name(name)
    lines = problems(run_name=name)
    assert len(lines) == 1 and "'run_name'" in lines[0] and lines[0].isprintable()


@pytest.mark.parametrize("name", ["first", "2023-99-99", "é 名", "a.b-c_d", "lr=1e-4", "console"])
def test_other_names_are_taken(name):
    assert load_config("IPLAP", "demo", (), {"run_name": name}).config.run_name == name


def test_a_number_is_a_name_too(tmp_path):
    assert load_config("IPLAP", "demo", (), {"run_name": 7}).config.run_name == "7"


def test_a_stage_is_not_called_as_a_file_of_the_run(tmp_path):
    (tmp_path / "mine.yaml").write_text("stages:\n- {name: eval, kind: landmark, epochs: 1}\n")
    lines = problems(files=[tmp_path / "mine.yaml"])
    assert any("mine.yaml:2" in line and "taken by a run folder's own files" in line for line in lines)


def test_each_message_names_the_file_and_line_of_its_value(tmp_path):
    (tmp_path / "a.yaml").write_text("model:\n  crop:\n    size: 130\nseed: one\n")
    (tmp_path / "b.yaml").write_text("model:\n  loss:\n    w_gan: 0.5\n    w_fm: x\n")
    found = problems(files=[tmp_path / "a.yaml", tmp_path / "b.yaml"], **{"model.landmark.dropout": 0.2})
    assert any("a.yaml:4: 'seed'" in line for line in found) and any(
        "b.yaml:4: 'model.loss.w_fm'" in line for line in found
    )
    (tmp_path / "b.yaml").write_text("model:\n  loss:\n    w_gan: 0.5\n")
    (line,) = problems(files=[tmp_path / "a.yaml", tmp_path / "b.yaml"], seed=1, **{"model.landmark.dropout": 0.2})
    assert "a.yaml:3: 'model': crop.size must be a multiple of 4" in line
    (tmp_path / "c.yaml").write_text("stages:\n- name: landmark\n  epochs: 1\n")
    assert any("c.yaml" in line and "kind' is missing" in line for line in problems(files=[tmp_path / "c.yaml"]))
