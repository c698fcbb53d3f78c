"""Index sets, tracks, gaps, providers."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from talkingface.errors import DataError, NoFaceError
from talkingface.faces import mesh as facemesh
from talkingface.faces.detectors import Place, make_provider
from talkingface.faces.track import LandmarkTrack, fill_gaps, track_faces


class Scripted:
    """A provider that returns prepared faces, one list per frame."""

    name, version, layout = "scripted", "1", "mediapipe478"

    def __init__(self, faces: list[list[np.ndarray]]):
        self.faces = iter(faces)

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        return next(self.faces)


def square(x: float, side: float = 10.0) -> np.ndarray:
    """A face whose 478 points fill a square at x, with depth."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (478, 3)).astype(np.float32)
    points[:4, :2] = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return points * side + np.array([x, 0, 0], np.float32)


def frames(count: int) -> list[np.ndarray]:
    return [np.zeros((40, 60, 3), np.uint8)] * count


def edges(pairs) -> set[frozenset[int]]:
    return {frozenset(int(i) for i in pair) for pair in pairs}


def test_frozen_sets_equal_mediapipes_where_it_has_them():
    connections = pytest.importorskip("mediapipe.python.solutions.face_mesh_connections")
    parts = ("LIPS", "LEFT_EYE", "RIGHT_EYE", "LEFT_EYEBROW", "RIGHT_EYEBROW")
    known = set().union(*(edges(getattr(connections, f"FACEMESH_{part}")) for part in parts))
    ours = edges(facemesh.IPLAP_EDGES)
    assert facemesh.IPLAP_EDGES.shape == (125, 2) and len(ours) == 125
    assert known <= ours
    oval = edges(connections.FACEMESH_FACE_OVAL)
    assert edges(zip(facemesh.FACE_OVAL, (*facemesh.FACE_OVAL[1:], facemesh.FACE_OVAL[0]))) == oval
    assert len((ours - known) & oval) == 24 and len(ours - known - oval) == 13


def test_iplap_order_is_every_edge_point_once():
    assert (len(facemesh.IPLAP_POSE), len(facemesh.IPLAP_CONTENT), len(set(facemesh.IPLAP_ORDER))) == (74, 57, 131)
    assert set(facemesh.IPLAP_ORDER) == set(facemesh.IPLAP_EDGES.ravel().tolist())
    assert facemesh.IPLAP_POSE[:8] == (162, 127, 234, 93, 323, 454, 356, 389)
    assert facemesh.IPLAP_CONTENT[:17:16] == (132, 361) and facemesh.IPLAP_CONTENT[17:20] == (61, 185, 40)


def test_68_points_have_an_even_jaw_that_ends_at_the_chin():
    points = np.random.default_rng(1).uniform(0, 100, (3, 478, 2)).astype(np.float32)
    line = np.linspace(0, 1, len(facemesh.JAWLINE[1:13])) ** 2  # unevenly spaced points on a straight line
    points[:, list(facemesh.JAWLINE[1:13])] = np.stack([line * 80, line * 60], axis=1)
    picked = facemesh.to_ibug68(points)
    assert picked.shape == (3, 68, 2) and picked.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.diff(picked[0, :9], axis=0), axis=1), 100 / 8, rtol=1e-4)
    np.testing.assert_allclose(picked[:, 8], points[:, facemesh.CHIN])
    np.testing.assert_allclose(picked[:, 62], points[:, facemesh.INNER_LIP_TOP])


def test_short_gap_is_interpolated_and_long_gap_stays_open():
    points = np.zeros((12, 1, 2), np.float32)
    found = np.array([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], bool)
    points[found] = np.array([0.0, 8.0, 50.0]).reshape(3, 1, 1)
    points[~found] = np.nan
    valid = fill_gaps(points, found, max_gap=3)
    np.testing.assert_allclose(points[:6, 0, 0], [0, 0, 2, 4, 6, 8])
    assert np.isnan(points[6:10]).all() and points[11, 0, 0] == 50
    np.testing.assert_array_equal(valid, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1])


