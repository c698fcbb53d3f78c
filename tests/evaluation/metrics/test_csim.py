from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.perceptual_clips import FRAMES, sample
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError, Unavailable
from talkingface.evaluation.metric import make_metric
from talkingface.evaluation.metrics import csim as module
from talkingface.evaluation.metrics.csim import TEMPLATE, AllPairs, align, cosines, five_points, similarity
from talkingface.evaluation.report.numbers import label
from talkingface.faces.track import LandmarkTrack
from talkingface.media import VideoReader
from talkingface.networks import iresnet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A shallow IResNet with random weights."""
    patch = pytest.MonkeyPatch()
    patch.setattr(iresnet, "LAYERS", {"r50": (1, 1, 1, 1)})
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(iresnet.IResNet("r50").state_dict(), path)
    yield path
    patch.undo()


def make(weights, **settings):
    metric = make_metric("CSIM", EvaluationConfig(csim_checkpoint=str(weights), **settings))
    metric.prepare()
    return metric


def embed(metric, faces):
    """Embeddings as defined: (x / 255 - 0.5) / 0.5."""
    with torch.inference_mode():
        return metric._network((torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)


def test_a_turned_scaled_and_moved_face_comes_onto_the_template():
    angle, scale = 0.4, 2.5
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(TEMPLATE @ turn.T + [30, -7])
    np.testing.assert_allclose(matrix[:, :2] @ turn, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(matrix[:, :2] @ [30, -7] + matrix[:, 2], 0, atol=1e-10)
    mirrored = similarity(TEMPLATE * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) > 0  # faces are never flipped
    points = np.random.default_rng(0).normal(TEMPLATE, 3)
    best = np.square(points @ similarity(points)[:, :2].T + similarity(points)[:, 2] - TEMPLATE).sum()
    for index in np.ndindex(2, 2):  # no other rotation and scale is nearer
        for step in (-1e-3, 1e-3):
            a, b = similarity(points)[:, 0] + step * np.eye(2)[index[0]]
            moved = points @ np.array([[a, -b], [b, a]]).T
            assert best < np.square(moved - moved.mean(axis=0) + TEMPLATE.mean(axis=0) - TEMPLATE).sum()


def test_aligned_faces_have_eyes_nose_and_mouth_at_arcfaces_places():
    points = TEMPLATE[:, ::1] * 2 + [40, 10]
    frame = np.zeros((300, 300, 3), np.uint8)
    for x, y in np.rint(points).astype(int):
        frame[y - 2 : y + 3, x - 2 : x + 3] = 255
    face = align(frame, points)[..., 0].astype(float)
    assert face.shape == (112, 112)
    for x, y in TEMPLATE:
        part = face[int(y) - 3 : int(y) + 5, int(x) - 3 : int(x) + 5]
        centre = (np.indices(part.shape) * part).sum(axis=(1, 2)) / part.sum()
        np.testing.assert_allclose(centre + [int(y) - 3, int(x) - 3], [y, x], atol=0.6)


def test_the_five_points_are_eyes_as_seen_nose_and_mouth_corners():
    points = np.random.default_rng(0).normal(size=(4, 68, 2))
    five = five_points(points)
    np.testing.assert_allclose(five[:, 0], points[:, 36:42].mean(axis=1))
    np.testing.assert_allclose(five[:, 1], points[:, 42:48].mean(axis=1))
    np.testing.assert_allclose(five[:, 2:], points[:, [30, 48, 54]])


def test_all_pairs_is_the_mean_of_the_matrix():
    generated, real = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    matrix = torch.stack([cosines(generated[k : k + 1].expand(7, -1), real) for k in range(7)])
    pairs, other = AllPairs(), AllPairs()
    pairs.add(generated[:3], real[:3])
    other.add(generated[3:], real[3:])
    pairs.merge(other)
    assert pairs.mean() == pytest.approx(float(matrix.mean()), abs=1e-12)


@pytest.mark.parametrize("batch", [None, 2])
def test_likeness_is_a_mean_over_aligned_frames(weights, folder, batch):
    metric, one = make(weights, batch=batch), sample(folder, "ann", gone=(3,))
    value = metric.update(one)["csim"]
    assert one.frames == {"csim": FRAMES - 1} and one.excluded == {"csim": 1} and not one.notes
    points = [five_points(track.ibug68()) for track in (one.generated_track(), one.real_track())]
    faces = [[align(frame, own[k]) for k, frame in enumerate(VideoReader(path, fps=25.0)) if k != 3]
             for path, own in zip((one.generated, one.reference), points)]  # fmt: skip
    want = float(cosines(*(embed(metric, own) for own in faces)).mean())
    assert value == pytest.approx(want, abs=1e-6) and -1 < value < 0.999
    assert metric.update(sample(folder, "ann", "real")) == {"csim": 1.0}
    assert metric.compute()["csim"] == pytest.approx((1 + want) / 2)
    assert metric.scored() == {"csim": 2}


def test_vico_compares_all_whole_frames_of_all_clips(weights, folder):
    metric = make(weights, csim_aggregation="vico")
    samples = [sample(folder, "ann"), sample(folder, "bob", detector=False)]
    assert [metric.update(one) for one in samples] == [{}, {}]
    sides = []
    for side in ("generated", "reference"):
        frames = [f for one in samples for f in VideoReader(getattr(one, side), fps=25.0)]
        sides.append(embed(metric, [module._resize(frame) for frame in frames]).double())
    matrix = torch.nn.functional.normalize(sides[0]) @ torch.nn.functional.normalize(sides[1]).T
    assert metric.compute()["csim"] == pytest.approx(float(matrix.mean()), abs=1e-6)
    assert metric.scored() == {"csim": 2} and metric.intervals() == {} and metric.non_finite() == {}
    metric.reset()
    assert metric.compute() == {}
    metric.update(sample(folder, "ann", "real"))
    assert metric.compute()["csim"] < 0.99999  # different frames of one video


def test_without_a_detector_the_middle_is_taken_and_a_note_says_so(weights, folder, monkeypatch):
    metric, one = make(weights), sample(folder, "ann", detector=False)
    cut = []
    monkeypatch.setattr(module, "_middle", lambda frame: cut.append(frame) or frame[:20])
    assert metric.update(one)["csim"] < 1
    assert len(cut) == 2 * FRAMES
    assert one.notes == [
        "CSIM: faces are not aligned but the middle of the frame is taken (no landmarks: the detector is not installed)"
    ]
    monkeypatch.undo()
    frame = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    assert np.array_equal(module._middle(frame), frame[:, 10:50])


def test_where_only_boxes_are_found_a_square_around_them_is_taken(weights, folder):
    """The generated face's box is found at another place than the real one."""
    metric, one = make(weights), sample(folder, "ann")

    def boxes(shift, gone=()):
        corners = np.tile(np.array([[8, 6], [56, 60]], np.float32) + shift, (FRAMES, 1, 1))
        valid = ~np.isin(np.arange(FRAMES), gone)
        corners[~valid] = np.nan
        return LandmarkTrack(corners, valid, valid, (64, 64), "box", "s3fd", "1")

    one.tracker = lambda path, frames: boxes(3.0)
    one.reference_track = lambda: boxes(0.0, gone=(2,))
    value = metric.update(one)["csim"]
    assert one.frames == {"csim": FRAMES - 1} and one.excluded == {"csim": 1}
    assert one.notes == ["CSIM: faces are not aligned but cut out around their boxes (s3fd finds no landmarks)"]
    faces = [[module.around(frame, np.array(box)) for k, frame in enumerate(VideoReader(path, fps=25.0)) if k != 2]
             for path, box in ((one.generated, [11.0, 9, 59, 63]), (one.reference, [8.0, 6, 56, 60]))]  # fmt: skip
    assert value == pytest.approx(float(cosines(*(embed(metric, own) for own in faces)).mean()), abs=1e-6)
    assert metric.definition()["csim"]["alignment"] == module.BOXED


