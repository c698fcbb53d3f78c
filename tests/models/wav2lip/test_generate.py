"""Wav2Lip's generation: length, boxes and their smoothing, references, pasting, missing faces, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.drawn_clips import DrawnSource, Speech, make_clip
from helpers.generation_promises import GenerationPromises
from talkingface.clips.source import Source
from talkingface.devices import OnTheWay
from talkingface.errors import MediaError
from talkingface.faces.crop import CropConfig
from talkingface.lipsync.half_face import draw, generate
from talkingface.lipsync.half_face.scene import Scene
from talkingface.models.wav2lip.config import Wav2LipConfig
from talkingface.models.wav2lip.model import Wav2Lip

CROP = {"size": 24, "margin_mode": "relative", "margin": 0.05, "box": "fixed", "rule": "mesh"}
NARROW = {"generator": {"width": 0.125, "discriminator_width": 0.05}, "expert": {"width": 0.05}}


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return build({}).state_dict()


def build(settings) -> Wav2Lip:
    return Wav2Lip(Wav2LipConfig(crop=CROP, **NARROW, inference=settings)).eval()


@pytest.fixture
def model(weights):
    def make(**settings) -> Wav2Lip:
        built = build(settings)
        built.load_state_dict(weights)
        return built

    return make


def redrawn_from(monkeypatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """Notes the target and the reference crop (S, S, 3) of every face that is drawn."""
    seen = []

    def network_input(target, reference, original=draw.network_input):
        seen.extend(zip(target[:, 0].numpy().copy(), reference[:, 0].numpy().copy(), strict=True))
        return original(target, reference)

    monkeypatch.setattr(draw, "network_input", network_input)
    return seen


class TestGeneration(GenerationPromises):
    """Wav2Lip keeps them."""


# -- sound -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [23.976, 25.0, 29.97, 30.0, 60.0])
def test_windows_of_any_frame_rate_follow_the_published_loop(fps):
    columns, starts = 161, []
    while True:  # the published loop
        start = int(len(starts) * 80.0 / fps)
        if start + 16 > columns:
            starts.append(columns - 16)
            break
        starts.append(start)
    assert generate.chunk_starts(len(starts), fps, columns).tolist() == starts
    more = generate.chunk_starts(len(starts) + 3, fps, columns)
    assert more[-4:].tolist() == [columns - 16] * 4  # what the published loop leaves out


def test_an_offset_moves_the_sound_by_frames_of_the_training():
    plain = generate.chunk_starts(20, 25.0, 1000)
    earlier = generate.chunk_starts(20, 25.0, 1000, offset=-1)
    assert earlier[0] == 0 and earlier[1:].tolist() == plain[:-1].tolist()
    fast, moved = (generate.chunk_starts(20, 50.0, 1000, offset) for offset in (0, -1))
    assert moved[2:].tolist() == fast[:-2].tolist()  # 40 ms are two frames there


# -- boxes -------------------------------------------------------------------------------------------------------------


def test_pads_grow_the_box_inside_the_frame(model):
    source = DrawnSource(3)
    plain = Scene.look(model(smooth="none").config, source).boxes
    grown = Scene.look(model(smooth="none", pads=(1, 10, 2, 500)).config, source).boxes
    np.testing.assert_allclose(grown[:, 0], plain[:, 0] - 2)
    np.testing.assert_allclose(grown[:, 1], plain[:, 1] - 1)
    np.testing.assert_allclose(grown[:, 3], np.minimum(plain[:, 3] + 10, 120))
    assert (grown[:, 2] == 128).all()


def test_a_given_box_needs_no_detector(model):
    source = DrawnSource(6)
    source.landmarks = lambda provider=None: pytest.fail("the face is searched although its box is given")
    made = list(model(box=(20, 100, 30, 98), paste="box", feather=0.0).generate(source, Speech(0.24)))
    for index, frame in enumerate(made):
        changed = (frame != source.pictures[index]).any(axis=-1)
        assert changed[20:100, 30:98].mean() > 0.9
        changed[20:100, 30:98] = False
        assert not changed.any()
    with pytest.raises(MediaError, match=r"inference.box \[20, 140, 30, 98\].*128 x 120"):
        list(model(box=(20, 140, 30, 98)).generate(source, Speech(0.2)))


# -- references --------------------------------------------------------------------------------------------------------


def test_by_default_a_frame_is_its_own_reference_as_published(model, monkeypatch):
    seen = redrawn_from(monkeypatch)
    list(model().generate(DrawnSource(8), Speech(0.32)))
    assert len(seen) == 8
    for target, reference in seen:
        np.testing.assert_array_equal(target, reference)


@pytest.mark.parametrize("policy", ["same", "typical", "first"])
def test_a_held_out_frame_never_shows_its_own_mouth(model, monkeypatch, policy):
    seen, source = redrawn_from(monkeypatch), DrawnSource(20)
    source.held_out = True
    list(model(reference=policy).generate(source, Speech(0.8)))
    assert len(seen) == 20
    for number, (_, reference) in enumerate(seen):
        others = [k for k, (target, _) in enumerate(seen) if np.array_equal(target, reference)]
        assert len(others) == 1 and (others[0] < 10) != (number < 10)  # from the other half of the video


def test_a_lone_held_out_frame_is_made_from_its_upper_half(model, monkeypatch):
    seen, source = redrawn_from(monkeypatch), DrawnSource(1)
    source.held_out = True
    list(model().generate(source, Speech(0.2)))
    target, reference = seen[0]
    np.testing.assert_array_equal(target[:12], reference[:12])
    assert not reference[12:].any() and target[12:].any()


def test_a_reference_video_lends_its_typical_face(model, monkeypatch):
    seen, source = redrawn_from(monkeypatch), DrawnSource(8)
    source.reference = other = DrawnSource(24, phase=0.2)
    asked = []
    other.read = lambda indices, read=other.read: asked.extend(indices) or read(indices)
    for held_out in (False, True):
        source.held_out = held_out
        list(model().generate(source, Speech(0.32)))
    assert len(seen) == 16 and all(np.array_equal(face, seen[0][1]) for _, face in seen)
    assert len(set(asked)) == 1
    opening = other.track.opening()
    assert opening[asked[0]] == np.sort(opening)[11]  # of 24
    asked.clear()
    list(model(reference="first").generate(source, Speech(0.1)))
    assert asked == [0]


def test_static_uses_the_first_frame_alone(model):
    source = DrawnSource(12)
    for frame in model(static=True).generate(source, Speech(0.6)):
        np.testing.assert_array_equal(frame[:30], source.pictures[0][:30])


# -- pasting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["box", "lower"])
def test_only_the_face_changes(model, part):
    source, built = DrawnSource(10), model(paste=part)
    boxes = Scene.look(built.config, source).boxes.astype(int)
    order = source.order(12)
    for index, frame in zip(order, built.generate(source, Speech(0.48)), strict=True):
        x1, y1, x2, y2 = boxes[index]
        changed = (frame != source.pictures[index]).any(axis=-1)
        assert changed[(y1 + y2) // 2 : y2, x1:x2].mean() > 0.7
        assert changed[y1 : y1 + (y2 - y1) // 3, x1:x2].any() == (part == "box")
        changed[y1:y2, x1:x2] = False
        assert not changed.any()


# -- boxes without landmarks, rate, scores -----------------------------------------------------------------------------


def test_boxes_alone_are_enough(model):
    """A detector that gives no landmarks: corners of the box as points."""
    source = DrawnSource(8)
    points = source.track.points_px
    source.track.points_px = np.stack([points.min(axis=1), points.max(axis=1)], axis=1)
    source.track.layout = "box"
    source.held_out = True
    assert len(list(model().generate(source, Speech(0.3)))) == 8


def test_the_source_keeps_its_rate_unless_told_otherwise(model):
    assert model().keeps_frame_rate and not model(fps=25).keeps_frame_rate


def test_scores_compare_with_foreign_audio_and_leave_the_model_as_it_was(model, tmp_path, monkeypatch):
    clips = [make_clip(tmp_path, f"a/{k}", 20, CropConfig(**CROP), phase=k / 3) for k in range(2)]
    drawn = {clip.clip_id: DrawnSource(20, phase=k / 3) for k, clip in enumerate(clips)}
    monkeypatch.setattr(Source, "from_clip", classmethod(lambda cls, clip: drawn[clip.clip_id]))
    for clip in clips:
        clip.audio = lambda clip=clip: Speech(0.8).samples * (0.1 if clip.clip_id == "a/0" else 1)
    built = model().train()
    state = {name: value.clone() for name, value in built.state_dict().items()}
    found = built.stage_scores(clips, clips[::-1])
    assert set(found) == {"face_l1", "mouth_l1", "face_l1_shuffled", "mouth_l1_shuffled"}
    assert all(value > 0 for value in found.values())
    assert built.generator.training
    assert all(torch.equal(value, state[name]) for name, value in built.state_dict().items())

    soft, loud = (generate.spectrogram(clip.audio()).max() for clip in clips)
    middle = (loud + soft) / 2

    def redraw(self, faces, references, mel, follows, boxes):
        return OnTheWay(torch.from_numpy(faces if mel.max() > middle else np.zeros_like(faces)))

    monkeypatch.setattr(draw.Drawer, "__call__", redraw)
    one = built.stage_scores(clips[1:], clips[:1])
    assert one["face_l1"] == one["mouth_l1"] == 0 and min(one["face_l1_shuffled"], one["mouth_l1_shuffled"]) > 20