def test_largest_face_is_picked_and_depth_kept():
    track = track_faces(frames(2), Scripted([[square(0), square(30, 20)], [square(31, 20), square(1)]]))
    assert track.points_px[0, :, 0].min() >= 30 and track.points_px.shape == (2, 478, 2)
    assert track.depth_px is not None and track.depth_px.shape == (2, 478)
    assert track.size == (40, 60) and track.valid.all()


def test_tracked_face_is_kept_when_a_larger_one_comes_in():
    script = [[square(0)], [square(1), square(30, 20)], [square(30, 20)], [square(2), square(30, 20)]]
    track = track_faces(frames(4), Scripted(script), pick="tracked", max_gap=2)
    np.testing.assert_array_equal(track.found, [True, True, False, True])
    assert track.points_px[..., 0].max() < 15
    gone = [[square(0)], [square(30, 20)], [square(30, 20)], [square(30, 20)]]
    assert track_faces(frames(4), Scripted(gone), pick="tracked", max_gap=1).points_px[3, :, 0].min() >= 30


def test_no_face_names_the_number_of_frames():
    with pytest.raises(NoFaceError, match="no face found in any of 3 frames"):
        track_faces(frames(3), Scripted([[], [], []]))
    with pytest.raises(NoFaceError, match="no frames"):
        track_faces([], Scripted([]))


def test_track_survives_the_disk(tmp_path):
    track = track_faces(frames(3), Scripted([[square(0)], [], [square(2)]]))
    track.save(tmp_path / "track.npz")
    loaded = LandmarkTrack.load(tmp_path / "track.npz")
    np.testing.assert_array_equal(loaded.points_px, track.points_px)
    np.testing.assert_array_equal(loaded.found, [True, False, True])
    np.testing.assert_allclose(loaded.depth_px, track.depth_px, atol=1e-2)
    assert (loaded.provider, loaded.version, loaded.layout, loaded.size) == ("scripted", "1", "mediapipe478", (40, 60))
    (tmp_path / "track.npz").write_bytes(b"PK garbage")
    with pytest.raises(DataError, match=r"track\.npz: unreadable"):
        LandmarkTrack.load(tmp_path / "track.npz")


def test_opening_is_the_lip_gap_over_the_face_height():
    points = np.zeros((2, 478, 2), np.float32)
    points[:, facemesh.CHIN, 1] = 100
    points[:, facemesh.INNER_LIP_TOP, 1] = 70
    points[:, facemesh.INNER_LIP_BOTTOM, 1] = (70, 80)
    found = np.ones(2, bool)
    np.testing.assert_allclose(LandmarkTrack(points, found, found, (200, 200)).opening(), [0.0, 0.1])
    known = points.copy()  # IP_LAP's files have no forehead
    known[:, facemesh.FOREHEAD] = np.nan
    known[:, 168, 1] = 30
    np.testing.assert_allclose(LandmarkTrack(known, found, found, (200, 200)).opening(), [0.0, 0.1], rtol=1e-6)
    half = points.copy()
    half[1] = np.nan
    assert np.isnan(LandmarkTrack(half, found, found, (200, 200)).opening()[1])


def test_unknown_provider_and_missing_model_file_are_named(tmp_path):
    with pytest.raises(DataError, match="provider 'dlib' is not known; choose mediapipe"):
        make_provider("dlib")
    pytest.importorskip("mediapipe")
    with pytest.raises(DataError, match=r"none\.task.*face_landmarker\.task and put it there"):
        make_provider("mediapipe_tasks", model_path=str(tmp_path / "none.task"))
    (tmp_path / "bad.task").write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"bad\.task: not a face landmarker model"):
        make_provider("mediapipe_tasks", model_path=str(tmp_path / "bad.task"))


