"""Windows of Wav2Lip: which frames, which sound, which reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.drawn_clips import make_clip
from talkingface.clips.folder import ClipFolder
from talkingface.clips.windows import window_starts
from talkingface.errors import DataError
from talkingface.lipsync.expert.inputs import MEL
from talkingface.lipsync.half_face.data import FaceWindows, sounding_starts
from talkingface.lipsync.half_face.pixels import network_faces, network_input
from talkingface.models.wav2lip.config import Wav2LipConfig

CONFIG = Wav2LipConfig(crop={"size": 24, "margin_mode": "relative", "margin": 0.05, "box": "fixed", "rule": "mesh"})


def clip(root, clip_id: str, count: int = 40, **more):
    return make_clip(root, clip_id, count, CONFIG.crop, mel=MEL, **more)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("wav2lip")
    return [clip(root, "a/0"), clip(root, "a/1", 30, phase=0.3)]


def windows(clips, split="train", **options) -> FaceWindows:
    return FaceWindows(clips, split, options, CONFIG, 3)


def frame_of(face: np.ndarray, faces: np.ndarray) -> int:
    """Which of the crops of a clip a face is; no two are equal."""
    (found,) = np.flatnonzero((faces == face).all(axis=(1, 2, 3)))
    return int(found)


def test_a_window_never_starts_at_frame_0_and_all_its_sound_is_there():
    starts = window_starts(np.ones(30, bool), 5)
    assert starts.tolist() == list(range(26))
    # 80 columns: frame s itself needs columns up to int(3.2 s) + 16, its last one those up to int(3.2 (s + 3)) + 16
    assert sounding_starts(starts, 5, range(80)).tolist() == list(range(1, 18))
    assert sounding_starts(starts, 1, range(80)).tolist() == list(range(1, 21))


def test_no_sound_of_a_frame_is_the_silence_of_a_moved_one(clips):
    def span(moved: int) -> tuple[int, int]:
        some = ClipFolder(clips[0].path)
        some.meta["steps"]["audio"] = {"facts": {"moved_frames": moved}}
        starts = windows([some])._read_arrays(some).starts
        return int(starts[0]), int(starts[-1])

    # 129 columns; five frames of silence spoil 18 of them, and the sound of a frame begins a frame earlier.
    assert (span(0), span(5), span(-5)) == ((1, 32), (7, 32), (1, 26))


@pytest.mark.parametrize("frames", [5, 1])
def test_an_item_is_what_the_clip_holds(clips, frames):
    data = windows(clips[:1], frames=frames)
    faces, mel = clips[0].faces(CONFIG.crop.artefact).read(range(40)), clips[0].mel(MEL)
    seen = set()
    for key in range(60):
        item = data[key]
        assert item["target"].dtype == item["reference"].dtype == np.uint8
        start, reference = frame_of(item["target"][0], faces), frame_of(item["reference"][0], faces)
        seen.add(start)
        assert start >= 1 and start != reference
        np.testing.assert_array_equal(item["target"], faces[start : start + frames])
        np.testing.assert_array_equal(item["reference"], faces[reference : reference + frames])
        assert item["mels"].shape == (frames, 1, 80, 16) and item["mels"].dtype == np.float32
        for k in range(frames):
            first = int(80 * (start + k - 1) / 25)
            np.testing.assert_array_equal(item["mels"][k, 0], mel[:, first : first + 16])
        first = int(80 * start / 25)
        np.testing.assert_array_equal(item["mel"][0, 0], mel[:, first : first + 16])
    assert len(seen) > 20


def test_the_reference_may_overlap_the_window_unless_told_otherwise(clips):
    faces = clips[0].faces(CONFIG.crop.artefact).read(range(40))

    def nearest(**options) -> int:
        data = windows(clips[:1], **options)
        pairs = [(data[key]["target"][0], data[key]["reference"][0]) for key in range(80)]
        return min(abs(frame_of(a, faces) - frame_of(b, faces)) for a, b in pairs)

    assert 1 <= nearest() < 5 <= nearest(exclude_overlap=True)


def test_the_network_sees_the_upper_half_and_the_whole_reference_in_bgr(clips):
    item = windows(clips[:1])[3]
    target, reference = (torch.from_numpy(item[name])[None] for name in ("target", "reference"))
    x = network_input(target, reference)
    assert x.shape == (1, 6, 5, 24, 24)
    assert not x[:, :3, :, 12:].any()
    for k in range(5):
        blue_first = item["target"][k, :12, :, ::-1].astype(np.float32).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(x[0, :3, k, :12].numpy(), blue_first)
        np.testing.assert_allclose(x[0, 3:, k].numpy(), item["reference"][k, ..., ::-1].transpose(2, 0, 1) / 255.0)
    assert network_faces(target)[:, :, :, 12:].any()  # the truth itself is not masked


def test_clips_that_cannot_serve_are_named(tmp_path, clips):
    short = clip(tmp_path, "b/0", 15)
    gaps = clip(tmp_path, "b/1", 30, gone=tuple(range(0, 30, 4)))
    lonely = clip(tmp_path, "b/2", 24, gone=tuple(range(7, 24)))
    data = windows([*clips, short, gaps])
    assert [c.clip_id for c in data.clips] == ["a/0", "a/1"]
    assert dict(data.rejected) == {
        "b/0": "shorter than 16 frames",
        "b/1": "no 5 consecutive frames with a face and sound",
    }
    assert len(windows([gaps], frames=1)) == 1
    assert len(windows([lonely])) == 1
    with pytest.raises(DataError, match="no second window of 5 frames"):
        windows([lonely], exclude_overlap=True)


def test_faces_cut_for_other_settings_are_refused(clips):
    other = CONFIG.model_copy(update={"crop": CONFIG.crop.model_copy(update={"margin": 0.2})})
    with pytest.raises(DataError, match="faces were cut with margin 0.05, the model wants margin 0.2"):
        FaceWindows(clips, "train", {}, other, 3)


def test_items_depend_on_seed_and_key_alone(clips):
    first, second = windows(clips), windows(clips)
    _ = second[9]
    for name, value in first[4].items():
        np.testing.assert_array_equal(value, second[4][name])
    later = first[4 + len(first)]
    assert any(not np.array_equal(value, later[name]) for name, value in first[4].items())


def test_a_stretch_is_consecutive_and_has_one_reference(clips):
    faces = clips[0].faces(CONFIG.crop.artefact).read(range(40))
    items = windows(clips, "val").stretch(20)
    shown = [frame_of(face, faces) for item in items for face in item["target"]]
    assert shown == list(range(1, 21))
    references = {frame_of(item["reference"][0], faces) for item in items}
    assert len(references) == 1 and not references & set(shown)
