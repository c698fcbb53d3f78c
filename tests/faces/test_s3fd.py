"""The S3FD detector around its network: batches, memory, weights, and the boxes as a landmark provider."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from talkingface import devices
from talkingface.config.sections import LandmarkConfig, PreprocessConfig
from talkingface.errors import CheckpointError, DataError
from talkingface.faces.crop import CropConfig, contour_mask, face_boxes
from talkingface.faces.detectors import Place, make_provider
from talkingface.faces.s3fd import S3FDDetector, suppress
from talkingface.faces.track import LandmarkTrack, track_faces
from talkingface.networks.s3fd import S3FD, STRIDES
from talkingface.preprocess.steps import LandmarksStep


class BrightSpots(torch.nn.Module):
    """Stands in for the network: bright cells of 16 pixels are faces of 64 pixels, the brighter the surer."""

    def __init__(self, room: int = 10**9) -> None:
        super().__init__()
        self.room, self.calls = room, []

    def forward(self, images):
        self.calls.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        heads = []
        for stride in STRIDES:
            gray = F.avg_pool2d(images.mean(dim=1, keepdim=True), stride, ceil_mode=True)
            face = (gray - 50) / 10 if stride == 16 else torch.full_like(gray, -9)
            heads += [torch.cat([torch.zeros_like(face), face], dim=1), torch.zeros(len(face), 4, *face.shape[2:])]
        return heads


def spots(*cells: tuple[int, int, int], size: tuple[int, int] = (160, 192)) -> np.ndarray:
    """A black picture with bright cells (row, column, brightness)."""
    picture = np.zeros((*size, 3), np.uint8)
    for row, column, value in cells:
        picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = value
    return picture


def pictures() -> list[np.ndarray]:
    return [spots((2, k % 8 + 2, 250), *([(8, 9, 240)] if k % 3 == 0 else [])) for k in range(7)]


def test_boxes_have_the_anchors_size_and_the_surest_comes_first():
    (boxes,) = S3FDDetector(BrightSpots()).detect([spots((2, 3, 240), (8, 9, 250))])
    np.testing.assert_allclose(boxes[:, :4], [[120, 104, 184, 168], [24, 8, 88, 72]])
    assert boxes[0, 4] > boxes[1, 4] > 0.9


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_boxes_do_not_depend_on_the_batch(batch):
    alone = [S3FDDetector(BrightSpots()).detect([picture])[0] for picture in pictures()]
    together = S3FDDetector(BrightSpots(), batch=batch).detect(pictures())
    assert [len(boxes) for boxes in together] == [2, 1, 1, 2, 1, 1, 2]
    for one, other in zip(alone, together):
        np.testing.assert_array_equal(one, other)


def test_pictures_of_several_sizes_keep_their_order():
    mixed = [spots((2, 3, 250)), spots((1, 1, 250), size=(96, 96)), spots((2, 3, 250)), spots()]
    found = S3FDDetector(BrightSpots()).detect(mixed)
    assert [boxes[:, :2].tolist() for boxes in found] == [[[24, 8]], [[-8, -8]], [[24, 8]], []]


def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits_and_that_is_remembered():
    network = BrightSpots(room=2)
    detector = S3FDDetector(network, batch=7)
    for picture, boxes in zip(pictures(), detector.detect(pictures())):
        np.testing.assert_array_equal(boxes, S3FDDetector(BrightSpots()).detect([picture])[0])
    assert network.calls == [7, 3, 1] + [1] * 6
    network.calls.clear()
    detector.detect(pictures()[:2])
    assert network.calls == [1, 1]
    with pytest.raises(DataError, match="one picture of 192x160"):
        S3FDDetector(BrightSpots(room=0)).detect(pictures())


def test_large_pictures_go_in_smaller_batches():
    network = BrightSpots()
    S3FDDetector(network).detect([np.zeros((720, 1280, 3), np.uint8)] * 3)
    assert network.calls == [2, 1]


def test_tiny_pictures_are_enlarged_and_their_boxes_fit_them():
    picture = np.zeros((16, 20, 3), np.uint8)
    picture[:8, :8] = 255
    (boxes,) = S3FDDetector(BrightSpots()).detect([picture])
    np.testing.assert_allclose(boxes[0, :4], [-12, -12, 20, 20])  # the anchor at (8, 8) of the doubled picture


def test_suppression_counts_one_pixel_more():
    a, b = [0.0, 0.0, 9.0, 9.0, 0.9], [5.0, 0.0, 14.0, 9.0, 0.8]  # 10x10 pixels each, 5 columns in common
    boxes = np.array([a, b])
    assert len(suppress(boxes, 50 / 150 + 1e-9)) == 2
    np.testing.assert_array_equal(suppress(boxes, 50 / 150 - 1e-9), boxes[:1])
    assert suppress(boxes[:0]).shape == (0, 5)


def test_a_box_that_was_removed_removes_nothing():
    chain = np.array([[0, 0, 99, 99, 0.9], [40, 0, 139, 99, 0.8], [80, 0, 179, 99, 0.7]], np.float32)
    np.testing.assert_array_equal(suppress(chain, 0.3), chain[[0, 2]])


@pytest.fixture
def weights(tmp_path):
    """A file of the published layout: the coarsest level sees a face of 69 pixels in every cell."""
    state = {key: torch.zeros(()).expand(value.shape) for key, value in S3FD().state_dict().items()}
    state["conv7_2_mbox_conf.bias"] = torch.tensor([0.0, 5.0])
    state["conv7_2_mbox_loc.bias"] = torch.tensor([0.0, 0.0, -10.0, -10.0])
    torch.save(state, tmp_path / "s3fd-619a316812.pth")
    return tmp_path / "s3fd-619a316812.pth"


def test_published_weights_are_loaded_entry_by_entry(weights, tmp_path):
    boxes = S3FDDetector.load(weights).detect([spots(size=(128, 128))])[0]
    half = 256 * np.exp(-2)
    assert len(boxes) == 4
    np.testing.assert_allclose(boxes[0, :4], [64 - half, 64 - half, 64 + half, 64 + half], rtol=1e-6)
    torch.save({"conv1_1.bias": torch.zeros(64)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: S3FD does not fit: 64 missing: conv1_1\.weight"):
        S3FDDetector.load(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list\.pth: expected the weights of S3FD"):
        S3FDDetector.load(tmp_path / "list.pth")


def test_missing_weights_are_named_with_their_source_and_the_command(tmp_path):
    with pytest.raises(
        DataError, match=r"none\.pth: .*https://.*s3fd-619a316812\.pth.*weights --download=s3fd"
    ) as found:
        make_provider("s3fd", model_path=str(tmp_path / "none.pth"))
    assert "\n" not in str(found.value)


def test_face_boxes_give_the_detectors_boxes_back(weights):
    provider = make_provider("s3fd", mode="tracking", max_faces=1, model_path=str(weights))
    assert provider.layout == "box" and provider.version.startswith("s3fd-619a316812.pth, sha256 ")
    track = track_faces([spots(size=(128, 128))] * 3, provider)
    half = 256 * np.exp(-2)
    for rule in ("iplap", "mesh"):
        boxes = face_boxes(track.points_px, track.size, CropConfig(margin=0, rule=rule))
        np.testing.assert_allclose(boxes, [[64 - half, 64 - half, 64 + half, 64 + half]] * 3, rtol=1e-6)
    assert make_provider("s3fd", model_path=str(weights))._detector is provider._detector, "loaded once"


def test_a_smaller_picture_is_searched_only_where_it_is_asked_for(weights, monkeypatch):
    seen = []

    def detect(self, frames, least, most):
        seen.append([frame.shape[:2] for frame in frames])
        return [np.array([[10.0, 20.0, 30.0, 60.0, 0.9]]) for _ in frames]

    monkeypatch.setattr(S3FDDetector, "detect", detect)
    frames = [np.zeros((480, 640, 3), np.uint8), np.zeros((100, 90, 3), np.uint8)]
    found = []
    for side in (None, 160):
        provider = make_provider("s3fd", model_path=str(weights), detect_side=side)
        found.append([boxes[0].tolist() for boxes in provider.detect_batch(frames)])
    assert seen == [[(480, 640), (100, 90)], [(120, 160), (100, 90)]]
    small = [[10, 20], [30, 60]]
    assert found == [[small, small], [[[40, 80], [120, 240]], small]]


def test_landmarks_of_before_are_not_made_again_for_a_setting_that_is_off():
    assert "detect_side" not in LandmarkConfig().as_recorded()
    assert LandmarkConfig(detect_side=320).as_recorded()["detect_side"] == 320


def test_other_weights_at_the_published_place_are_refused_unless_they_are_named(weights):
    with pytest.raises(DataError, match=r"not the published file .*your own weights with preprocess\.landmarks\.model"):
        make_provider("s3fd", place=Place(str(weights.parent)))
    assert make_provider("s3fd", place=Place(str(weights.parent)), model_path=str(weights)).name == "s3fd"


def test_the_detector_runs_where_the_configuration_says(weights, monkeypatch):
    asked = []
    monkeypatch.setattr("talkingface.preprocess.step._RESOURCES", {})
    monkeypatch.setattr(devices, "resolve_device", lambda name: asked.append(name) or "cpu")
    make_provider("s3fd", model_path=str(weights), place=Place(device="cuda:1"))
    settings = PreprocessConfig(landmarks=LandmarkConfig(provider="s3fd", model_path=str(weights)))
    steps = [LandmarksStep("landmarks", {}, settings) for _ in range(2)]
    steps[1].bind(SimpleNamespace(weights_dir="/w", device="mps"))
    for step in steps:
        step.provider()
    assert asked == ["cuda:1", "auto", "mps"]
    assert steps[0].params == steps[1].params, "no clip is prepared again for another device"


class Blinking:
    """A provider of boxes that is asked for several frames at once; every third frame it sees nothing."""

    name, version, layout, batch = "s3fd", "1", "box", 4

    def __init__(self) -> None:
        self.groups = []

    def detect(self, frame):
        raise AssertionError("frames must come in groups")

    def detect_batch(self, frames):
        self.groups.append(len(frames))
        return [
            []
            if n % 3 == 2
            else [np.array([[n, 0], [n + 20, 20]], np.float32), np.array([[0, 0], [60, 60]], np.float32)]
            for n in (int(frame[0, 0, 0]) for frame in frames)
        ]


def test_a_provider_with_batches_gets_them_and_gaps_are_bridged():
    frames = [np.full((80, 100, 3), n, np.uint8) for n in range(10)]
    provider = Blinking()
    track = track_faces(iter(frames), provider, pick="first")
    assert provider.groups == [4, 4, 2]
    assert track.found.tolist() == [n % 3 != 2 for n in range(10)] and track.valid.all()
    np.testing.assert_allclose(track.points_px[:, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    largest = track_faces(iter(frames), Blinking(), pick="largest")
    np.testing.assert_allclose(largest.points_px[:, 1], np.full((10, 2), 60))


def test_boxes_say_in_one_line_that_they_are_no_landmarks():
    from talkingface.evaluation.rows import median_frame
    from talkingface.faces.regions import region_boxes
    from talkingface.lipsync.mouth_motion import opening

    points = np.tile(np.array([[10, 20], [50, 70]], np.float32), (5, 1, 1))
    found = np.array([1, 1, 0, 1, 1], bool)
    track = LandmarkTrack(points, found, np.ones(5, bool), (90, 90), "box", "s3fd", "1")
    for needs_points in (track.opening, track.ibug68, lambda: opening(track), lambda: region_boxes(track, "mouth")):
        with pytest.raises(
            DataError, match=r"'s3fd', which finds face boxes only; use preprocess\.landmarks\.provider"
        ):
            needs_points()
    for kind in ("facemesh", "fan68"):
        with pytest.raises(DataError, match="got 2"):
            contour_mask(points[0], (90, 90), kind=kind)
    np.testing.assert_array_equal(region_boxes(track, "face"), [[10, 20, 50, 70]] * 5)
    assert median_frame(track) == 1
