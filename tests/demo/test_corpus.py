"""The demo corpus: what it promises to tests, demos and trained models (specification, section 9)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from talkingface.config.sections import DemoConfig
from talkingface.demo import MouthTracks, load_lips, load_tracks
from talkingface.demo import corpus as demo_corpus
from talkingface.demo import mesh as face_mesh
from talkingface.demo.deform import FrameState, frame_landmarks, lip_landmarks, measures, pose_points
from talkingface.demo.identity import Identity, build_identity
from talkingface.demo.performance import ClipDrawer, plan_clip
from talkingface.demo.portrait import BUILTIN, builtin_portrait
from talkingface.demo.render import Renderer
from talkingface.demo.speech import SAMPLE_RATE, Voice, speak
from talkingface.demo.splits import SPLITS, split_corpus
from talkingface.demo.visemes import mouth_tracks, viseme
from talkingface.errors import DataError
from talkingface.evaluation.metrics.silence import quiet_frames
from talkingface.faces.warp import TriangleWarp, signed_areas

SMALL = {"identities": 2, "clips": 2, "seconds": 1.2, "size": 128}
EXTREMES = [
    FrameState(),
    FrameState(press=1),
    FrameState(jaw=1),
    FrameState(jaw=0.5, width=-1),
    FrameState(jaw=0.3, width=1),
    FrameState(jaw=0.1, tuck=1),
    FrameState(jaw=1, pose=(7, 4, 3, 0.01, 0.01)),
    FrameState(jaw=1, width=0.5, brow=1, pose=(-7, -4, -3, -0.01, -0.01)),
]


def corpus(root, layout="lrs2", workers=None, **demo):
    """A corpus of people who are all in its lists, unless `unseen` says otherwise."""
    settings = DemoConfig(**{"unseen": 0, **demo})
    return demo_corpus.make_corpus(root, settings, layout=layout, workers=workers, progress=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """2 identities x 2 clips x 1.2 s at 128 px, made once."""
    return corpus(tmp_path_factory.mktemp("demo") / "data", **SMALL)


@pytest.fixture(scope="module", params=[0, 1, 2], ids=["astronaut", "hopper-recoloured", "astronaut-mirrored"])
def person(request) -> Identity:
    return build_identity(
        builtin_portrait(BUILTIN[request.param % 2]), request.param, 7, 128, mirror=request.param == 2
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Three identities at 256 px, and what the landmark detector sees in the encoded videos."""
    pytest.importorskip("mediapipe")
    from talkingface.faces.detectors import make_provider
    from talkingface.faces.track import track_faces
    from talkingface.media import VideoReader

    root = tmp_path_factory.mktemp("measured") / "data"
    info = corpus(root, identities=3, clips=1, seconds=2.4, size=256, workers=1)
    provider = make_provider("mediapipe", "static")
    videos = [root / "main" / f"{clip}.mp4" for clip in info.clips]
    return [(path, load_tracks(path), track_faces(VideoReader(path), provider)) for path in videos]


def video(info, clip: str) -> Path:
    return info.root / "main" / f"{clip}.mp4"


def decoded(path: Path) -> np.ndarray:
    from talkingface.media import VideoReader

    return np.stack(list(VideoReader(path)))


def draw(seed: int, index: int = 1, frames: int = 4) -> np.ndarray:
    person = build_identity(builtin_portrait(BUILTIN[index % 2]), index, seed, 96)
    key = (seed, index, 0)
    return np.stack(list(ClipDrawer(person, plan_clip(person.voice, key, frames, 25.0), key)))


def test_the_same_seed_draws_identical_frames_and_another_seed_does_not():
    first = draw(3)
    assert first.shape == (4, 96, 96, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw(3))
    assert np.abs(first.astype(int) - draw(4)).mean() > 5


