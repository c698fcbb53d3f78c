"""Filters of preprocessing: what they turn away, and that limits change without measuring anything again."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from helpers.clips import tone, write_clip
from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import ClipItem
from talkingface.clips.meta import read_meta
from talkingface.config.sections import FiltersConfig, PreprocessConfig
from talkingface.errors import ConfigError
from talkingface.faces.track import LandmarkTrack
from talkingface.preprocess import step as preprocess_steps
from talkingface.preprocess.clip import Job
from talkingface.preprocess.filters import measured as preprocess_filters
from talkingface.preprocess.plan import plan_steps
from talkingface.preprocess.prepare import Preprocessor

ARTEFACTS = ("audio", "mel", "landmarks", "faces")
GREY, GREEN = (40, 40, 40), (10, 220, 40)
COUNT = 30


class BrightFaces:
    """Stands for a landmark detector: every bright patch of a dark picture is a face, its corners the landmarks."""

    name, version, layout = "bright", "1", "mediapipe478"

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        import cv2

        solid = cv2.morphologyEx((frame[..., 0] > 90).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
        _, _, found, _ = cv2.connectedComponentsWithStats(solid)
        return [self._mesh(box[:4]) for box in found[1:] if box[4] > 100]

    @staticmethod
    def _mesh(box: np.ndarray) -> np.ndarray:
        corners = box[:2] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * box[2:]
        return np.resize(corners, (478, 2)).astype(np.float32)


def picture(*faces: tuple[int, int, int], sharp: bool = True, colour: tuple[int, int, int] = GREY) -> np.ndarray:
    """(120, 200, 3) with square faces (x, y, side) of fine stripes, or of one smooth shade."""
    frame = np.full((120, 200, 3), colour, np.uint8)
    for x, y, side in faces:
        patch = np.full((side, side), 200, np.uint8)
        if sharp:
            patch[:: max(2, side // 8)] = 130
        frame[y : y + side, x : x + side] = patch[..., None]
    return frame


def frames(*faces: tuple[int, int, int], count: int = COUNT, sharp: bool = True) -> list[np.ndarray]:
    return [picture(*faces, sharp=sharp) for _ in range(count)]


FACE, SECOND = (20, 20, 64), (120, 40, 48)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    """A good clip, and one that each filter dislikes."""
    root = tmp_path_factory.mktemp("filters")
    pictures = {
        "good": frames(FACE),
        "short": frames(FACE, count=12),
        "small": frames((20, 20, 32)),
        "crowd": frames(FACE, count=18) + frames(FACE, SECOND, count=12),
        "blurred": frames(FACE, sharp=False),
        "cut": frames(FACE, count=4) + [picture(FACE, colour=GREEN)] * 26,
    }
    return {name: write_clip(root / f"{name}.mp4", some) for name, some in pictures.items()}


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    """The detector of bright patches; detectors of other tests are not shared."""
    monkeypatch.setattr(preprocess_steps, "_RESOURCES", {})
    monkeypatch.setattr("talkingface.preprocess.steps.make_provider", lambda *_: BrightFaces())


def items_of(videos: dict[str, Path], *names: str) -> list[ClipItem]:
    return [ClipItem(name, videos[name], "s") for name in names or videos]


def run(items, root, filters=None, workers=0, artefacts=ARTEFACTS):
    settings = PreprocessConfig(workers=workers, filters=FiltersConfig(**(filters or {})))
    steps = plan_steps(artefacts, {"faces": {"size": 32}}, settings)
    return Preprocessor(steps, settings, root, progress=False).run(items)


CASES = {
    "duration": ("short", {"duration": {"min": 1.0}}, "0.48 s long, under filters.duration.min 1", 0.48, 1.0),
    "face_size": ("small", {"face_size": 50}, "face 32 px high, under filters.face_size 50", 32.0, 50.0),
    "single_face": (
        *("crowd", {"single_face": 0.2}),
        *("more than one face in 40.0% of the frames, over filters.single_face 0.2", 0.4, 0.2),
    ),
    "scene_cut": (
        *("cut", {"scene_cut": True}),
        *("1 scene cut inside, the first at 0.16 s; filters.scene_cut allows none", 1, 0),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_filter_rejects_its_clip_with_value_and_limit_and_passes_a_good_one(name, videos, tmp_path):
    bad, filters, reason, measured, limit = CASES[name]
    report = run(items_of(videos, "good", bad), tmp_path, filters)
    assert report.ok_ids == ["good"] and report.rejected == {bad: reason} and report.rejected_by == {name: 1}
    outcome = report.outcomes[bad]
    assert outcome.by == name and (outcome.measured, outcome.limit) == (pytest.approx(measured, abs=1.01), limit)
    assert ClipFolder(tmp_path / "good").has("faces") and not ClipFolder(tmp_path / bad).has("faces")


def test_blur_rejects_a_smooth_face_and_a_longest_duration_a_long_clip(videos, tmp_path):
    report = run(items_of(videos, "good", "blurred"), tmp_path, {"blur": 100})
    assert report.ok_ids == ["good"] and report.outcomes["blurred"].measured < 20
    assert report.rejected["blurred"].endswith("under filters.blur 100")
    report = run(items_of(videos, "good", "short"), tmp_path, {"duration": {"max": 1}})
    assert report.ok_ids == ["short"] and report.rejected["good"] == "1.2 s long, over filters.duration.max 1"


def test_sharpness_falls_with_blur_and_does_not_depend_on_the_size_of_the_face():
    import cv2

    texture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    large = cv2.resize(texture, (512, 512), interpolation=cv2.INTER_CUBIC)
    whole = np.array([0, 0, 512, 512])
    sharp = preprocess_filters.sharpness(large, whole, 128)
    values = [preprocess_filters.sharpness(cv2.GaussianBlur(large, (0, 0), s), whole, 128) for s in (4, 8, 16)]
    assert sharp > values[0] > values[1] > values[2]
    half = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA)
    assert preprocess_filters.sharpness(half, np.array([0, 0, 256, 256]), 128) == pytest.approx(sharp, rel=0.05)


def test_frames_without_a_face_do_not_count(tmp_path):
    write_clip(tmp_path / "gap.mp4", frames(FACE, count=8) + frames(count=14) + frames(FACE, count=8))
    assert run([ClipItem("gap", tmp_path / "gap.mp4", "s")], tmp_path / "out", {"face_size": 50, "blur": 50}).ok_ids
    clip = ClipFolder(tmp_path / "out/gap")
    assert not clip.track().valid.all() and clip.facts("face_size")["height"] == pytest.approx(64, abs=1.01)


def test_cheap_filters_come_before_the_detector(videos, tmp_path, monkeypatch):
    filters = {"blur": 1, "single_face": 1, "face_size": 1, "scene_cut": True, "duration": {"min": 0.1}}
    settings = PreprocessConfig(filters=FiltersConfig(**filters))
    order = [step.artefact for step in plan_steps(ARTEFACTS, {}, settings)]
    assert order[:6] == ["duration", "scene_cut", "landmarks", "face_size", "single_face", "blur"]
    monkeypatch.setattr(BrightFaces, "detect", lambda *_: pytest.fail("rejected before the detector"))
    monkeypatch.setattr(preprocess_steps.ClipContext, "frames", lambda _: pytest.fail("rejected without decoding"))
    assert run(items_of(videos, "short"), tmp_path, {**filters, "duration": {"min": 1}}).rejected


def test_changed_limit_judges_anew_without_measuring(videos, tmp_path, monkeypatch):
    items = items_of(videos, "good", "small")
    assert list(run(items, tmp_path, {"face_size": 50}).rejected) == ["small"]
    monkeypatch.setattr(preprocess_filters.FaceSizeStep, "measure", lambda *_: pytest.fail("measured again"))
    report = run(items, tmp_path, {"face_size": 30})
    assert report.ok_ids == ["good", "small"] and report.worked == 1
    assert "face_size" not in report.outcomes["small"].made and "faces" in report.outcomes["small"].made
    report = run(items, tmp_path, {"face_size": 100})
    assert report.rejected["good"] == "face 64 px high, under filters.face_size 100" and not report.made
    assert read_meta(tmp_path / "good")["status"] == "rejected"
    assert run(items, tmp_path, {"face_size": 100}).worked == 0
    report = run(items, tmp_path, {"face_size": 70})
    assert report.rejected["small"].endswith("face_size 70"), "the reason names the limit of the moment"
    report = run(items, tmp_path)
    assert report.ok_ids == ["good", "small"] and not report.made, "switched off, everything is still there"


def test_filters_off_by_default_leave_prepared_clips_valid(videos, tmp_path):
    """Other values would make everybody's data again, unless they are what `Step.former` knows of."""
    settings = PreprocessConfig()
    job = Job(tmp_path, tuple(plan_steps(ARTEFACTS, {}, settings)), settings, 25.0)
    assert job.fingerprints({"sha256": "0" * 64}) == {
        "audio": "7be89d6e3bf4d81f4c85",
        "mel": "01e238108884b2e053a0",
        "landmarks": "54d740ca5a0edd7e445b",
        "faces": "f60550632366734fe68b",
    }


