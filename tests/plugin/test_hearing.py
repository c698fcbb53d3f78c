"""A model's front end: noted in configuration and checkpoint, bound to its folder, and another one refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from talkingface.config.layers import to_plain
from talkingface.errors import CheckpointError, DataError
from talkingface.pipeline import Pipeline
from talkingface.plugin.hearing import refuse_other_weights, spoken, with_front_end, with_published_front_end
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint
from toys.build import toy_config, toy_trainer


@pytest.fixture
def listener(tmp_path, monkeypatch):
    """A function that gives the configuration of a run with the weights of the moment."""
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "toys.toy_gan,toys.toy_listener")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/tuned.txt").write_text("first")
    return lambda **more: toy_config(tmp_path, "ToyListener", weights_dir=str(tmp_path / "weights"), **more)


def test_what_is_heard_with_stands_in_configuration_and_checkpoint(listener, tmp_path):
    loaded = with_front_end(listener())
    made_by = loaded.config.model.sound.made_by
    assert made_by["name"] == "tuned" and len(made_by["files"]["tuned.txt"]) == 64
    assert "the front end" in loaded.to_yaml(with_origins=True)
    toy_trainer(loaded, tmp_path / "run").fit()
    content = checkpoint.load(checkpoint.find_checkpoint(tmp_path / "run"))
    assert content.config["model"]["sound"]["made_by"] == made_by
    pipeline = Pipeline.from_checkpoint("ToyListener", tmp_path / "run", "cpu")
    assert pipeline.model.front_end.weights_dir == tmp_path / "weights"
    assert spoken(pipeline.model).startswith("tuned (tuned.txt ")


def test_weights_that_were_trained_with_another_front_end_are_refused_and_both_are_named(listener, tmp_path):
    toy_trainer(with_front_end(listener()), tmp_path / "run").fit()
    (tmp_path / "weights/tuned.txt").write_text("second")
    with pytest.raises(CheckpointError, match=r"tuned \(tuned.txt \w{8}\), but tuned \(tuned.txt \w{8}\) is in use"):
        Pipeline.from_checkpoint("ToyListener", tmp_path / "run", "cpu")
    other = {"stages.listen.init_from": str(tmp_path / "run/listen/last.pt")}
    with pytest.raises(CheckpointError, match="is in use"):
        toy_trainer(with_front_end(listener(**other)), tmp_path / "again").fit()
    (tmp_path / "weights/tuned.txt").unlink()
    with pytest.raises(DataError, match="tuned.txt: the front end tuned needs this file"):
        with_front_end(listener())


def test_published_weights_are_refused_where_a_front_end_of_another_name_hears(listener, tmp_path):
    listening = get_spec("ToyListener").model
    assert with_published_front_end(listener(), ["model.width"]) == listener(), "nobody has told what they hear"
    published = with_published_front_end(listener(), ["model.sound.name"]).config
    assert published.model.sound.made_by == {"name": "tuned", "elsewhere": True}
    here = with_front_end(listener()).config.model.sound.made_by
    refuse_other_weights(listening, here, to_plain(published), tmp_path / "imported.pt")
    with pytest.raises(CheckpointError, match=r"imported.pt: made with .* tuned \(made elsewhere\), but mel "):
        refuse_other_weights(listening, {"name": "mel"}, to_plain(published), tmp_path / "imported.pt")


def test_a_network_that_hears_nothing_is_taken_from_weights_of_any_front_end(listener, tmp_path, monkeypatch):
    toy_trainer(with_front_end(listener()), tmp_path / "run").fit()
    (tmp_path / "weights/tuned.txt").write_text("second")
    other = with_front_end(listener(**{"stages.listen.init_from": str(tmp_path / "run/listen/last.pt:net")}))
    with pytest.raises(CheckpointError, match="is in use"):
        toy_trainer(other, tmp_path / "again").fit()
    monkeypatch.setattr(get_spec("ToyListener").model, "deaf", ("net",))
    toy_trainer(other, tmp_path / "again").fit()


def test_a_model_that_takes_no_pictures_says_so(tmp_path):
    from talkingface.media import write_image

    write_image(tmp_path / "still.png", np.zeros((32, 32, 3), np.uint8))
    model = SimpleNamespace(bind=lambda *_: None, device=torch.device("cpu"), accepts=("video",), output_rate=None)
    with pytest.raises(DataError, match="still.png: is a picture; Toy takes a video"):
        Pipeline(model, "Toy")(tmp_path / "still.png", tmp_path / "a.wav", tmp_path / "out.mp4")
