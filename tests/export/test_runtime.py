"""`--backend=onnx`: exported networks in place of PyTorch's, and only those of the very checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.checkpoints import random_checkpoint
from talkingface.cli.commands import main
from talkingface.errors import CheckpointError
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec, list_models
from talkingface.plugin.trained import read_trained

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from talkingface.export.runtime import run_exported


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A checkpoint of the toy, exported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALKINGFACE_PLUGINS", "toys.toy_gan")
        checkpoint = random_checkpoint("ToyGAN", tmp_path_factory.mktemp("run"))
        assert main(["export", "--model=ToyGAN", f"--checkpoint={checkpoint}", "--format=onnx"]) == 0
    return checkpoint


@pytest.fixture
def exported(shared, tmp_path, toys):
    """The same in a folder of its own: checkpoint, folder of the files."""
    run = shutil.copytree(shared.parent, tmp_path / "gan")
    return run / shared.name, run / "onnx"


def test_the_files_answer_in_place_of_the_networks(exported):
    checkpoint, folder = exported
    trained = read_trained("ToyGAN", checkpoint)
    x = torch.rand(5, 4)
    model = trained.model.eval()
    with torch.no_grad():
        wanted = model.generator(x)
        run_exported(model, "ToyGAN", folder)
        torch.nn.init.zeros_(model.generator[-1].weight)  # what PyTorch would compute now is something else
        assert torch.allclose(model.generator(x), wanted, atol=1e-5) and wanted.abs().max() > 1e-3
    assert (model.backend, model.inference_precision) == ("onnx", "32")


def test_files_of_other_weights_or_settings_are_refused(exported):
    checkpoint, folder = exported
    model = read_trained("ToyGAN", checkpoint).model
    torch.nn.init.zeros_(model.generator[-1].weight)
    with pytest.raises(CheckpointError, match="generator.onnx: was made of other weights"):
        run_exported(model, "ToyGAN", folder)
    text = (folder / "graphs.json").read_text()
    (folder / "graphs.json").write_text(text.replace("4\n", "5\n", 1))
    with pytest.raises(CheckpointError, match="generator.onnx: was made with other settings"):
        run_exported(read_trained("ToyGAN", checkpoint).model, "ToyGAN", folder)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda folder: (folder / "graphs.json").unlink(),
            r"no exported networks here; `python .* export",
        ),
        (lambda folder: (folder / "graphs.json").write_text("{}"), r"graphs.json: is damaged or none of ours"),
        (lambda folder: (folder / "graphs.json").write_text("[1]"), r"graphs.json: is damaged or none of ours"),
        (lambda folder: (folder / "generator.onnx").write_bytes(b"x"), r"generator.onnx: is missing or not the file"),
        (lambda folder: (folder / "discriminator.onnx").unlink(), r"discriminator.onnx: is missing or not the file"),
    ],
)
def test_a_folder_that_somebody_has_changed_is_one_line(exported, harm, message):
    checkpoint, folder = exported
    harm(folder)
    with pytest.raises(CheckpointError, match=message):
        run_exported(read_trained("ToyGAN", checkpoint).model, "ToyGAN", folder)


def test_a_backend_that_is_none_is_one_line(exported, capsys):
    checkpoint, _ = exported
    options = [f"--checkpoint={checkpoint}", "--source=a.mp4", "--audio=a.wav"]
    assert main(["generate", "--model=ToyGAN", *options, "--backend=tensorrt"]) == 2
    assert "--backend=tensorrt: there are torch and onnx" in capsys.readouterr().err
    assert main(["generate", "--model=ToyGAN", *options, "--onnx=here"]) == 2
    assert "--onnx=DIR goes with --backend=onnx" in capsys.readouterr().err


def speaking() -> list[str]:
    """Models that make videos."""
    config = {name: load_config(name, "folder", (), {"profile": "tiny"}).config.model for name in list_models()}
    return [name for name in config if get_spec(name).model.needed_to_speak(config[name]) is not None]


@pytest.mark.slow
@pytest.mark.parametrize("name", speaking())
def test_every_model_makes_the_same_frames_within_a_grey_level(name, tiny_dataset, tmp_path):
    from talkingface.clips.source import Audio, Source
    from talkingface.pipeline import Pipeline

    checkpoint = random_checkpoint(name, tmp_path, "demo", **tiny_dataset)
    assert main(["export", f"--model={name}", f"--checkpoint={checkpoint}", "--format=onnx"]) == 0
    video = next(Path(tiny_dataset["data_root"]).rglob("*.mp4"))
    voice = Audio.load(video)
    voice = Audio(voice.samples[:9600], voice.sample_rate)
    made = {}
    for backend in ("torch", "onnx"):
        overrides = {"model.inference.precision": "32"} if name != "MakeItTalk" else {}
        pipeline = Pipeline.from_checkpoint(name, checkpoint, "cpu", overrides, backend)
        source = Source.from_path(video)
        source.limit(voice.n_frames(source.fps))
        pipeline._set_provider(source)
        with torch.inference_mode():
            frames = [getattr(made, "frame", made) for made in pipeline.model.generate(source, voice)]
        made[backend] = np.stack(frames).astype(int)
    assert np.abs(made["torch"] - made["onnx"]).max() <= 1
    assert len(made["onnx"]) == 15
