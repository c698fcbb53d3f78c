"""Data sets that a converter makes: the run calls it once, and front end and stages follow what the clips hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers.canonical_faces import faces_3d, make_clip, sound_of
from helpers.dumps import Runs, clip, write_dump, write_texts
from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import make_layout
from talkingface.errors import DataError
from talkingface.media import write_wav
from talkingface.models.makeittalk.data import read_motion
from talkingface.pipeline import Pipeline
from talkingface.plugin.configuration import load_config
from talkingface.preprocess import by_converter
from talkingface.preprocess.by_converter import with_converted
from talkingface.preprocess.convert import convert_legacy, export_clips, is_converted_whole
from talkingface.task import examine
from talkingface.workflow import evaluate, run_configured

NAME = "audio2landmark_content"
SHORT = {
    **{"profile": "tiny", "device": "cpu", "tensorboard": False, "show_progress": False, "evaluation.samples": 1},
    **{"stages.content.max_steps": 4, "stages.content.validate_every": {"steps": 4}},
}


@pytest.fixture(scope="module")
def dumped(tmp_path_factory):
    """A checkout with dumps as they were published, in their usual place, and the run on it."""
    root = tmp_path_factory.mktemp("checkout")
    write_dump(root / "data/dump", "train", [clip(k) for k in range(4)])
    write_dump(root / "data/dump", "test", [clip(7), clip(8)])
    loaded = configured(root, run_name="one")
    return root, run_configured(loaded)


def configured(root, **keys):
    places = {"data_root": "data", "preprocessed_root": "made", "saved_dir": "saved", "weights_dir": "weights"}
    return load_config(NAME, NAME, (), {**SHORT, **{key: str(root / name) for key, name in places.items()}, **keys})


def test_content_trains_on_dumps_and_the_report_says_that_there_is_no_video(dumped):
    root, result = dumped
    assert {"content_lip_error", "mean_mouth", "content_d_ll", "content_d_a_shuffled"} <= set(result.stage_figures)
    assert "the clips have no video" in result.table() and not result.rows
    run = root / f"saved/MakeItTalk-{NAME}/one"
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["content", "eval"]
    stored = json.loads((run / "eval/metrics.json").read_text())
    assert stored["front_end"] == "autovc (made elsewhere)" and "non-commercial" in stored["licence"]
    assert "The clips have no video" in (run / "eval/report.html").read_text()
    assert stored["rows"] == {} and stored["stage_figures"]["content_lip_error"] > 0
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_a_test_clip_of_the_dump_speaks_on_a_portrait(dumped):
    from talkingface.media import VideoReader, probe

    (video,) = (dumped[0] / f"saved/MakeItTalk-{NAME}/one/eval/samples").glob("*.mp4")
    assert abs(probe(video).duration - 80 / 62.5) < 0.05
    frames = np.stack(list(VideoReader(video, fps=25.0))).astype(int)
    mouth, corner = frames[:, 150:215, 90:170], frames[:, :40, :40]
    assert np.abs(np.diff(corner, axis=0)).mean() < 1 and mouth.std() > 10


def test_speaking_names_the_file_that_is_missing(dumped):
    with pytest.raises(DataError, match=r"weights.MakeItTalk.ckpt_autovc\.pth: the front end autovc needs this file"):
        Pipeline.from_checkpoint(NAME, dumped[0] / f"saved/MakeItTalk-{NAME}/one", "cpu")


def test_evaluating_again_gives_the_same_figures(dumped, tmp_path):
    root, result = dumped
    again = evaluate(configured(root, evaluate_model_file=str(root / f"saved/MakeItTalk-{NAME}/one")), str(tmp_path))
    assert again.stage_figures == result.stage_figures


def test_a_second_run_converts_nothing(dumped, monkeypatch):
    root, _ = dumped
    times = {path: path.stat().st_mtime_ns for path in (root / "made").rglob("*")}
    monkeypatch.setattr(by_converter, "convert_legacy", lambda *a, **k: pytest.fail("converted again"))
    with_converted(configured(root))
    assert times == {path: path.stat().st_mtime_ns for path in (root / "made").rglob("*")}


def test_another_dump_is_noticed(tmp_path):
    write_dump(tmp_path / "data/dump", "train", [clip(k) for k in range(4)])
    first = with_converted(configured(tmp_path))
    assert [stage.name for stage in first.config.stages] == ["content"]
    assert (first.config.model.sound.name, first.config.model.sound.speaker) == ("autovc", "resemblyzer")
    assert (first.config.model.inference.render, first.config.model.inference.head) == ("warp", "none")
    write_dump(tmp_path / "data/dump", "test", [clip(9)])
    with_converted(configured(tmp_path))
    assert (tmp_path / "made/test/00009_video000009/clip.json").is_file()


def test_clips_of_a_former_dump_take_no_part(tmp_path):
    write_dump(tmp_path / "data/dump", "train", [clip(k) for k in range(4)])
    with_converted(configured(tmp_path))
    write_dump(tmp_path / "data/dump", "train", [clip(k) for k in range(10, 13)])
    settled = with_converted(configured(tmp_path)).config
    found = make_layout(settled).find(settled)
    assert [item.clip_id for item in found] == [f"train/000{k}_video0000{k}" for k in range(10, 13)]
    assert is_converted_whole("makeittalk", {"root": tmp_path / "data"}, tmp_path / "made")


def test_runs_keep_to_the_family_of_dumps_that_was_chosen(tmp_path, monkeypatch):
    places = {"root": tmp_path / "data"}, tmp_path / "made"
    write_dump(tmp_path / "data/dump", "train", [clip(k) for k in range(4)])
    write_dump(tmp_path / "data/dump", "train", [clip(k, count=90) for k in range(4)], prefix="autovc_align")
    convert_legacy("makeittalk", *places, prefix="autovc_align", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(by_converter, "convert_legacy", lambda *a, **k: pytest.fail("converted again"))
        with_converted(configured(tmp_path))
    write_dump(tmp_path / "data/dump", "train", [clip(k, count=100) for k in range(4)], prefix="autovc_align")
    with_converted(configured(tmp_path))
    assert len(ClipFolder(tmp_path / "made/train/00000_video000000")) == 100
    convert_legacy("makeittalk", *places, progress=False)
    with_converted(configured(tmp_path))
    assert len(ClipFolder(tmp_path / "made/train/00000_video000000")) == 80


def test_a_clip_that_was_deleted_is_made_again(tmp_path):
    import shutil

    write_dump(tmp_path / "data/dump", "train", [clip(k) for k in range(4)])
    with_converted(configured(tmp_path))
    shutil.rmtree(tmp_path / "made/train/00002_video000002")
    with_converted(configured(tmp_path))
    assert (tmp_path / "made/train/00002_video000002/faces68.npy").is_file()


def test_exports_bring_their_front_end_and_the_motion_of_heads(tmp_path):
    for k in range(5):
        make_clip(tmp_path / "prepared", f"a/{k}", 40, phase=0.1 * k)
    export_clips("makeittalk", tmp_path / "prepared", tmp_path / "data", progress=False)
    settled = with_converted(configured(tmp_path)).config
    assert [stage.name for stage in settled.stages] == ["content", "speaker"]
    assert settled.model.sound.made_by["name"] == "vc_mel" and "elsewhere" not in settled.model.sound.made_by
    assert (settled.model.inference.render, settled.model.inference.head) == ("warp", "auto")


def test_another_front_end_is_refused_and_both_are_named(dumped):
    asked = {"model.sound.name": "vc_mel", "model.sound.speaker": "statistics"}
    with pytest.raises(DataError, match=r"no features@vc_mel\+statistics but features@autovc\+resemblyzer"):
        run_configured(configured(dumped[0], **asked))


def test_sound_beside_a_dump_may_be_heard_with_another_front_end(tmp_path):
    clips = [clip(k) for k in range(4)]
    write_dump(tmp_path / "data/dump", "train", clips)
    (tmp_path / "data/raw_wav").mkdir()
    for number in range(4):
        write_wav(tmp_path / f"data/raw_wav/{number:05d}_video{number:06d}_audio.wav", sound_of(32, 0.1 * number))
    asked = {"model.sound.name": "vc_mel", "model.sound.speaker": "statistics"}
    settled = with_converted(configured(tmp_path, **asked)).config
    assert settled.model.sound.name == "vc_mel" and [stage.name for stage in settled.stages] == ["content"]
    found = ClipFolder(tmp_path / "made/train/00002_video000002")
    assert found.features("features@vc_mel+statistics").values.shape == (81, 80)
    motion = read_motion(found, settled.model)
    assert len(motion.sound) == len(motion.still) == 80 and motion.valid.all()


def test_doctor_tells_of_dumps_what_a_run_will_make_of_them(dumped, tmp_path):
    write_dump(tmp_path / "data/dump", "train", [clip(0)])
    told = [str(finding.text) for finding in examine(configured(tmp_path))]
    assert "clips: converted by the first run" in told and not (tmp_path / "made").exists()
    told = [str(finding.text) for finding in examine(configured(dumped[0]))]
    assert "clips: 6 converted, without videos" in told and "test: 2 clips (those of its dump)" in told
    assert [line.split(":")[0] for line in told if line.startswith("stage")] == ["stage content"]


def test_a_dump_with_code_ends_the_run_in_one_line(tmp_path):
    write_dump(tmp_path / "data/dump", "train", [clip(0, sound=Runs())])
    with pytest.raises(DataError, match="refused: the file holds code") as caught:
        run_configured(configured(tmp_path))
    assert "\n" not in str(caught.value)


def test_data_sets_with_videos_are_left_alone(tmp_path):
    loaded = load_config("MakeItTalk", "folder", (), {"data_root": str(tmp_path)})
    assert with_converted(loaded) is loaded


def test_the_rows_that_most_clips_have_decide(tmp_path):
    mute = [clip(0, about=(0, "a.mp4"), face_about=(0, "a.mp4"))]
    write_dump(tmp_path / "data/dump", "train", [*mute, *(clip(k) for k in range(1, 5))])
    assert with_converted(configured(tmp_path)).config.model.sound.speaker == "resemblyzer"


def test_text_trees_are_prepared_and_train_content_and_speaker(tmp_path):
    for k in range(4):
        rows = dict(enumerate(faces_3d(50, 0.1 * k).reshape(-1, 204)))
        write_texts(tmp_path / "data", k, f"v{k}", rows, 2.0)
    settled = with_converted(configured(tmp_path)).config
    assert [stage.name for stage in settled.stages] == ["content", "speaker"]
    assert settled.model.sound.name == "vc_mel"
    assert (tmp_path / "made/00000_v0/features@vc_mel+statistics.npy").is_file()
    again = with_converted(configured(tmp_path, **{"model.sound.name": "vc_mel", "model.sound.speaker": ""})).config
    assert [stage.name for stage in again.stages] == ["content"], "what was made before decides nothing"


def test_a_model_that_needs_pictures_is_told_that_there_are_none(dumped, tmp_path):
    with pytest.raises(DataError, match="no clip can be used"):
        run_configured(load_config("Wav2Lip", NAME, (), {"data_root": str(dumped[0] / "data"), "device": "cpu",
                                                        "preprocessed_root": str(dumped[0] / "made"),
                                                        "saved_dir": str(tmp_path)}))  # fmt: skip
