"""`evaluate --generated=DIR --reference=DIR`, with files of every kind of damage among the good ones."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil

import numpy as np
import pytest

from helpers.toy_faces import ToyProvider, draw
from talkingface.cli.commands import main
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import LandmarkConfig
from talkingface.errors import MediaError, NoFaceError
from talkingface.evaluation.folders import FileClip
from talkingface.evaluation.report.html import write_html
from talkingface.evaluation.report.result import one_line
from talkingface.evaluation.report.stored import read_result
from talkingface.evaluation.rows import _nearest
from talkingface.evaluation.tracking import TrackCache, Tracker
from talkingface.media import VideoWriter, count_frames, probe, write_wav

FRAMES = 30


@pytest.fixture(autouse=True)
def toy_landmarks(monkeypatch):
    monkeypatch.setattr(Tracker, "_make", lambda self: ToyProvider())


def mouth(seed: int, frames: int = FRAMES) -> np.ndarray:
    path = np.convolve(np.random.default_rng(seed).uniform(-1, 1, frames + 2), np.ones(3) / 3, "valid")
    return 4 + 14 * (path - path.min()) / np.ptp(path)


def voice(openings: np.ndarray, fps: float = 25.0) -> np.ndarray:
    step = round(16000 / fps)
    return (np.repeat(openings, step) / 40 * np.where(np.arange(len(openings) * step) % 8 < 4, 1, -1)).astype(
        np.float32
    )


def film(path, openings, shade=120, fps=25.0, sound="own", frame=lambda picture: picture):
    audio = voice(openings, fps) if isinstance(sound, str) else sound
    with VideoWriter(path, fps=fps, audio=audio) as writer:
        for value in openings:
            writer.write(frame(draw(value, shade)))
    return path


def evaluate(root, *options, metrics="[PSNR, LMD, MOUTH]", html=False):
    options = [*options, f"--evaluation.html={html}"]
    folders = [f"--generated={root / 'made'}", f"--reference={root / 'real'}", f"--output={root / 'out'}"]
    return main(["evaluate", *folders, f"--metrics={metrics}", "--device=cpu", *options])


def report(root):
    return json.loads((root / "out" / "metrics.json").read_text())


def reasons(root):
    return {(skip["row"], skip["clip"]): skip["reason"] for skip in report(root)["skipped"]}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Two good pairs, and one of every kind that cannot be scored."""
    root = tmp_path_factory.mktemp("folders")
    made, real = root / "made", root / "real"
    film(made / "ann" / "one.mkv", mouth(1) + 3)
    film(made / "bob.mp4", mouth(2)[:20])
    for name in ("ann/one", "bob", "cut", "cut_real", "empty", "deaf", "faceless", "small", "unmade"):
        film(real / f"{name}.mp4", mouth(sum(map(ord, name))), sound=None if name == "deaf" else "own")
    film(real / "ann" / "one.mp4", mouth(1))
    film(real / "bob.mp4", mouth(2))
    whole = (real / "cut.mp4").read_bytes()
    (made / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    film(made / "cut_real.mp4", mouth(3))
    (real / "cut_real.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (made / "empty.mp4").touch()
    (made / "notes.txt").write_text("not a video")
    film(made / "deaf.mp4", mouth(4), sound=None)
    film(made / "faceless.mp4", mouth(5), frame=np.zeros_like)
    film(made / "small.mp4", mouth(6), frame=lambda picture: picture[::2, ::2])
    film(made / "strange.mp4", mouth(7))
    return root


@pytest.fixture(scope="module")
def scored(damaged):
    """The report about them, and what was printed."""
    import contextlib
    import io

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(Tracker, "_make", lambda self: ToyProvider())
        ToyProvider.calls = 0
        assert evaluate(damaged) == 0
    return damaged, printed.getvalue(), ToyProvider.calls


def test_good_pairs_are_scored_whatever_lies_beside_them(scored):
    root, printed, _ = scored
    content = report(root)
    assert [content["rows"][row]["clips"] for row in ("generated", "real", "still")] == [2, 2, 2]
    rows = {(line["row"], line["clip"]): line for line in csv.DictReader((root / "out" / "per_clip.csv").open())}
    assert {clip for _, clip in rows} == {"ann/one", "bob"}
    assert float(rows["generated", "ann/one"]["mouth_corr"]) > 0.9
    assert float(rows["generated", "ann/one"]["m_lmd"]) > 0 == float(rows["real", "ann/one"]["m_lmd"])
    assert float(rows["real", "bob"]["psnr"]) == 80.0
    assert "20 frames, the real video has 30" in rows["generated", "bob"]["notes"]
    assert printed.splitlines()[0].startswith("made on real; video files of another system; the still face is a frame")
    assert (root / "out" / "samples" / "ann_one.mp4").is_file()
    assert probe(root / "out" / "videos" / "still" / "bob.mp4").has_audio


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        ("cut", "made/cut.mp4: .*truncated"),
        ("cut_real", "real/cut_real.mp4: .*truncated"),
        ("empty", "made/empty.mp4: the file is empty"),
        ("deaf", "no sound track.*needed by MOUTH; choose others with --metrics"),
        ("faceless", "made/faceless.mp4: no face found in any of 30 frames"),
        ("small", "made/small.mp4: 48x48 frames, but the real video .*small.mp4 has 96x96"),
        ("unmade", "no generated video of this name"),
    ],
)
def test_every_damaged_file_is_skipped_with_its_reason(scored, clip, reason):
    root, printed, _ = scored
    found = reasons(root)["generated", clip]
    assert re.search(reason, found)
    assert f"skipped {clip} (generated, clip): {found}" in printed
    assert len(report(root)["skipped"]) == 7


