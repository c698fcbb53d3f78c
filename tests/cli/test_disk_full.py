"""A full disk while making, preparing and scoring: one line with the file, exit code 2, and nothing half-written."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.clips import face_frames, tone, write_clip
from helpers.small_disk import errors_of, run_on_small_disks
from talkingface.media import write_image, write_wav
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent

CHILD = """
from talkingface.cli import commands
from talkingface.clips.folder import ClipFolder
from talkingface.media import probe
given = Path(sys.argv[3])

tell("part generate")
output = root / "out.mp4"
asked = ["generate", "--model=ToyPainter", f"--checkpoint={given / 'painter.pt'}", f"--output={output}"]
asked += [f"--source={given / 'face.png'}", f"--audio={given / 'voice.wav'}", "--device=cpu", "--show_progress=False"]
for size in (4, 40):
    small(size)
    tell("exit", commands.main(asked))
    tell("left", left(), output.exists())
grow(1000)
tell("exit", commands.main(asked), probe(output).duration)

tell("part preprocess")
asked = ["preprocess", "--model=Wav2Lip", "--dataset=folder", f"--data_root={given / 'data'}", "--profile=tiny"]
asked += [f"--preprocessed_root={root}", "--preprocess.workers=0", "--show_progress=False"]

def artefacts():
    clips = [ClipFolder(path.parent) for path in sorted(root.rglob("clip.json"))]
    for clip in clips:
        for name in clip.meta.get("steps", {}):
            read = {"audio": clip.audio, "landmarks": clip.track, "mel": clip.mel}
            read.get(name.partition("@")[0], clip.faces)(name)
    return [len(clip.meta.get("steps", {})) for clip in clips]

for size in (24, 120, 300):
    small(size)
    tell("exit", commands.main(asked))
    tell("left", left(), "made", *artefacts())
grow(4000)
tell("exit", commands.main(asked))
tell("left", left(), "made", *artefacts())

tell("part evaluate")
asked = ["evaluate", f"--generated={given / 'data'}", f"--reference={given / 'data'}", "--metrics=PSNR", "--device=cpu"]
asked += [f"--output={root / 'report'}", "--evaluation.rows=[generated, real]", "--show_progress=False"]
for size in (4, 60):
    small(size)
    tell("exit", commands.main(asked))
    tell("left", left(), sorted(path.name for path in root.rglob("*") if path.is_file()))
grow(4000)
tell("exit", commands.main(asked))
tell("left", left(), sorted(path.name for path in root.rglob("*") if path.is_file()))
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A painter's checkpoint, a picture, a noisy voice, and a folder of two videos of a face."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALKINGFACE_PLUGINS", "toys.toy_painter")
        folder = tmp_path_factory.mktemp("given")
        config = load_config("ToyPainter", "folder", (), {"model.listens": False})
        model = get_spec("ToyPainter").model(config.config.model)
    networks = {"painter": model.painter.state_dict()}
    content = CheckpointContent(
        model="ToyPainter",
        config=config.as_dict(),
        networks=networks,
        stage="fine",
        trained=["painter"],
        ready=["painter"],
    )
    checkpoint.save(folder / "painter.pt", content)
    write_image(folder / "face.png", np.zeros((64, 64, 3), np.uint8))
    write_wav(folder / "voice.wav", 0.3 * np.random.default_rng(0).standard_normal(16000 * 10).astype(np.float32))
    for name in ("one", "two"):
        write_clip(folder / "data" / "s" / f"{name}.mp4", face_frames(24), tone(1.0))
    return folder


@pytest.fixture(scope="module")
def said(given, tmp_path_factory):
    """Where the small disks were, and what every command said and left there: lines by command."""
    root = tmp_path_factory.mktemp("root")
    parts: dict[str, list[str]] = {}
    for line in run_on_small_disks(CHILD, root, given, plugins=["toys.toy_painter"]):
        if line.startswith("part "):
            parts[line.removeprefix("part ")] = lines = []
        elif parts:
            lines.append(line)
    return root, parts


def test_a_video_that_finds_the_disk_full_leaves_none(said):
    root, lines = said[0], said[1]["generate"]
    errors = errors_of(lines)
    assert len(errors) == 2
    assert all(f"{root / 'out.mp4'}: cannot be written, the disk is full" in line for line in errors)
    assert [line for line in lines if line.startswith("exit")] == ["exit 2"] * 2 + ["exit 0 10.0"]
    assert [line for line in lines if line.startswith("left")] == ["left [] False"] * 2


def test_a_clip_that_finds_the_disk_full_ends_preprocessing_and_is_made_whole_when_there_is_room(said):
    root, lines = said[0], said[1]["preprocess"]
    errors = errors_of(lines)
    assert len(errors) == 3
    assert all(f"error: {root / 's'}" in line and "the disk is full; free some space" in line for line in errors)
    assert [line for line in lines if line.startswith("exit")] == ["exit 2"] * 3 + ["exit 0"]
    # What is noted of a clip can be read: the second disk has room for two artefacts, the third for one clip and more.
    told = [line for line in lines if line.startswith("left")]
    assert told == ["left [] made", "left [] made 2", "left [] made 4 1", "left [] made 4 4"]


def test_a_report_that_finds_the_disk_full_keeps_its_figures_and_says_so(said):
    lines = said[1]["evaluate"]
    errors, report = errors_of(lines), said[0] / "report"
    for line, name in zip(errors, ("per_clip.csv", "report.html"), strict=True):
        assert f"error: {report / name}: cannot be written, the disk is full" in line
    assert [line for line in lines if line.startswith("exit")] == ["exit 2"] * 2 + ["exit 0"]
    told = [line for line in lines if line.startswith("left")]
    figures = ["metrics.json", "per_clip.csv", "per_clip.json"]
    assert told[0] == f"left [] {figures[:1]}" and told[1].startswith(f"left [] {figures}".rstrip("]"))
    assert "report.html" not in told[1] and "report.html" in told[2]