def test_corpus_has_clips_texts_truth_lists_and_a_manifest_that_says_synthetic(small):
    assert small.made == 4 and small.clips == ("id00/00000", "id00/00001", "id01/00000", "id01/00001")
    manifest = json.loads((small.root / "manifest.json").read_text())
    assert manifest["synthetic"] is True and manifest["parameters"]["seed"] == 7
    for clip in small.clips:
        path = video(small, clip)
        assert path.with_suffix(".txt").read_text().startswith("Text:  ")
        assert json.loads(path.with_suffix(".json").read_text())["synthetic"] is True
        tracks = load_tracks(path)
        assert isinstance(tracks, MouthTracks) and len(tracks) == 30 and tracks.pose.shape == (30, 5)
        assert load_lips(path).shape == (30, 40, 2)
    assert (small.filelists / "train.txt").read_text() == "id00/00000\nid01/00000\n"
    assert (small.filelists / "test.txt").read_text() == "id00/00001\nid01/00001\n"
    assert (small.filelists / "by_identity" / "test.txt").read_text() == "id01/00000\nid01/00001\n"


def test_length_is_the_rounded_frame_count_and_the_sound_ends_with_the_picture(small):
    from talkingface.media import read_audio

    path = video(small, small.clips[0])
    assert decoded(path).shape == (30, 128, 128, 3)
    aac_frame = 1024
    assert abs(len(read_audio(path)) - round(1.2 * SAMPLE_RATE)) <= aac_frame
    assert len(read_audio(path.with_suffix(".wav"))) == round(1.2 * SAMPLE_RATE)


def test_a_second_run_keeps_everything_and_an_unfinished_clip_is_made_again(small):
    kept, lost = (video(small, clip) for clip in small.clips[:2])
    before, stamp = decoded(lost), kept.stat().st_mtime_ns
    assert corpus(small.root, **SMALL).kept == 4
    lost.with_suffix(".json").unlink()  # as after a kill: the json comes last
    again = corpus(small.root, **SMALL)
    assert (again.made, again.kept) == (1, 3)
    np.testing.assert_array_equal(decoded(lost), before)
    assert kept.stat().st_mtime_ns == stamp


def test_other_parameters_replace_the_clips(tmp_path):
    settings = {"identities": 1, "clips": 1, "seconds": 0.2, "size": 64}
    first = corpus(tmp_path / "data", **settings)
    assert corpus(tmp_path / "data", **settings | {"seed": 8}).made == 1
    assert first.splits == {split: ["id00/00000"] for split in SPLITS}  # one clip: it is all there is


def test_flat_layout_puts_clips_side_by_side(tmp_path):
    info = corpus(tmp_path / "d", identities=1, clips=1, seconds=0.2, size=64, layout="flat")
    assert info.clips == ("id00_00000",) and (tmp_path / "d" / "id00_00000.mp4").is_file()


@pytest.mark.parametrize("count", [3, 6, 8, 13])
def test_splits_never_share_a_clip_and_never_an_identity(count):
    by_clip, by_identity = split_corpus(count, count, "lrs2")
    for splits in (by_clip, by_identity):
        assert all(splits.values())
        assert sum(map(len, splits.values())) == len(set().union(*splits.values())) == count * count
    people = [{line.split("/")[0] for line in by_identity[split]} for split in SPLITS]
    assert sum(map(len, people)) == len(set.union(*people))
    assert {line.split("/")[0] for line in by_clip["test"]} == {line.split("/")[0] for line in by_clip["train"]}


def test_unseen_people_stand_in_a_list_of_their_own(tmp_path):
    info = corpus(tmp_path / "data", identities=1, clips=2, unseen=1, seconds=0.2, size=64, workers=1)
    assert info.unseen == ["id01/00000", "id01/00001"] and set(info.unseen) <= set(info.clips)
    assert not set(info.unseen) & set().union(*info.splits.values(), *info.splits_by_identity.values())
    assert (info.filelists / "unseen.txt").read_text().split() == info.unseen