def test_a_real_video_without_a_generated_one_counts_and_a_strange_one_does_not(scored):
    root, printed, _ = scored
    content = report(root)
    assert content["details"]["generated"]["clips_left_out"]["psnr"] == 7
    assert content["without_a_real_video"] == ["strange"]
    assert content["references"] == {"policy": None}
    assert "1 further videos have no real one of their name and are not judged" in printed.splitlines()[0]
    write_html(read_result(root / "out" / "metrics.json"), root / "page")
    page = (root / "page" / "report.html").read_text()
    assert "2 of 9 clips" in page and "no fault of the system: strange" in page


def test_landmarks_of_the_real_video_are_found_once_for_all_rows(scored):
    whole, short, faceless = 30 + 30 + 30, 30 + 20 + 30, 30 + 30  # real, generated and still frames
    assert scored[2] == whole + short + faceless


def test_nothing_that_can_be_scored_is_exit_code_2(tmp_path, capsys):
    film(tmp_path / "real" / "a.mp4", mouth(1))
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.mp4").write_bytes((tmp_path / "real" / "a.mp4").read_bytes()[:3000])
    assert evaluate(tmp_path) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: none of 1 clips could be scored; the first: ") and "made/a.mp4: " in error
    shutil.copy(tmp_path / "real" / "a.mp4", tmp_path / "made" / "a.mp4")
    assert evaluate(tmp_path, f"--weights_dir={tmp_path}", metrics="[LSE]") == 2
    assert "error: no metric could be computed; the first reason: weights not found" in capsys.readouterr().err
    assert evaluate(tmp_path, metrics="[SWAP]") == 2
    assert "error: no metric could be computed; the first reason: needs the rows" in capsys.readouterr().err


