"""Bad input: one clear line that names the file, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from talkingface.cli import commands as cli
from talkingface.media import VideoWriter, write_image, write_wav
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def speech(seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(int(16000 * seconds))).astype(np.float32)


def video(path: Path, frames: list[np.ndarray], audio: np.ndarray | None = None) -> None:
    with VideoWriter(path, fps=25.0, size=frames[0].shape[:2], audio=audio) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Good and bad files by name."""
    from skimage.data import astronaut

    folder = tmp_path_factory.mktemp("inputs")
    face = np.ascontiguousarray(astronaut()[:256, 96:352])
    video(folder / "face.mp4", [face] * 12, speech(0.48))
    video(folder / "no_face.mp4", [np.full((128, 128, 3), 90, np.uint8)] * 12, speech(0.48))
    write_image(folder / "face.png", face)
    write_wav(folder / "voice.wav", speech())
    write_wav(folder / "silent.wav", np.zeros(16000, np.float32))
    write_wav(folder / "no_samples.wav", np.zeros(0, np.float32))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video")
    data = (folder / "face.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) // 3])
    picture = (folder / "face.png").read_bytes()
    (folder / "cut.png").write_bytes(picture[: len(picture) // 3])
    loaded = load_config("IPLAP", "demo")
    model = get_spec("IPLAP").model(loaded.config.model)
    good = {
        "format": 1,
        "model": "IPLAP",
        "networks": {n: getattr(model, n).state_dict() for n in ("landmark_generator", "renderer")},
        "config": loaded.as_dict(),
    }
    checkpoint.write(folder / "good.pt", good)
    checkpoint.write(folder / "other.pt", {**good, "model": "Wav2Lip"})
    torch.save({"state_dict": {}}, folder / "foreign.pth")
    (folder / "evil.pt").write_bytes(pickle.dumps(Evil()))
    return folder


TABLE = [
    ({"source": "missing.mp4"}, "missing.mp4"),
    ({"source": "empty.mp4"}, "empty.mp4"),
    ({"source": "text.mp4"}, "text.mp4"),
    ({"source": "cut.mp4"}, "cut.mp4"),
    ({"source": "voice.wav"}, "voice.wav.*picture|voice.wav.*video"),
    ({"source": "no_face.mp4"}, "no_face.mp4.*face"),
    ({"source": "cut.png"}, "cut.png"),
    ({"source": "."}, "folder|director"),
    ({"audio": "missing.wav"}, "missing.wav"),
    ({"audio": "silent.wav"}, "silent.wav.*silent"),
    ({"audio": "no_samples.wav"}, "no_samples.wav"),
    ({"audio": "face.png"}, "face.png"),
    ({"audio": "text.mp4"}, "text.mp4"),
    ({"checkpoint": "missing.pt"}, "missing.pt"),
    ({"checkpoint": "text.mp4"}, "text.mp4"),
    ({"checkpoint": "evil.pt"}, "evil.pt"),
    ({"checkpoint": "foreign.pth"}, "foreign.pth.*import"),
    ({"checkpoint": "other.pt"}, "other.pt.*Wav2Lip"),
    ({"reference": "no_face.mp4"}, "no_face.mp4"),
    ({"landmarks": "missing.csv"}, "missing.csv: no such landmark file; check the path"),
    ({"output": "no/such/folder/out.mp4"}, "no/such/folder"),
    ({"output": "face.mp4"}, "face.mp4.*input"),
]


@pytest.mark.parametrize(
    ("wrong", "part"), TABLE, ids=lambda v: " ".join(map(str, v.items())) if isinstance(v, dict) else ""
)
def test_generate_explains_what_is_wrong(inputs, tmp_path, monkeypatch, capsys, wrong, part):
    import re

    monkeypatch.chdir(tmp_path)
    good = {"source": "face.mp4", "audio": "voice.wav", "checkpoint": "good.pt", "output": None}
    options = {**good, **wrong}
    output = tmp_path / "out.mp4" if options["output"] is None else inputs / options["output"]
    before = {p: p.stat().st_size for p in inputs.rglob("*")}
    argv = [f"--{k}={inputs / v}" for k, v in options.items() if k != "output"]
    assert cli.main(["generate", "--model=IPLAP", f"--output={output}", *argv]) == 2
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in err
    assert re.search(part, last), last
    assert {p: p.stat().st_size for p in inputs.rglob("*")} == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["face.mp4", "face.png"])
@pytest.mark.parametrize("seconds", [0.03, 0.13, 0.4])
def test_short_audio_and_still_pictures_work(inputs, tmp_path, source, seconds):
    from talkingface.media import count_frames, probe
    from talkingface.pipeline import Pipeline

    write_wav(tmp_path / "voice.wav", speech(seconds))
    pipeline = Pipeline.from_checkpoint("IPLAP", inputs / "good.pt", device="cpu")
    out = pipeline(inputs / source, tmp_path / "voice.wav", tmp_path / "out.mp4")
    assert count_frames(out) == max(1, round(25 * seconds))
    assert (probe(out).width, probe(out).height) == (256, 256)


def test_an_error_while_generating_leaves_no_output(inputs, tmp_path, monkeypatch):
    from talkingface.pipeline import Pipeline

    pipeline = Pipeline.from_checkpoint("IPLAP", inputs / "good.pt", device="cpu")

    def breaks(source, audio):
        yield np.zeros((256, 256, 3), np.uint8)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline.model, "generate", breaks)
    with pytest.raises(Exception, match="No space left"):
        pipeline(inputs / "face.mp4", inputs / "voice.wav", tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_a_misspelt_option_is_named_beside_the_one_that_is_missing(capsys):
    assert cli.main(["generate", "--model=Wav2Lip", "--sorce=face.mp4", "--audio=voice.wav"]) == 2
    assert "needs --source=...: video or picture of the face; there is no option --sorce" in capsys.readouterr().err


def test_an_artefact_that_nothing_makes_is_refused_before_the_demo_is_drawn(tmp_path, capsys):
    keys = [f"--data_root={tmp_path}/data", f"--preprocessed_root={tmp_path}/prepared"]
    assert cli.main(["preprocess", "--model=Wav2Lip", "--dataset=demo", "--only=landmark", *keys]) == 2
    assert "no preprocessing step makes 'landmark'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_network_published_in_several_forms_is_listed_once(tmp_path, capsys):
    assert cli.main(["import", "--model=Wav2Lip", f"--use=generatr={tmp_path}/any.pth"]) == 2
    assert "(known: discriminator, generator, sync_expert)" in capsys.readouterr().err


def test_a_model_without_videos_is_refused_without_a_progress_bar(inputs, tmp_path, capsys):
    from talkingface.errors import ConfigError
    from talkingface.pipeline import Pipeline

    judge = Pipeline(get_spec("SyncNet").model(load_config("SyncNet", "demo").config.model), "SyncNet")
    with pytest.raises(ConfigError, match="SyncNet makes no videos"):
        judge(inputs / "face.mp4", inputs / "voice.wav", tmp_path / "out.mp4", progress=True)
    assert "out.mp4" not in capsys.readouterr().err


def test_lists_that_name_no_clip_are_named(tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    lists = [f"--{split}_filelist={tmp_path}/empty.txt" for split in ("train", "val", "test")]
    keys = [f"--data_root={tmp_path}", f"--preprocessed_root={tmp_path}/prepared", f"--saved_dir={tmp_path}/saved"]
    assert cli.main(["train", "--model=Wav2Lip", "--dataset=lrs2", *lists, *keys]) == 2
    assert "empty.txt: names no clip, nor do the other lists" in capsys.readouterr().err
