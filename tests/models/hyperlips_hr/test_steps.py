"""Base's faces of a clip: drawn as in use, to the clip's own sound, by the weights that are meant."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.clips import write_clip
from helpers.drawn_clips import make_clip
from talkingface.clips.face_store import FaceStore, FaceWriter
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import CheckpointError
from talkingface.faces.parsing import WEIGHTS
from talkingface.lipsync.expert.inputs import MEL
from talkingface.media import write_wav
from talkingface.models.hyperlips_hr.model import HyperLipsHR
from talkingface.models.hyperlips_hr.steps import HyperStep, _references
from talkingface.plugin.registry import get_spec
from talkingface.preprocess.step import Rejected
from talkingface.weights.hashes import weights_hash
from talkingface.weights.published import locate

from .conftest import BASE, hr_config


@pytest.fixture(scope="module")
def lent(tmp_path_factory):
    """A bare file of Base's generator, and its hash."""
    torch.manual_seed(2)
    base = get_spec("HyperLipsBase").model(hr_config().base)
    base.train()
    for _ in range(3):
        base.generator(torch.randn(8, 1, 80, 16), torch.rand(8, 6, 32, 32))
    path = tmp_path_factory.mktemp("lent") / "base.pth"
    torch.save({"state_dict": base.generator.state_dict()}, path)
    return path, weights_hash(base.generator.state_dict())


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips"), "a/0", 24, hr_config().crop, mel=MEL, gone=(5,))


def step(lent, artefact: str = "hyper@raw", inference=None, **changes) -> HyperStep:
    path, weights = lent
    hyper, base = {"source": artefact[6:].split("+")[0]}, {**BASE, "inference": inference or {}}
    config = hr_config(base_weights=changes.get("weights", weights), hyper=hyper, base=base)
    made = HyperStep(artefact, HyperLipsHR.step_settings(config)[artefact], PreprocessConfig(storage="npy"))
    places = {"weights_dir": "checkpoints", "device": "cpu", **changes}
    made.bind(SimpleNamespace(experts={"generator": str(path)}, **places))
    return made


def made(step: HyperStep, clip, tmp_path) -> FaceStore:
    files = step.run(SimpleNamespace(clip=clip, scratch=tmp_path, item=SimpleNamespace(video=None)))
    assert all((tmp_path / file).is_file() for file in files)
    return FaceStore(tmp_path, step.artefact)


def test_every_face_is_drawn_to_its_own_sound_or_to_that_of_the_next_frame(lent, clip, tmp_path):
    raw, shifted = (made(step(lent, name), clip, tmp_path) for name in ("hyper@raw", "hyper@raw+1"))
    np.testing.assert_array_equal(raw.valid, np.arange(24) != 5)
    assert raw.size == 32 and (raw[8] != shifted[8]).any()
    assert (raw[8] != clip.faces(hr_config().crop.artefact)[8]).any()


def test_in_a_video_faces_are_drawn_to_the_sound_of_the_next_frame_too(lent, tmp_path, monkeypatch):
    clip = make_clip(tmp_path, "a/0", 24, hr_config().crop, mel=MEL)
    heard = []

    def told(base, source, audio):
        """Frames as bright as their sound, which is what is heard of it."""
        heard.append(audio.samples)
        for k in range(audio.n_frames()):
            yield np.full((*source.size, 3), round(255 * audio.samples[640 * k]), np.uint8)

    sound = np.repeat(np.linspace(0.2, 0.9, 24, dtype=np.float32), 640)
    film = write_clip(tmp_path / "film.mp4", [np.zeros((120, 128, 3), np.uint8)] * 24, sound)
    write_wav(clip.path / "audio.wav", sound)
    monkeypatch.setattr("talkingface.models.hyperlips_hr.steps.generate", told)
    filmed = ClipFolder(clip.path, film)
    plain, shifted = (made(step(lent, name), filmed, tmp_path) for name in ("hyper@video", "hyper@video+1"))
    np.testing.assert_array_equal(heard[1], heard[0][640:])
    following, own = plain[8].mean(), plain[7].mean()
    assert abs(shifted[7].mean() - following) < 3 < following - own
    assert plain.valid.all() and np.flatnonzero(~shifted.valid).tolist() == [23], "no sound follows the last frame"


def test_a_face_that_is_alone_lends_itself_no_mouth(lent, clip):
    store = clip.faces(hr_config().crop.artefact)
    store.found = np.arange(24) == 7
    base = step(lent)._base()
    shown = {bool(each.serves[7]): each.face for each in _references(base, clip, store)}
    assert not shown[True][16:].any() and shown[True][:16].any()
    np.testing.assert_array_equal(shown[False], store[7])


def test_weights_that_changed_since_they_were_looked_at_are_refused(lent):
    with pytest.raises(CheckpointError, match=r"base.pth: its weights are \w{16} now and were aaaa before"):
        step(lent, weights="aaaa").setup()


def test_crops_that_were_converted_have_no_place_in_a_video_of_base(lent, tmp_path):
    crop = hr_config().crop
    clip = make_clip(tmp_path, "a/0", 24, crop, mel=MEL)
    faces, writer = clip.faces(crop.artefact), FaceWriter(clip.path, crop.artefact, "npy")
    for k in range(24):
        writer.add(faces[k])
    writer.close(np.tile([0.0, 0, 32, 32], (24, 1)), {**faces.meta, "frame_hw": [32, 32]})
    with pytest.raises(Rejected, match=r"no place in its video; use --model.hyper.source=raw"):
        made(step(lent, "hyper@video"), clip, tmp_path)
    assert made(step(lent), clip, tmp_path).valid.all()


def test_frames_that_the_video_of_base_ends_without_are_no_faces(lent, clip, tmp_path, monkeypatch):
    faces = [np.full((32, 32, 3), k, np.uint8) if k not in (5, 23) else None for k in range(24)]
    monkeypatch.setattr(HyperStep, "_through_video", lambda *_: iter(faces))
    store = made(step(lent, "hyper@video"), clip, tmp_path)
    np.testing.assert_array_equal(np.flatnonzero(~store.valid), [5, 23])


def test_how_the_video_of_base_was_pasted_is_noted(lent, tmp_path):
    def noted(artefact: str = "hyper@video", **inference):
        return step(lent, artefact, inference, weights_dir=str(tmp_path)).params["base"]["inference"]

    assert noted()["paste"] == "auto" and noted(paste="lower")["paste"] == "lower"
    file = locate(tmp_path, WEIGHTS)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert noted()["paste"] == "parsing" and noted(paste="lower")["paste"] == "lower"
    asked = {"pads": (0, 10, 0, 0), "smooth": "none", "feather": 0.0, "colour": "keep", "resize": "linear"}
    found = noted(**asked, parse="union", batch=3)
    assert found.items() >= {**asked, "pads": [0, 10, 0, 0], "parse": "union"}.items() and "batch" not in found
    assert noted("hyper@raw", **asked) == {"mel_offset": -1, "reference": "typical", "fps": "keep"}


def test_the_video_of_base_is_pasted_as_base_pastes(lent):
    asked = {"pads": (0, 10, 0, 0), "smooth": "none", "paste": "lower", "colour": "keep", "resize": "linear"}
    used = step(lent, "hyper@video", asked)._base().config.inference
    assert {name: getattr(used, name) for name in asked} == asked