def test_folders_without_a_common_name_are_one_error_with_examples(tmp_path, capsys):
    (tmp_path / "made").mkdir()
    (tmp_path / "real").mkdir()
    assert evaluate(tmp_path) == 2
    assert "made: no video in it (suffixes .mp4, " in capsys.readouterr().err
    for name in "abcd":
        (tmp_path / "made" / f"{name}.mp4").touch()
    (tmp_path / "real" / "x.mov").touch()
    assert evaluate(tmp_path) == 2
    error = capsys.readouterr().err
    assert "made has a, b, c, ... (4 videos); " in error and "real has x. The path below the folder" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--generated={made}"], "give --reference=DIR too"),
        (["--reference={made}"], "give --generated=DIR too"),
        (["--generated={made}/gone", "--reference={made}"], "gone: no such folder"),
        (["--generated={made}/a.mp4", "--reference={made}"], "is a file, not a folder"),
        (["--generated={made}", "--reference={made}", "--model=IPLAP"], "--model does not go with --generated"),
        (["--generated={made}", "--reference={made}", "--evaluation.rows=[shuffled]"], "'shuffled' needs a model"),
        (["--generated={made}", "--reference={made}", "--evaluation.regoin=face"], "did you mean 'region'?"),
        (
            ["--generated={made}", "--reference={made}", "--metrics=[PSRN]"],
            "'PSRN', did you mean 'PSNR'",
        ),
        (["--generated={made}", "--reference={made}", "--model.width=3"], "'model.width': no model takes part here"),
        (["--generated={made}", "--reference={made}", "--output={made}/a.mp4"], "a.mp4: cannot be written"),
        (["--generated={made}", "--reference={made}", "--output={made}"], "choose a folder of its own for the report"),
    ],
)
def test_options_that_make_no_sense_are_one_clear_line(tmp_path, capsys, options, message):
    film(tmp_path / "a.mp4", mouth(1)[:3])
    assert main(["evaluate", *(option.format(made=tmp_path) for option in options)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_a_clip_without_sound_is_scored_by_metrics_that_only_look(tmp_path):
    film(tmp_path / "made" / "a.mp4", mouth(1), sound=None)
    film(tmp_path / "real" / "a.mp4", mouth(2), sound=np.zeros(FRAMES * 640, np.float32))
    assert evaluate(tmp_path, metrics="[PSNR, LMD]") == 0
    content = report(tmp_path)
    assert [content["rows"][row]["clips"] for row in ("generated", "real", "still")] == [1, 1, 1]
    assert content["skipped"] == []
    assert not probe(tmp_path / "out" / "samples" / "a.mp4").has_audio


def notes(root, row="generated"):
    lines = csv.DictReader((root / "out" / "per_clip.csv").open())
    return next(line["notes"] for line in lines if line["row"] == row)


def test_the_sound_is_the_real_one_and_another_is_noted(tmp_path):
    other, own = mouth(1), mouth(9)
    film(tmp_path / "real" / "a.mp4", own)
    film(tmp_path / "made" / "a.mp4", own, sound=voice(np.roll(own, 4)))
    assert evaluate(tmp_path, metrics="[MOUTH]") == 0
    assert report(tmp_path)["rows"]["generated"]["av_lag"] == 0
    assert notes(tmp_path) == "scored against the real video's sound; its own lies +4 frames later"
    assert notes(tmp_path, "real") == ""
    film(tmp_path / "made" / "a.mp4", own, sound=voice(other))
    assert evaluate(tmp_path, metrics="[MOUTH]") == 0
    assert notes(tmp_path).startswith("scored against the real video's sound; its own seems to be another (correlation")
    film(tmp_path / "real" / "a.mp4", own, sound=None)
    assert evaluate(tmp_path, metrics="[MOUTH]") == 0
    assert notes(tmp_path) == "scored against the generated video's own sound, the real one has none"


def test_a_sound_file_beside_the_real_video_is_its_sound(tmp_path):
    write_wav(tmp_path / "a.wav", voice(mouth(1)))
    real = film(tmp_path / "a.mp4", mouth(2))
    clip = FileClip(real, ClipItem("a", real, audio=tmp_path / "a.wav"), lambda path, frames: None)
    assert np.abs(clip.audio() - voice(mouth(1))).max() < 1e-3
    assert clip.heard == tmp_path / "a.wav"


def test_both_videos_are_read_at_the_rate_of_the_real_one(tmp_path):
    film(tmp_path / "real" / "a.mp4", np.repeat(mouth(1), 2)[:58], fps=50.0)
    film(tmp_path / "made" / "a.mp4", mouth(1))
    assert evaluate(tmp_path, metrics="[MOUTH]") == 0
    assert report(tmp_path)["fps"] == 50
    assert notes(tmp_path) == "a video of 25.00 fps, read at 50.00 | 60 frames, the real video has 58"
    assert report(tmp_path)["rows"]["generated"]["mouth_corr"] > 0.95
    assert count_frames(tmp_path / "out" / "videos" / "still" / "a.mp4", None) == 58
    assert evaluate(tmp_path, "--fps=25", metrics="[MOUTH]") == 0
    assert report(tmp_path)["fps"] == 25
    assert notes(tmp_path, "real") == "a video of 50.00 fps, read at 25.00"


def test_the_report_in_the_scored_folder_is_not_scored_next_time(tmp_path):
    film(tmp_path / "both" / "a.mp4", mouth(1))
    folders = [f"--{name}={tmp_path / 'both'}" for name in ("generated", "reference")]
    options = ["--metrics=PSNR", "--device=cpu", "--evaluation.html=false"]
    for output in (tmp_path, tmp_path / "both" / "out", tmp_path / "both" / "out"):
        assert main(["evaluate", *folders, f"--output={output}", *options]) == 0
        content = json.loads((output / "metrics.json").read_text())
        assert content["rows"]["generated"]["clips"] == 1 and content["skipped"] == []


def test_a_name_of_any_bytes_is_scored_and_reported(tmp_path):
    name = os.fsdecode(b"caf\xe9 1.mp4")
    for folder in ("made", "real"):
        film(tmp_path / folder / "a.mp4", mouth(1)[:5])
        try:
            (tmp_path / folder / "a.mp4").rename(tmp_path / folder / name)
        except OSError:
            pytest.skip("this file system takes no such name")
    assert evaluate(tmp_path, metrics="[PSNR]", html=True) == 0
    [clip] = {clip.clip_id for clip in read_result(tmp_path / "out" / "metrics.json").clips}
    assert clip == "caf%E9 1"
    assert read_result(tmp_path / "out" / "metrics.json").clips[0].reference == tmp_path / "real" / name
    assert one_line(MediaError(f"{name}: damaged")) == "caf%E9 1.mp4: damaged"


def test_a_long_name_is_scored_like_any_other(tmp_path):
    for folder in ("made", "real"):
        film(tmp_path / folder / f"{'x' * 240}.mp4", mouth(1)[:5])
    assert evaluate(tmp_path, metrics="[PSNR]") == 0
    assert report(tmp_path)["rows"]["still"]["clips"] == 1


def test_one_folder_compared_with_itself_is_said(tmp_path, capsys):
    film(tmp_path / "a.mp4", mouth(1)[:5])
    folders = [f"--generated={tmp_path}", f"--reference={tmp_path / '.'}", f"--output={tmp_path / 'out'}"]
    options = ["--metrics=PSNR", "--device=cpu", "--evaluation.html=false"]
    assert main(["evaluate", *folders, *options]) == 0
    assert "the same folder: every video is compared with itself" in capsys.readouterr().out.splitlines()[0]


def test_the_film_of_a_mute_video_has_the_sound_it_was_judged_by(tmp_path):
    film(tmp_path / "real" / "a.mp4", mouth(1))
    film(tmp_path / "made" / "a.mp4", mouth(1), sound=None)
    assert evaluate(tmp_path, metrics="[MOUTH]", html=True) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "film.mp4").write_bytes(base64.b64decode(re.search(r'src="data:video/mp4;base64,([^"]+)"', page)[1]))
    assert probe(tmp_path / "film.mp4").has_audio


def test_missing_boxes_come_from_the_nearest_frame():
    boxes = np.arange(9.0)[:, None] * np.ones(4)
    boxes[[0, 1, 4, 5, 6, 8]] = np.nan
    assert _nearest(boxes)[:, 0].tolist() == [2, 2, 2, 3, 3, 3, 7, 7, 7]


def test_a_small_face_gets_its_second_look_in_the_real_video_as_well(tmp_path):
    looks = []
    real = ClipItem("a", film(tmp_path / "a.mp4", mouth(1)), "")
    FileClip(real.video, real, lambda path, frames: looks.extend(len(list(frames)) for _ in range(2))).track()
    assert looks == [FRAMES, FRAMES]


def test_a_face_is_searched_once_in_a_file_found_or_not(tmp_path):
    cache = TrackCache(Tracker(LandmarkConfig(), ToyProvider()), tmp_path)
    ToyProvider.calls = 0
    face, blank = [draw(4, 120)] * 3, [np.zeros((96, 96, 3), np.uint8)] * 2
    first, again = (cache(tmp_path / "a.mp4", iter(face)) for _ in range(2))
    assert np.array_equal(first.points_px, again.points_px) and len(again) == 3
    for _ in range(2):
        with pytest.raises(NoFaceError, match=r"b\.mp4: no face found in any of 2 frames"):
            cache(tmp_path / "b.mp4", iter(blank))
    assert ToyProvider.calls == 5


def test_a_film_of_a_few_frames_does_not_stand_beside_whole_clips(tmp_path):
    for folder in ("made", "real"):
        (tmp_path / folder).mkdir()
    for name, count in (("whole", FRAMES), ("stub", 1), ("most", 20)):
        film(tmp_path / "real" / f"{name}.mp4", mouth(1))
        film(tmp_path / "made" / f"{name}.mp4", mouth(1)[:count])
    assert evaluate(tmp_path, metrics="[PSNR]") == 0
    assert "1 frames, but the real video has 30: too short to be scored" in reasons(tmp_path)["generated", "stub"]
    assert not {("generated", "whole"), ("generated", "most")} & reasons(tmp_path).keys()
