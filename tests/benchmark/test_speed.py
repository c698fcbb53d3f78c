"""The benchmark command: every figure is there and positive."""

from __future__ import annotations

import json

from talkingface.benchmark.speed import benchmark
from talkingface.plugin.configuration import load_config


def test_every_figure_is_measured(tiny_dataset, tmp_path, capsys):
    loaded = load_config("IPLAP", "demo", (), {**tiny_dataset, "device": "cpu"})
    assert benchmark(loaded, json_file=str(tmp_path / "b.json"), seconds=0.1) == 0
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