@pytest.fixture
def face_alignment(monkeypatch, tmp_path):
    """The package without its networks; `made` is what it was built with. torch.hub's folder is empty."""
    torch = pytest.importorskip("torch")
    package = ModuleType("face_alignment")
    package.made = []
    package.LandmarksType = SimpleNamespace(THREE_D=3)
    package.FaceAlignment = lambda kind, **options: package.made.append(options)
    urls = {"2DFAN-4": "https://e.org/2DFAN4-0.zip", "3DFAN-4": "https://e.org/3DFAN4-1.zip"}
    package.api = SimpleNamespace(models_urls={**urls, "depth": "https://e.org/depth-2.zip"})
    detector = ModuleType("face_alignment.detection.sfd.sfd_detector")
    detector.models_urls = {"s3fd": "https://e.org/s3fd-3.pth"}
    parents = [ModuleType(f"face_alignment.{name}") for name in ("detection", "detection.sfd")]
    parents[1].sfd_detector = detector
    for module in (package, *parents, detector):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("talkingface.faces.detectors._package_version", lambda *_: "1.5")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return package


def test_face_alignment_fetches_nothing_by_itself(face_alignment, tmp_path):
    (tmp_path / "checkpoints" / "s3fd-3.pth").touch()
    with pytest.raises(DataError) as error:
        make_provider("face_alignment", place=Place(device="cpu"))
    assert f"not in {tmp_path / 'checkpoints'}" in str(error.value)
    assert "get https://e.org/3DFAN4-1.zip, https://e.org/depth-2.zip and put them there" in str(error.value)
    assert not face_alignment.made
    for name in ("3DFAN4-1.zip", "depth-2.zip"):
        (tmp_path / "checkpoints" / name).touch()
    make_provider("face_alignment", place=Place(device="cpu"))
    assert [options["device"] for options in face_alignment.made] == ["cpu"]


@pytest.mark.parametrize("mode", ["static", "tracking"])
def test_mediapipe_follows_a_moving_face(mode, capfd):
    pytest.importorskip("mediapipe")
    data = pytest.importorskip("skimage.data")
    picture = data.astronaut()
    moving = [picture[2 * k : 2 * k + 256, 96:352] for k in range(5)]
    track = track_faces(moving, make_provider("mediapipe", mode=mode, max_faces=4))
    assert track.found.sum() >= 4 and track.layout == "mediapipe478" and track.version
    down = track.points_px[4, facemesh.CHIN, 1] - track.points_px[0, facemesh.CHIN, 1]
    assert down == pytest.approx(-8, abs=2)
    assert 0.0 < track.opening().mean() < 0.15
    left, right = track.points_px[0, 234], track.points_px[0, 454]
    assert left[0] < right[0]
    nose, ear = track.depth_px[0, 4], track.depth_px[0, 234]
    assert nose > ear, "depth grows towards the viewer"
    assert "W0000" not in capfd.readouterr().err


def test_a_track_is_read_at_any_time_with_its_depth_and_held_at_the_ends():
    points = np.zeros((2, 68, 2), np.float32)
    points[1] = 10
    depth = np.stack([np.zeros(68), np.full(68, 4)]).astype(np.float32)
    seen = np.ones(2, bool)
    track = LandmarkTrack(points, seen, seen, (40, 60), layout="ibug68", depth_px=depth)
    found = track.at(np.array([-1.0, 0.02, 5.0]), fps=25.0, depth=True)
    assert found.shape == (3, 68, 3)
    np.testing.assert_allclose(found[:, 0], [[0, 0, 0], [5, 5, 2], [10, 10, 4]], atol=1e-5)
    assert track.at(np.array([0.0])).shape == (1, 68, 2)
    flat = LandmarkTrack(points, seen, seen, (40, 60), layout="ibug68", provider="s3fd")
    with pytest.raises(DataError, match="'s3fd' have no depth"):
        flat.ibug68(depth=True)
