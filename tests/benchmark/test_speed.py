"""The benchmark command: every figure is there and positive."""

from __future__ import annotations

import json

from talkingface.cli.commands import main


def test_every_figure_is_measured(tiny_dataset, tmp_path, capsys):
    keys = [f"--{key}={json.dumps(value)}" for key, value in {**tiny_dataset, "device": "cpu"}.items()]
    options = [f"--json={tmp_path / 'b.json'}", "--seconds=0.1"]
    assert main(["benchmark", "--model=IPLAP", *options, *keys]) == 0
    figures = json.loads((tmp_path / "b.json").read_text())
    for group in (
        "preprocessing frames/s",
        "data loading items/s",
        "training steps/s",
        "generation",
        "peak memory MiB",
    ):
        assert figures[group] and all(value > 0 for value in figures[group].values()), group
    assert {"landmark", "render"} == figures["training steps/s"].keys()
    assert {"network fps", "end to end fps"} <= figures["generation"].keys()
    assert figures["hardware"]["torch"] and "training steps/s: render" in capsys.readouterr().out
