"""IPLAP's generation: length, what changes in a frame, references, missing faces, memory."""

from __future__ import annotations

import tracemalloc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.drawn_clips import DrawnSource, Speech, make_clip, mesh, speech_then_noise
from helpers.generation_promises import GenerationPromises
from talkingface.clips.source import Audio
from talkingface.devices import OnTheWay
from talkingface.models.iplap import generate as inference
from talkingface.models.iplap import mouth as iplap_mouth
from talkingface.models.iplap import scores as iplap_scores
from talkingface.models.iplap.config import IPLAPConfig
from talkingface.models.iplap.data import POSE
from talkingface.models.iplap.model import IPLAP
from talkingface.models.iplap.points import clip_points
from talkingface.models.iplap.references import select_references
from talkingface.plugin.contract import Drawn
from talkingface.sound.mel import mel_window_start, mel_windows, melspectrogram
from talkingface.streaming import spoken_windows

TINY = {
    "crop": {"size": 32, "margin_mode": "relative", "margin": 0.05, "box": "frame", "rule": "iplap"},
    "landmark": {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 16, "dropout": 0.0, "width": 0.125},
    "renderer": {"width": 0.125, "spade_hidden": 8},
}


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return build({}).state_dict()


def build(settings) -> IPLAP:
    loss = {"reconstruction": "l1_gradient", "w_gan": 0.0, "w_fm": 0.0}
    return IPLAP(IPLAPConfig(**TINY, loss=loss, inference={"nl": 3, "ref_n": 2, **settings})).eval()


@pytest.fixture
def model(weights):
    def make(**settings) -> IPLAP:
        built = build(settings)
        built.load_state_dict(weights)
        return built

    return make


class TestGeneration(GenerationPromises):
    """IPLAP keeps them."""


@pytest.mark.parametrize("mask", ["facemesh", "fan68", "lower"])
def test_only_the_face_changes(model, mask):
    source = DrawnSource(10)
    order = source.order(12)
    for index, frame in zip(order, model(mask=mask).generate(source, Speech(0.48)), strict=True):
        original = source.pictures[index]
        x1, y1, x2, y2 = source.track.points_px[index].min(0).tolist() + source.track.points_px[index].max(0).tolist()
        outside = np.ones(frame.shape[:2], bool)
        outside[int(y1) - 5 : int(y2) + 6, int(x1) - 5 : int(x2) + 6] = False
        np.testing.assert_array_equal(frame[outside], original[outside])
        changed = (frame != original).any(axis=-1)
        assert 0.05 < changed.mean() < 0.6
        if mask == "lower":
            assert not changed[: int(y1 + 0.25 * (y2 - y1))].any()