def test_switching_filters_on_only_measures(videos, tmp_path):
    items = items_of(videos, "good")
    run(items, tmp_path)
    filters = {"blur": 1, "single_face": 0.5, "face_size": 10, "scene_cut": True, "duration": {"min": 0.1}}
    report = run(items, tmp_path, filters)
    assert report.outcomes["good"].made == ("duration", "scene_cut", "face_size", "single_face", "blur")
    assert run(items, tmp_path, filters).worked == 0 and run(items, tmp_path).worked == 0


def test_faces_are_counted_once_more_where_older_landmarks_do_not_say(videos, tmp_path):
    items, folder = items_of(videos, "crowd"), tmp_path / "crowd"
    run(items, tmp_path)
    track = ClipFolder(folder).track()
    assert track.faces_seen is not None and track.slice(17, 20).faces_seen.tolist() == [1, 2, 2]
    track.faces_seen = None
    track.save(folder / "landmarks.npz")
    assert LandmarkTrack.load(folder / "landmarks.npz").faces_seen is None
    report = run(items, tmp_path, {"single_face": 0.5})
    assert report.outcomes["crowd"].made == ("single_face",)
    assert ClipFolder(folder).facts("single_face") == {"share": 0.4, "most": 2}


def test_interrupted_run_goes_on_where_it_was(videos, tmp_path, monkeypatch):
    items, filters = items_of(videos), {"face_size": 50, "blur": 100}
    whole = run(items, tmp_path / "whole", filters)
    measure, done = preprocess_filters.BlurStep.measure, []

    def interrupted(step, ctx):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(ctx.item.clip_id)
        return measure(step, ctx)

    monkeypatch.setattr(preprocess_filters.BlurStep, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(items, tmp_path / "cut", filters)
    monkeypatch.setattr(preprocess_filters.BlurStep, "measure", measure)
    report = run(items, tmp_path / "cut", filters)
    assert report.outcomes["good"].made == () and report.outcomes["short"].made == ("blur", *ARTEFACTS[:2], "faces")
    assert report.rejected == whole.rejected and report.ok_ids == whole.ok_ids
    assert (tmp_path / "cut/rejections.csv").read_bytes() == (tmp_path / "whole/rejections.csv").read_bytes()


def test_several_workers_give_the_same(videos, tmp_path):
    filters = {"face_size": 50, "blur": 100, "single_face": 0.2, "scene_cut": True, "duration": {"min": 1}}
    for name in ("one", "two"):
        run(items_of(videos), tmp_path / name)  # the detector of bright patches is not known in other processes
    one = run(items_of(videos), tmp_path / "one", filters)
    two = run(items_of(videos), tmp_path / "two", filters, workers=2)
    assert one.rejected == two.rejected and set(one.rejected) == set(videos) - {"good"} and two.worked == len(videos)
    assert (tmp_path / "one/rejections.csv").read_bytes() == (tmp_path / "two/rejections.csv").read_bytes()
    for name in filters:
        assert ClipFolder(tmp_path / "one/good").facts(name) == ClipFolder(tmp_path / "two/good").facts(name) != {}


def test_rejections_are_listed_with_value_limit_and_reason(videos, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 50)
    items = [*items_of(videos, "good", "small", "short"), ClipItem("broken", tmp_path / "broken.mp4", "s")]
    root = tmp_path / "out"
    report = run(items, root, {"face_size": 50, "duration": {"min": 1}})
    with (root / "rejections.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["clip"] for row in rows] == ["small", "short", "broken"]
    short = {"status": "rejected", "filter": "duration", "measured": "0.48", "limit": "1.0"}
    assert rows[1] == {"clip": "short", **short, "reason": "0.48 s long, under filters.duration.min 1"}
    assert rows[2]["status"] == "failed" and "broken.mp4" in rows[2]["reason"] and rows[2]["filter"] == ""
    assert "rejected by face_size: 1, duration: 1" in report.table()
    before = (root / "rejections.csv").stat().st_mtime_ns
    run(items, root, {"face_size": 50, "duration": {"min": 1}})
    assert (root / "rejections.csv").stat().st_mtime_ns == before
    run(items, root, {"duration": {"min": 1}})
    assert "small" not in (root / "rejections.csv").read_text()


def test_rejections_of_the_steps_themselves_are_listed_too(videos, tmp_path):
    write_clip(tmp_path / "faceless.mp4", [picture() for _ in range(10)])
    half = [picture(FACE)] * 3 + [picture()] * 17
    write_clip(tmp_path / "half.mp4", half, tone(0.8))
    items = [ClipItem(name, tmp_path / f"{name}.mp4", "s") for name in ("faceless", "half")]
    report = run(items, tmp_path / "out")
    assert report.rejected_by == {"landmarks": 2}
    assert (report.outcomes["half"].measured, report.outcomes["half"].limit) == (0.85, 0.5)


def test_clips_converted_from_older_code_do_without_filters(videos, tmp_path):
    import json

    run(items_of(videos, "good"), tmp_path, artefacts=("audio", "landmarks"))
    meta = read_meta(tmp_path / "good")
    steps = {name: {"step": name, "params": {}, "files": record["files"]} for name, record in meta["steps"].items()}
    (tmp_path / "good/clip.json").write_text(json.dumps({**meta, "imported": True, "steps": steps}))
    gone = [ClipItem("good", tmp_path / "gone.mp4", "s")]
    filters = {"blur": 1e6, "sync": {"expert": "auto"}}
    assert run(gone, tmp_path, filters, artefacts=("audio",)).ok_ids == ["good"]


def test_impossible_limits_are_refused():
    with pytest.raises(ConfigError, match="duration: min 5 s is longer than max 2 s"):
        plan_steps((), {}, PreprocessConfig(filters=FiltersConfig(duration={"min": 5, "max": 2})))