def test_a_square_has_the_longer_side_of_the_box_and_its_middle():
    frame = np.zeros((100, 100, 3), np.uint8) + np.arange(100, dtype=np.uint8)[:, None, None]
    face = module.around(frame, np.array([50.0, 20.0, 70.0, 60.0]))
    assert face.shape == (112, 112, 3)
    assert np.abs(face[:, 56, 0].astype(float) - (20 + np.arange(112) * 40 / 112)).max() < 1
    sides = module.around(frame.transpose(1, 0, 2), np.array([50.0, 20.0, 70.0, 60.0]))
    assert np.abs(sides[56, :, 0].astype(float) - (40 + np.arange(112) * 40 / 112)).max() < 1


def test_the_definition_says_how_the_faces_were_cut_out(weights, folder, monkeypatch):
    metric = make(weights)
    monkeypatch.setattr(metric, "_compare", lambda pairs, found: [1.0] * len(pairs))
    assert metric.uses_landmarks
    metric.update(sample(folder, "ann"))
    assert metric.definition()["csim"]["alignment"] == module.ALIGNED
    metric.reset()  # the next row
    metric.update(sample(folder, "bob", detector=False))
    ways = f"{module.ALIGNED} (1 videos); {module.MIDDLE} (1 videos)"
    assert metric.definition()["csim"]["alignment"] == ways
    metric.prepare()  # the next evaluation
    metric.update(sample(folder, "bob", detector=False))
    assert metric.definition()["csim"]["alignment"] == module.MIDDLE


def test_a_video_without_a_face_is_skipped_and_not_cropped_blindly(weights, folder):
    metric = make(weights)
    with pytest.raises(DataError, match="no frame has a face"):
        metric.update(sample(folder, "ann", gone=tuple(range(FRAMES))))
    assert metric.compute() == {} and metric.scored() == {"csim": 0}


def test_network_aggregation_and_hash_belong_to_the_figure(weights, tmp_path):
    metric = make(weights)
    definition = metric.definitions()["csim"]
    assert label("csim", metric.figures["csim"], definition) == "csim (r50, aligned, higher is better)"
    assert len(definition["weights"]["sha256"]) == 64 and definition["weights"]["published"] is None
    with pytest.raises(
        Unavailable, match=r"weights not found: .*arcface.r50.backbone\.pth \(.*by hand from .*insightface"
    ):
        make_metric("CSIM", weights_dir=tmp_path).prepare()
    torch.save({"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "half.pth")
    with pytest.raises(Unavailable, match=r"half\.pth: ArcFace's IResNet does not fit"):
        make(tmp_path / "half.pth")