def test_built_in_portraits_need_no_mediapipe(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    for name in BUILTIN:
        builtin_portrait.cache_clear()
        portrait = builtin_portrait(name)
        assert portrait.points.shape == (468, 3) and portrait.face_height > 100
        assert 0.2 < portrait.mask.mean() < 0.8


def test_the_mesh_never_folds_and_lips_never_cross(person):
    for state in EXTREMES:
        points, gap = pose_points(person, state)
        areas = signed_areas(points, person.triangles)
        assert areas[areas < 0].sum() > -0.001 * areas.sum(), state
        assert gap.min() >= 0
    lips = person.triangles[np.isin(person.triangles, face_mesh.LIPS).all(axis=1)]
    areas = signed_areas(person.rest, lips)
    assert areas[areas < 0].sum() > -0.003 * areas.sum()  # slivers in the corners of a closed mouth


def former_lookup(person: Identity, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates as the renderer computed them before the warp moved to `faces/warp.py`."""
    side, triangles = person.side, person.triangles
    corners, source, areas = points[triangles], person.source[triangles], signed_areas(points, triangles)
    index = np.full((side, side), -1, np.int16)
    for number in np.flatnonzero(areas > 0.04).tolist():
        cv2.fillConvexPoly(index, np.round(corners[number] * 256).astype(np.int32), number, cv2.LINE_8, 8)
    grown = cv2.dilate(index, np.ones((5, 5), np.uint8))
    index = np.where(index < 0, np.where(grown < 0, 0, grown), index)
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    image1, image2 = source[:, 1] - source[:, 0], source[:, 2] - source[:, 0]
    scale = np.where(np.abs(areas) > 1e-9, 1.0 / np.where(areas == 0, 1, areas), 0)[:, None]
    dx = (image1 * edge2[:, 1:] - image2 * edge1[:, 1:]) * scale
    dy = (image2 * edge1[:, :1] - image1 * edge2[:, :1]) * scale
    offset = source[:, 0] - dx * corners[:, 0, :1] - dy * corners[:, 0, 1:]
    a, b, c, d, e, f = (np.take(k, index) for k in np.stack([dx, dy, offset], 2).reshape(-1, 6).astype(np.float32).T)
    x, y = np.arange(side, dtype=np.float32)[None, :], np.arange(side, dtype=np.float32)[:, None]
    return a * x + b * y + c, d * x + e * y + f


def test_frames_are_those_that_were_drawn_before_the_warp_was_shared_to_the_last_bit(person):
    warp = TriangleWarp(person.source, person.triangles, (person.side, person.side))
    for state in EXTREMES:
        points, _ = pose_points(person, state)
        for found, wanted in zip(warp.lookup(points), former_lookup(person, points), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_parameters_move_the_mouth_the_way_they_are_named(person):
    def measure(**values: float) -> tuple[float, float]:
        return measures(frame_landmarks(person, pose_points(person, FrameState(**values))[0]))

    assert measure(press=1)[0] < 0.002
    openings = [measure(jaw=jaw)[0] for jaw in (0, 0.3, 0.6, 1)]
    assert openings[0] < 0.005 and openings[-1] > 0.09 and np.all(np.diff(openings) > 0.01)
    round_mouth, rest, spread = (measure(jaw=0.25, width=width)[1] for width in (-1, 0, 1))
    assert round_mouth < 0.88 * rest < rest < spread


def test_every_pixel_of_a_frame_is_drawn_and_a_blink_changes_only_the_eyes(person):
    renderer = Renderer(person)
    awake, points = renderer.frame(FrameState(), None)
    asleep = renderer.frame(FrameState(blink=1), None)[0]
    changed = np.argwhere(np.abs(awake.astype(int) - asleep).max(axis=2) > 12)
    landmarks = frame_landmarks(person, points)
    eyes = landmarks[[i for lines in face_mesh.EYES for line in lines for i in line]]
    assert len(changed) > 30
    assert changed[:, 0].min() > eyes[:, 1].min() - 10 and changed[:, 0].max() < eyes[:, 1].max() + 6
    assert awake.std(axis=(0, 1)).min() > 10


def test_lip_landmarks_start_at_the_left_corner_also_in_mirrored_frames(person):
    points = pose_points(person, FrameState(jaw=0.8))[0]
    lips = lip_landmarks(person, frame_landmarks(person, points))
    for loop in (lips[:20], lips[20:]):
        assert loop[0, 0] == loop[:, 0].min() and loop[10, 0] == loop[:, 0].max()
        assert loop[5, 1] < loop[15, 1]  # upper lip before lower lip


def test_bilabials_close_rounded_vowels_round_and_unknown_sounds_fall_back():
    line = [(0.0, ""), (0.2, "a"), (0.4, "m"), (0.5, "a"), (0.7, "u"), (0.9, "")]
    tracks = mouth_tracks(line, 30)
    assert tracks.jaw[7] > 0.8 and tracks.press[7] < 0.1
    assert tracks.press[10] > 0.85 and tracks.jaw[10] < 0.15
    assert tracks.width[19] < -0.6 and abs(tracks.jaw[28]) < 0.02
    assert viseme("ˈaɪ") == viseme("a") and viseme("eɪː") == viseme("e") and viseme("?") == viseme("")


def test_speech_is_deterministic_as_long_as_asked_and_louder_in_vowels():
    voice = Voice.random(np.random.default_rng(0))
    first, second = (speak(["MAMA", "SEA"], voice, np.random.default_rng(5), 2.0) for _ in range(2))
    np.testing.assert_array_equal(first.wav, second.wav)
    assert first.wav.shape == (32000,) and first.wav.dtype == np.float32
    assert np.abs(first.wav[: round(0.14 * SAMPLE_RATE)]).max() < 0.02  # lead-in
    assert 0.2 < np.abs(first.wav).max() <= 1
    start, end = first.phonemes[2][0], first.phonemes[3][0]  # the first a of MAMA
    vowel = first.wav[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    assert np.sqrt(np.mean(vowel**2)) > 1.2 * np.sqrt(np.mean(first.wav**2))


def test_speakers_take_a_breath_that_metrics_count_as_silence_each_at_another_time():
    said = [speak(["BIN", "BLUE"] * 12, Voice(), np.random.default_rng(seed), 4.0).wav for seed in range(8)]
    quiet = np.array([quiet_frames(wav, 100) for wav in said])
    assert np.count_nonzero(quiet.any(axis=1)) >= 6  # some stop just before the end
    assert quiet.mean() < 0.2
    assert quiet.mean(axis=0).max() <= 0.5


def test_the_head_does_not_know_what_is_said(monkeypatch):
    voice = Voice()
    plain = plan_clip(voice, (1, 2, 3), 50, 25.0)
    monkeypatch.setattr("talkingface.demo.performance.random_sentence", lambda *_: ["PAPA", "BOMB"])
    other = plan_clip(voice, (1, 2, 3), 50, 25.0)
    assert plain.text != other.text and not np.allclose(plain.tracks.jaw, other.tracks.jaw)
    np.testing.assert_array_equal(plain.tracks.pose, other.tracks.pose)
    np.testing.assert_array_equal(plain.tracks.blink, other.tracks.blink)
    nodding = plan_clip(voice, (1, 2, 3), 50, 25.0, nod=True)
    assert np.corrcoef(nodding.tracks.pose[:, 1] - other.tracks.pose[:, 1], nodding.tracks.jaw)[0, 1] > 0.999


def test_detector_finds_the_face_and_measures_the_intended_mouth(measured):
    from talkingface.media import read_audio

    for path, truth, track in measured:
        found = track.found
        assert found.mean() >= 0.98, path
        seen = track.opening()
        assert np.corrcoef(seen[found], truth.opening[found])[0, 1] >= 0.9, path
        pressed = truth.press > 0.7
        assert pressed.any() and seen[pressed].mean() < 0.02, path
        samples = read_audio(path.with_suffix(".wav"))[: len(truth) * 640].reshape(-1, 640)
        energy = np.log(1e-4 + np.mean(samples**2, axis=1))
        lags = range(-5, 6)
        match = [np.corrcoef(np.roll(energy, lag)[6:-6], seen[6:-6])[0, 1] for lag in lags]
        assert abs(lags[int(np.argmax(match))]) <= 1, path


def test_detector_puts_the_lips_where_the_truth_says(measured):
    for path, truth, track in measured:
        seen = track.points_px[:, face_mesh.LIP_LANDMARKS, :2]
        error = np.linalg.norm(seen - load_lips(path), axis=2)
        assert np.nanmean(error) < 0.03 * 119, path  # three hundredths of the face height
        lids = np.linalg.norm(track.points_px[:, [159, 386], :2] - track.points_px[:, [145, 374], :2], axis=2).mean(
            axis=1
        )
        assert np.corrcoef(lids, truth.blink)[0, 1] < -0.8, path


def test_wrong_parameters_and_foreign_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match="size must be even, got 65"):
        corpus(tmp_path / "data", size=65)
    with pytest.raises(DataError, match="no such folder of portraits"):
        corpus(tmp_path / "data", portraits=str(tmp_path / "none"))
    lists = tmp_path / "filelist"
    lists.mkdir()
    (lists / "train.txt").write_text("5535415699068794046/00001\n")
    with pytest.raises(DataError, match="not one of a demo corpus"):
        corpus(tmp_path / "data", **SMALL)
    assert not (tmp_path / "data").exists()
    with pytest.raises(DataError, match="only demo clips have it"):
        load_tracks(tmp_path / "other.mp4")


def test_unusable_portraits_are_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"none of the 1 pictures.*broken\.png: cannot be read as a picture"):
        corpus(tmp_path / "data", portraits=str(tmp_path))


def test_a_portrait_that_would_end_the_process_in_mediapipe_is_named(tmp_path):
    from talkingface.media import write_image

    write_image(tmp_path / "long.png", np.zeros((2, 40_000, 3), np.uint8))
    with pytest.raises(DataError, match=r"long\.png: has more than 32767 pixels along a side; make it smaller"):
        corpus(tmp_path / "data", portraits=str(tmp_path))


def test_missing_espeak_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(
        DataError, match="tts=espeak: espeakng_loader is not installed; run: pip install -c .* or use tts=formant"
    ):
        corpus(tmp_path / "data", identities=1, clips=1, seconds=0.2, size=64, tts="espeak")


def test_an_espeak_that_cannot_be_loaded_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "libespeak-ng.so").write_bytes(b"for another machine")
    loader = SimpleNamespace(get_library_path=lambda: str(tmp_path / "libespeak-ng.so"))
    monkeypatch.setitem(sys.modules, "espeakng_loader", loader)
    with pytest.raises(DataError, match="tts=espeak: the library of eSpeak NG cannot be loaded .*; use tts=formant"):
        corpus(tmp_path / "data", identities=1, clips=1, seconds=0.2, size=64, tts="espeak")


@pytest.mark.slow
def test_two_processes_make_the_same_corpus_as_one(small, tmp_path):
    twin = corpus(tmp_path / "data", workers=2, **SMALL)
    for clip in small.clips:
        assert (
            video(twin, clip).with_suffix(".json").read_bytes() == video(small, clip).with_suffix(".json").read_bytes()
        )
        np.testing.assert_array_equal(decoded(video(twin, clip)), decoded(video(small, clip)))


@pytest.mark.slow
def test_user_portraits_become_identities(tmp_path):
    pytest.importorskip("mediapipe")
    from talkingface.media import write_image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    write_image(pictures / "someone.png", builtin_portrait("grace_hopper").image)
    info = corpus(tmp_path / "data", identities=1, clips=1, seconds=0.2, size=64, portraits=str(pictures))
    assert info.made == 1
    assert json.loads((info.root / "manifest.json").read_text())["parameters"]["portraits"] == ["someone.png"]


@pytest.mark.slow
def test_a_ridge_regression_reads_jaw_and_width_from_unseen_audio():
    from talkingface.sound.mel import mel_windows, melspectrogram

    def collect(clips: range) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = [], []
        for person in range(4):
            voice = Voice.random(np.random.default_rng([7, 101, person]))
            for clip in clips:
                plan = plan_clip(voice, (7, person, clip), 75, 25.0)
                windows = mel_windows(melspectrogram(plan.wav), np.arange(75))
                inputs.append(windows.reshape(75, -1))
                targets.append(np.stack([plan.tracks.jaw, plan.tracks.width], axis=1))
        return np.concatenate(inputs), np.concatenate(targets)

    inputs, targets = collect(range(10))
    unseen, truth = collect(range(10, 13))
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
    design = np.c_[(inputs - mean) / spread, np.ones(len(inputs))]
    weights = np.linalg.solve(design.T @ design + 300 * np.eye(design.shape[1]), design.T @ targets)
    guess = np.c_[(unseen - mean) / spread, np.ones(len(unseen))] @ weights
    for column in range(2):
        assert np.corrcoef(guess[:, column], truth[:, column])[0, 1] > 0.8
        assert abs(np.corrcoef(np.roll(guess[:, column], 75 * 4), truth[:, column])[0, 1]) < 0.4
