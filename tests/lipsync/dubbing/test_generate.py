"""Videos of the kind of DINet and LawDNet: what is cut, drawn and pasted, with random networks and with none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from helpers.canonical_faces import CanonicalSource
from helpers.drawn_clips import HEIGHT, WIDTH, DrawnSource, Speech
from helpers.generation_promises import GenerationPromises
from talkingface.errors import DataError
from talkingface.faces.affine import inverse
from talkingface.lipsync.dubbing.config import DubbingConfig, DubbingCropConfig, DubbingInference
from talkingface.lipsync.dubbing.generate import generate, heard_at_frames
from talkingface.lipsync.dubbing.networks import DubbingNetworks
from talkingface.lipsync.dubbing.paste import MouthPaster, box_weights
from talkingface.lipsync.dubbing.scene import FaceScene, chosen, lend, most_closed
from talkingface.media import frame_count
from talkingface.models.dinet.networks.generator import DINetGenerator
from talkingface.networks.dubbing.generator import References
from talkingface.networks.dubbing.geometry import MouthCrop, hard_hole
from talkingface.plugin.configuration import load_config
from talkingface.sound.front_ends import LogMelFrontEnd
from talkingface.streaming import spoken_windows


class Dubber(DubbingNetworks):
    """Networks of the least width, as a model."""

    def __init__(self, width: int = 40, kind: str = "upright", **inference):
        super().__init__()
        crop = DubbingCropConfig(width=width, kind=kind)
        self.config = DubbingConfig(crop=crop, inference=DubbingInference(**inference))
        torch.manual_seed(0)
        self.generator = DINetGenerator(width=1 / 64)
        self.front_end = LogMelFrontEnd()
        self.eval()

    def hole(self, crop):
        return hard_hole(crop)

    def generate(self, source, audio):
        return generate(self, source, audio)


class TrueFaces(Dubber):
    """Draws what is there, or its negative."""

    negative = False

    def redraw(self, faces, known, audio):
        return torch.from_numpy(255 - faces if self.negative else faces)


@pytest.fixture
def model():
    return lambda **inference: Dubber(**inference)


class TestGeneration(GenerationPromises):
    """Length, missing faces, batches, memory, precision."""


@pytest.mark.parametrize("colour", ["keep", "match"])
@pytest.mark.parametrize(("kind", "roll"), [("upright", 0), ("frontal", 25)])
def test_true_crops_paste_to_within_one_grey_level(kind, roll, colour):
    source = CanonicalSource(6, roll=roll)
    source.pictures = [gaussian_filter(p.astype(float), (6, 6, 0)).astype(np.uint8) for p in source.pictures]
    for made, true in zip(TrueFaces(160, kind, colour=colour).generate(source, Speech(0.24)), source.pictures):
        assert np.abs(made.astype(int) - true).max() <= 1


def test_fine_detail_of_true_crops_survives_the_way_back():
    """Pasted plainly, most of it is blurred away: the rounds of `paste_rounds` bring it back."""
    off = {}
    for rounds in (0, 3):
        source = CanonicalSource(3)
        noise = np.random.default_rng(0).normal(0, 1, source.pictures[0].shape)
        picture = np.rint(128 + 100 * gaussian_filter(noise, (1, 1, 0))).clip(0, 255).astype(np.uint8)
        source.pictures = [picture] * 3
        made = np.stack(list(TrueFaces(160, paste_rounds=rounds).generate(source, Speech(0.12))))
        error = np.abs(made.astype(int) - picture)
        off[rounds] = error[error.any(axis=-1)]
    assert off[0].mean() > 3 * off[3].mean() and off[3].max() <= 2


@pytest.mark.parametrize("larger", [1, 2])
def test_no_hole_where_the_frame_shows_the_face_larger_and_nothing_changes_outside_the_box(larger):
    source, model = DrawnSource(3), TrueFaces(40)
    source.size = (larger * HEIGHT, larger * WIDTH)
    source.track = replace(source.track, points_px=larger * source.track.points_px, size=source.size)
    source.pictures = [np.full((*source.size, 3), 40, np.uint8)] * 3
    model.negative = True
    (made, *_), scene = list(model.generate(source, Speech(0.12))), FaceScene.look(model.config.crop, source)
    scale = 1 / scene.matrices[0, 0, 0]
    assert scale > 1.2 * larger
    changed = (made != 40).all(axis=-1)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert box.mean() > 0.95 and (made[changed].min(), made[changed].max()) == (41, 215)
    assert max(len(rows), len(columns)) <= 32 * scale + 4
    assert (made[~changed] == 40).all()


def test_scattered_crops_have_holes_where_the_face_is_larger_and_cover_more_than_the_mouth():
    made = {}
    for paste in ("warp", "scatter"):
        source, model = DrawnSource(1), TrueFaces(40, paste=paste)
        source.pictures = [np.full((HEIGHT, WIDTH, 3), 40, np.uint8)]
        model.negative = True
        (made[paste],) = model.generate(source, Speech(0.04))
        matrix = FaceScene.look(model.config.crop, source).matrices[0]
    changed = (made["scatter"] != 40).all(axis=-1)
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert 0.3 < box.mean() < 0.8 and np.abs(box.mean() - matrix[0, 0] ** 2) < 0.05
    assert set(made["scatter"][changed].ravel()) == {215}
    assert rows[-1] - rows[0] > 1.4 * np.ptp(np.flatnonzero((made["warp"] != 40).any(axis=(1, 2))))


@pytest.mark.parametrize(
    ("name", "compat", "paste", "pasting"),
    [
        ("LawDNet", "corrected", None, "warp"),
        ("LawDNet", "published", None, "scatter"),
        ("LawDNet", "published", "warp", "warp"),
        ("LawDNet", "corrected", "scatter", "scatter"),
        ("DINet", "published", None, "warp"),
    ],
)
def test_the_way_back_follows_compat_unless_it_is_chosen(name, compat, paste, pasting):
    changes = {"profile": "tiny", "model.compat": compat, "model.inference.paste": paste}
    assert load_config(name, "folder", (), changes).config.model.pasting == pasting


def test_a_hole_is_made_once_for_each_size_and_serves_in_training_after_generation(monkeypatch):
    model, made = Dubber(), []
    monkeypatch.setattr(model, "hole", lambda crop: made.append(crop) or hard_hole(crop))
    for mouth in (32, 64, 32):
        crop = MouthCrop(mouth)
        with torch.inference_mode():
            hole = model.hole_in(torch.zeros(2, 3, crop.height, crop.width))
        assert torch.equal(hole, hard_hole(crop)) and not hole.is_inference()
    assert made == [MouthCrop(32), MouthCrop(64)]


def test_colours_are_matched_around_the_box_and_followed_over_time():
    crop = MouthCrop(64)
    true = np.full((crop.height, crop.width, 3), 120, np.uint8)
    drawn, matrix = true - np.array([20, 0, 10], np.uint8), np.eye(3)[:2]
    paster = MouthPaster(crop, DubbingInference(colour="match"))
    np.testing.assert_allclose(paster.paste(true, drawn, true, matrix, 0), true, atol=1)
    later = paster.paste(true, true, true, matrix, 1)
    assert later[60, 40].tolist() == [136, 120, 128], "four fifths of the shift remain"
    light = true + np.uint8(90)
    np.testing.assert_array_equal(paster.paste(light, light, light, matrix, 2), light, "another shot")
    kept = MouthPaster(crop, DubbingInference()).paste(true, drawn, true, matrix, 0)
    assert kept[60, 40].tolist() == [100, 120, 110]


def test_the_box_follows_its_scale_and_stays_inside_the_crop():
    crop = MouthCrop(64)
    weights = box_weights(crop, 1.0, 6.4)
    rows, columns = np.nonzero(weights)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 95, 8, 71)
    assert weights[64, 40] == 1 and 0 < weights[33, 40] < 0.2
    large = box_weights(crop, 1.2, 6.4)
    assert (large > 0).sum() > (weights > 0).sum() and not large[-1].any() and not large[:, 0].any()


def test_references_spread_from_the_closed_to_the_open_mouth():
    openings = np.array([5.0, 1, 9, 3, 7, 2, 8, 4, 6, 0, np.nan])
    frames = chosen(np.arange(9), openings, DubbingInference(), "a.mp4")
    assert openings[frames].tolist() == [1, 3, 5, 7, 9]
    few = chosen(np.array([2, 3]), openings, DubbingInference(), "a.mp4")
    assert len(few) == 5 and set(few) == {2, 3}
    random = [
        chosen(np.arange(9), openings, DubbingInference(references="random", seed=s), "a").tolist() for s in (1, 1, 2)
    ]
    assert random[0] == random[1] != random[2]
    assert chosen(np.arange(9), openings, DubbingInference(references=(8, 1, 2, 3, 1)), "a").tolist() == [8, 1, 2, 3, 1]
    with pytest.raises(DataError, match="a.mp4: model.inference.references names frame 9"):
        chosen(np.arange(9), openings, DubbingInference(references=(1, 2, 3, 4, 9)), "a.mp4")


def test_a_video_that_is_compared_with_itself_never_lends_a_frame_its_own_half():
    source, crop = DrawnSource(20), DubbingCropConfig(width=40)
    source.held_out = True
    for index, picture in enumerate(source.pictures):
        picture[:] = 10 * index
    halves = lend(FaceScene.look(crop, source), source, DubbingInference())
    for lent in halves:
        middles = set(lent.faces[:, 26, 20, 0] // 10)
        assert not lent.alone and middles.isdisjoint(np.flatnonzero(lent.serves))
    alone = DrawnSource(1)
    alone.held_out = True
    assert any(lent.alone for lent in lend(FaceScene.look(crop, alone), alone, DubbingInference()))


def test_a_mouth_that_must_not_be_seen_has_no_effect():
    made = []
    for shade in (0, 255):
        source, model = DrawnSource(1), Dubber()
        source.held_out = True
        scene = FaceScene.look(model.config.crop, source)
        inside = np.rint(np.linalg.inv(np.vstack([scene.matrices[0], [0, 0, 1]])) @ [20, 32, 1]).astype(int)
        source.pictures[0][inside[1], inside[0]] = shade
        made.append(next(iter(model.generate(source, Speech(0.04)))))
    assert (made[0] == made[1]).all()


def test_rows_equal_frames_whatever_the_length_of_the_sound():
    for samples in (1, 640, 16000, 16160, 16001):
        heard = heard_at_frames(LogMelFrontEnd(), np.zeros(samples, np.float32), 25)
        assert heard.shape == (25, 29, 5) and np.isfinite(heard).all()


def test_lengths_from_one_to_three_seconds_have_all_their_frames_whatever_the_batch():
    source = DrawnSource(4, gone=(1, 2, 3))  # one frame in eight is drawn: the count does not ask which
    models = [TrueFaces(batch=size) for size in (1, 7, 20)]
    for hundredths in range(100, 301):
        speech = Speech(hundredths / 100)
        made = sum(1 for _ in models[hundredths % 3].generate(source, speech))
        assert made == frame_count(speech.duration) and abs(made - hundredths / 4) <= 0.5


class Pointing(Dubber):
    """Draws the mean of its references, so that a video tells which ones were shown."""

    def known(self, references):
        return References(torch.tensor(references.mean()), torch.tensor(0.0))

    def redraw(self, faces, known, audio):
        return torch.full(faces.shape, float(known.maps), dtype=torch.float32).to(torch.uint8)


def test_the_debug_video_shows_the_crop_hidden_drawn_and_true():
    source, model = DrawnSource(3, gone=(1,)), TrueFaces(40, save_debug_video=True)
    model.negative = True
    made = list(model.generate(source, Speech(0.12)))
    assert [each.debug.shape for each in made] == [(52, 120, 3)] * 3 and not made[1].debug.any()
    hidden, drawn, true = np.split(made[0].debug, 3, axis=1)
    assert (drawn == 255 - true).all() and not hidden[16:48, 4:36].any()
    np.testing.assert_array_equal(hidden[:16], true[:16])


def test_a_kept_face_is_encoded_once_for_all_that_it_says(monkeypatch):
    source, model, encoded = DrawnSource(20), Dubber(), []
    source.prepared = {}
    monkeypatch.setattr(model, "known", lambda faces, known=model.known: encoded.append(len(faces)) or known(faces))
    for _ in range(2):
        pieces = (Speech(1.5).samples[start : start + 1000] for start in range(0, 24000, 1000))
        frames = [list(model.generate(source.starting_at(first), part)) for first, part in spoken_windows(pieces)]
        assert sum(map(len, frames)) == 38
    assert encoded == [5]


def test_mouths_are_shut_in_pauses_on_request():
    made, speech = {}, Speech(2.0)
    speech.samples[16000:] = 0
    for silence in ("keep", "close"):
        source, model = DrawnSource(20), Pointing(silence=silence)
        for index, picture in enumerate(source.pictures):
            picture[:] = 20 + 10 * index
        scene = FaceScene.look(model.config.crop, source)
        x, y = np.rint(inverse(scene.matrices[0]) @ [20, 32, 1]).astype(int)
        made[silence] = [int(frame[y, x, 0]) for frame in model.generate(source, speech)]
        (closed,) = lend(scene, source, model.config.inference, shut=True)
    assert len(set(made["keep"])) == 1
    assert made["close"][:20] == made["keep"][:20]
    assert set(made["close"][35:]) == {int(closed.faces.mean())} != set(made["keep"])
    source.prepared = {}
    pieces = (speech.samples[start : start + 1000] for start in range(0, 32000, 1000))
    parts = [list(model.generate(source.starting_at(first), part)) for first, part in spoken_windows(pieces)]
    streamed = [int(frame[y, x, 0]) for part in parts for frame in part]
    assert streamed == made["close"], "the loudest until now is the loudest of all"
    assert most_closed(np.arange(4), np.array([3.0, 1, 2, 0])).tolist() == [3, 1, 2, 0, 3]