def test_the_edge_of_the_mask_fades_out_inside_the_box(model):
    source = DrawnSource(4)
    scene = inference.Scene.look(model(), source)
    black, white = np.zeros((120, 128, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    pasted = scene.paste(model(), black, white, 2)[..., 0]
    x1, _, x2, y2 = scene.points.boxes[2].astype(int)
    assert pasted[58, 64] == 255
    assert pasted[y2 - 1].max() < 90 and pasted[:, x1].max() < 90 and pasted[:, x2 - 1].max() < 90


def test_a_still_image_speaks(model):
    made = list(model(reference_policy="other_half").generate(DrawnSource(1), Speech(0.8)))
    assert len(made) == 20
    assert any((frame != made[0]).any() for frame in made)


@pytest.mark.parametrize("held_out", [False, True])
def test_references_never_show_the_target(model, held_out):
    source = DrawnSource(20)
    scene = inference.Scene.look(model(), source)
    asked = []
    source.read = lambda indices, read=source.read: asked.append(list(indices)) or read(indices)
    assert len(inference.reference_groups(model(), source, scene)) == 1
    asked.clear()
    if held_out:  # the evaluation says so
        source.held_out = True
    groups = inference.reference_groups(model(reference_policy="all" if held_out else "other_half"), source, scene)
    assert len(groups) == 2
    for group, frames in zip(groups, asked, strict=True):
        assert not set(np.flatnonzero(group.serves)) & set(frames)
    assert np.all(groups[0].serves ^ groups[1].serves)
    asked.clear()
    source.reference = DrawnSource(9)
    assert len(inference.reference_groups(model(reference_policy="other_half"), source, scene)) == 1
    assert not asked  # another video of the speaker serves, the source itself does not


def test_shared_encoders_give_what_each_window_gives_alone(model):
    built, source = model(), DrawnSource(12)
    scene = inference.Scene.look(built, source)
    with torch.no_grad():
        group = inference.reference_groups(built, source, scene)[0]
        mel, order = melspectrogram(Speech(0.8).samples), source.order(18)
        timeline = iplap_mouth.Timeline.of(scene.points.valid, order, 25.0, 5)
        got = iplap_mouth.predict_content(built, scene.points, timeline, np.arange(18), mel, group)
        chosen = select_references(scene.openness, 3)
        references = torch.from_numpy(scene.points.relative[chosen])[None]
        for k in (0, 7, 17):
            frames = np.arange(k - 2, k + 3)
            pose = torch.from_numpy(scene.points.relative[order[np.clip(frames, 0, 17)]][..., :POSE])[None]
            mels = torch.from_numpy(mel_windows(mel, frames))[None, :, None]
            alone = built.landmark_generator(mels, pose, references[..., :POSE], references[..., POSE:])
            np.testing.assert_allclose(got[k], alone.numpy(), atol=1e-5)


def test_silence_closes_the_mouth(model, monkeypatch):
    source = DrawnSource(12, phase=0.5)
    source.reference = DrawnSource(24)
    audio = Speech(2.0)
    audio.samples[:16000] = 0
    built = model(silence="close")
    scene = inference.Scene.look(built, source)
    with torch.no_grad():
        groups = inference.reference_groups(built, source, scene)
    content = np.full((50, 5, 2, 57), 0.7, np.float32)
    content[..., iplap_scores.LIP_BOTTOM] += 0.1  # wide open
    timeline = iplap_mouth.Timeline.of(scene.points.valid, source.order(50), 25.0, 5)
    monkeypatch.setattr(iplap_mouth, "predict_content", lambda m, p, t, rows, mel, group: content[rows])

    def made(built):
        stretches = iplap_mouth.contents(built, scene.points, timeline, None, groups, audio)
        return np.concatenate([part for _, part in stretches])

    done = made(built)
    wide = np.abs(done[:, 2, 1, iplap_scores.LIP_TOP] - done[:, 2, 1, iplap_scores.LIP_BOTTOM])
    assert wide[5:20].max() < 0.05 and wide[28:32].min() > 0.09
    np.testing.assert_array_equal(made(model()), content)
    whole = made(build({"silence": "close", "smooth": "savgol"}))
    monkeypatch.setattr(iplap_mouth, "CHUNK", 9)  # where stretches end is not to be seen
    np.testing.assert_array_equal(made(built), done)
    np.testing.assert_allclose(made(build({"silence": "close", "smooth": "savgol"})), whole, atol=1e-6)


def test_a_pause_that_is_longer_than_a_window_of_a_stream_is_one():
    samples = speech_then_noise()
    whole = iplap_mouth.silence_gate(Audio(samples), 150, 25.0, -35.0)
    parts = [
        iplap_mouth.silence_gate(window, window.n_frames(), 25.0, -35.0)[window.rows()]
        for _, window in spoken_windows([samples])
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert whole[:45].max() == 0 and whole[56:].min() == 1


def test_fitted_content_follows_the_pose():
    reference = np.stack([mesh(0.0, 0.0)[:131, 0], mesh(0.0, 0.0)[:131, 1]])
    turn = np.array([[0.9, -0.2], [0.1, 1.1]])
    moved = turn @ reference + np.array([[3.0], [-5.0]])
    fitted = iplap_mouth.fit_pose(reference, moved[None, :, :POSE])
    np.testing.assert_allclose(fitted[0], moved[:, POSE:], rtol=1e-4)


def test_smoothing_leaves_gaps_alone_and_removes_jitter():
    rng = np.random.default_rng(0)
    clean = np.sin(np.arange(60) / 9)[:, None]
    noisy = clean + 0.1 * rng.standard_normal((60, 1))
    valid = np.ones(60, bool)
    valid[30] = False
    noisy[30] = np.nan
    smooth = iplap_mouth.smoothed(noisy, valid, 7)
    assert np.isnan(smooth[30])
    assert np.abs(np.diff(smooth[valid], 2, axis=0)).mean() < 0.5 * np.abs(np.diff(noisy[valid], 2, axis=0)).mean()


def test_smoothing_runs_end_to_end(model):
    assert len(list(model(smooth="savgol").generate(DrawnSource(20, gone=(3,)), Speech(1.0)))) == 25


def test_postprocess_sees_the_generated_face(model):
    built, shapes = model(), []
    built.postprocess = lambda face: shapes.append(face.shape) or np.zeros_like(face)
    made = list(built.generate(DrawnSource(6), Speech(0.2)))
    assert shapes == [(32, 32, 3)] * 5 and made[0][58, 64].max() == 0


def test_landmark_scores_compare_with_foreign_audio(model, tmp_path, monkeypatch):
    clips = [make_clip(tmp_path, f"a/{k}", 40, speaker="a", phase=k / 3) for k in range(2)]
    clips.append(make_clip(tmp_path, "b/0", 40, speaker="b", phase=0.6))
    donors = [*clips[1:], clips[0]]
    scores = model().stage_scores(clips, donors)
    names = {"landmark_opening_corr", "landmark_l1"}
    assert set(scores) == names | {f"{name}_shuffled" for name in names}
    training = model().train()
    assert training.stage_scores(clips, donors) == pytest.approx(scores)
    assert training.landmark_generator.training

    voices = [(clip.mel(), clip_points(clip.track(), model().config.crop).relative) for clip in clips]

    def oracle(model, points, timeline, rows, mel, group):
        """Right for a clip's own audio, noise for any other."""
        content = np.repeat(points.relative[timeline.order[rows]][:, None, :, POSE:], 5, axis=1)
        own = any(np.array_equal(mel, m) and np.array_equal(points.relative, r) for m, r in voices)
        return content if own else content[:1] + 0.05 * np.random.default_rng(0).random(content.shape)

    monkeypatch.setattr(iplap_mouth, "predict_content", oracle)
    scores = model().stage_scores(clips, donors)
    assert scores["landmark_opening_corr"] == pytest.approx(1) and scores["landmark_l1"] == 0
    assert abs(scores["landmark_opening_corr_shuffled"]) < 0.5 and scores["landmark_l1_shuffled"] > 0.01


def test_landmark_scores_hold_few_clips_and_read_the_peer_of_a_speaker_once(model, tmp_path, monkeypatch):
    clips = [make_clip(tmp_path, f"a/{k}", 20, speaker="a", phase=k / 9) for k in range(6)]
    read, held, most = type(clips[0]).track, [], []

    def noted(clip):
        track = read(clip)
        held.append(weakref.ref(track))
        most.append(sum(each() is not None for each in held))
        return track

    monkeypatch.setattr(type(clips[0]), "track", noted)
    model().stage_scores(clips, clips[::-1])
    assert len(held) == len(clips) and max(most) <= 4


def test_the_first_other_clip_of_a_speaker_lends_references_for_scores():
    clips = [SimpleNamespace(speaker=name) for name in ("a", "b", "a", "", "a", "")]
    assert iplap_scores._peers(clips) == [2, None, 0, None, 0, None]


def test_memory_does_not_grow_with_the_audio(model, monkeypatch):
    built, sizes, peaks = model(), [], []
    source = DrawnSource(20)
    source.held_out = True  # two groups of references
    encode, rendered = built.landmark_generator.encode_mel, []
    monkeypatch.setattr(built.landmark_generator, "encode_mel", lambda x: sizes.append(len(x)) or encode(x))

    def blank(model, scene, group, pictures, timeline, rows, content, mel):
        rendered.extend(rows)
        return inference.Rendered(
            OnTheWay(torch.zeros(len(rows), 32, 32, 3, dtype=torch.uint8)), np.zeros(0), np.zeros(0)
        )

    monkeypatch.setattr(inference, "render", blank)
    monkeypatch.setattr(inference.Scene, "paste", lambda self, model, picture, face, frame: picture)
    for seconds in (22, 22, 220):  # the first fills caches; two full stretches are the least
        audio = Speech(seconds)
        mel = melspectrogram(audio.samples)
        monkeypatch.setattr(inference, "melspectrogram", lambda samples, mel=mel: mel)
        sizes.clear(), rendered.clear()
        tracemalloc.start()
        made = sum(1 for _ in built.generate(source, audio))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made == 25 * seconds and sorted(rendered) == list(range(made))
        assert max(sizes) <= iplap_mouth.CHUNK + 5 * 20  # what is on the device at once
        assert sum(sizes) < 1.8 * made  # each frame's sound once per group, not for every frame of the other as well
    # Held for the whole audio, the predicted landmarks alone would take 11 MB more, the mel windows 25 MB.
    assert peaks[2] - peaks[1] < 1e6, peaks


def test_the_source_keeps_its_frame_rate_on_request(model):
    def windows(fps, base):
        timeline = iplap_mouth.Timeline.of(np.ones(100, bool), np.arange(100), fps, 5, base)
        rows = np.array([0, 30, 60])
        return timeline.around(rows), timeline.columns(rows)

    around, columns = windows(25.0, None)
    np.testing.assert_array_equal(around[1], [28, 29, 30, 31, 32])
    np.testing.assert_array_equal(columns[1], [mel_window_start(f) for f in range(28, 33)])
    assert columns[0, 0] == mel_window_start(-2)
    around, columns = windows(50.0, 25.0)
    np.testing.assert_array_equal(around[2], [56, 58, 60, 62, 64])  # still 40 ms apart
    assert np.abs(columns[2] - [mel_window_start(f) for f in range(28, 33)]).max() <= 1
    around, columns = windows(30.0, 25.0)
    np.testing.assert_array_equal(around[1], [28, 29, 30, 31, 32])
    assert np.abs(np.diff(columns[1]) - 3.2).max() < 1
    source = DrawnSource(20)
    source.fps = 50.0
    assert model(fps="keep").keeps_frame_rate and not model().keeps_frame_rate
    assert len(list(model(fps="keep").generate(source, Speech(0.4)))) == 20


def test_debug_frames_only_on_request(model):
    for wanted in (True, False):
        built, panes = model(save_debug_video=wanted), []
        source = DrawnSource(6, gone=(1,))
        for made in built.generate(source, Speech(0.2)):
            assert isinstance(made, Drawn) == wanted and Drawn.of(made).frame.shape == (*source.size, 3)
            panes.append(Drawn.of(made).debug)
        if wanted:
            assert {pane.shape for pane in panes} == {(32, 96, 3)}
            assert not panes[1].any() and all(part.any() for part in np.split(panes[2], 3, axis=1))
        else:
            assert panes == [None] * 5
