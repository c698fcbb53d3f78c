"""`doctor --model --dataset`: what one task has and lacks."""

from __future__ import annotations

import json

import pytest

from talkingface.cli.commands import main
from talkingface.plugin.configuration import load_config
from talkingface.workflow import prepare


@pytest.fixture
def doctor(tiny_dataset, tmp_path, capsys):
    """Run it on the tiny data set, which is prepared; returns exit code and lines."""
    prepare(load_config("IPLAP", "demo", (), tiny_dataset))

    def run(*options, model="IPLAP", **keys):
        keys = {**tiny_dataset, "saved_dir": str(tmp_path / "saved"), "metrics": ["PSNR", "LSE"], **keys}
        dataset = keys.pop("dataset", "demo")
        given = [f"--{key}={json.dumps(value)}" for key, value in keys.items()]
        folder = f"--weights_dir={tmp_path / 'weights'}"
        code = main(["doctor", f"--model={model}", f"--dataset={dataset}", folder, *given, *options])
        return code, [line.strip() for line in capsys.readouterr().out.splitlines()]

    return run


def test_a_task_that_is_ready(doctor, tiny_dataset):
    code, lines = doctor()
    assert code == 0, lines
    assert lines[0] == "IPLAP on demo" and lines[-1].startswith("ready to train")
    text = "\n".join(lines)
    assert "ok       videos: " in text and "ok       train: " in text and "ok       stage landmark: weights" in text
    assert "absent   metric LSE: " in text and "ok       metrics: PSNR" in text
    [disk] = [line for line in lines if "disk for 0 clips" in line]
    assert disk.startswith("about    ") and "as the prepared ones" in disk
    assert any("training: landmark" in line and "benchmark --model=IPLAP" in line for line in lines)


def test_what_is_missing_is_named_and_counted(doctor, tmp_path):
    code, lines = doctor("--model.loss.reconstruction=perceptual", "--evaluation.strict=true")
    assert code == 1 and lines[-1] == "2 things are missing"
    missing = [line for line in lines if line.startswith("MISSING")]
    assert "stage render: vgg19-dcbb9e9d.pth: the weights of 'vgg19' are not there" in missing[0]
    assert "metric LSE: " in missing[1]
    code, lines = doctor(dataset="lrs2", data_root=str(tmp_path / "nowhere"))
    assert code == 1 and any(line.startswith("MISSING  videos: no videos of data set") for line in lines)


def test_clips_that_are_not_prepared_cost_disk_and_time(doctor, tmp_path):
    code, lines = doctor(preprocessed_root=str(tmp_path / "none"))
    text = "\n".join(lines)
    assert code == 0 and "absent   prepared: 0 of " in text and "not preprocessed" in text
    assert "(16.1 kB a frame, as the demo's)" in text and "preprocessing: 0.00 hours with " in text


def test_half_a_task_is_one_line(capsys):
    assert main(["doctor", "--model=IPLAP"]) == 2
    assert "give --dataset=NAME" in capsys.readouterr().err
    assert main(["doctor", "--seed=3"]) == 2
    assert "give --model=NAME and --dataset=NAME" in capsys.readouterr().err
