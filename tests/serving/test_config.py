"""Settings of the server, and which device each of its processes has."""

from __future__ import annotations

import pytest

from talkingface.config.layers import properties_dir
from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError
from talkingface.serving.config import ServeConfig, load_serving
from talkingface.serving.devices import worker_devices


def test_the_file_has_every_key_with_its_default():
    assert read_yaml(properties_dir() / "serve.yaml")[0]["serve"] == ServeConfig().model_dump(mode="json")
    assert load_serving() == ServeConfig()


def test_files_and_command_line_win_over_it_in_this_order(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("serve: {queue: 3, keep_hours: 2}\n")
    found = load_serving([mine], {"serve.queue": 4})
    assert (found.queue, found.keep_hours) == (4, 2.0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("serve: {queu: 3}", "mine.yaml:1: unknown key 'serve.queu', did you mean 'queue'?"),
        ("serve: {queue: 0}", "'serve.queue': expected greater than or equal to 1, got 0"),
        ("server: {queue: 3}", "unknown key 'server', did you mean 'serve'?"),
    ],
)
def test_wrong_settings_are_named_with_their_line(tmp_path, content, text):
    mine = tmp_path / "mine.yaml"
    mine.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_serving([mine])
    assert text in str(caught.value)


def test_workers_share_a_cpu_and_have_a_gpu_each(monkeypatch):
    import torch

    assert worker_devices("cpu", None) == ["cpu"] and worker_devices("cpu", 2) == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert worker_devices("auto", None) == ["cuda:0", "cuda:1", "cuda:2"]
    assert worker_devices("cuda", 2) == ["cuda:0", "cuda:1"] and worker_devices("cuda:1", None) == ["cuda:1"]
    with pytest.raises(ConfigError, match="there are 3 devices for auto"):
        worker_devices("auto", 4)
    with pytest.raises(ConfigError, match="must be 1 to"):
        worker_devices("cpu", 0)
