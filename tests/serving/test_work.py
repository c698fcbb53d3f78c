"""What a worker process does with real models: loaded when asked for, videos with progress, errors by field."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.serving import random_checkpoint, write_voice
from talkingface.errors import CheckpointError, ConfigError, NoFaceError
from talkingface.media import count_frames, write_image
from talkingface.serving.child import Stopped
from talkingface.serving.service import Served
from talkingface.serving.work import Models, generate
from talkingface.weights import checkpoint


class Wire:
    """The child's end of a line that nobody has anything to say on."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.told, self._stop_at, self._looked = [], stop_at, 0

    def send(self, message) -> None:
        self.told.append(message)

    def go_on(self) -> None:
        self._looked += 1
        if self._looked == self._stop_at:
            raise Stopped


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    file = str(random_checkpoint(tmp_path_factory.mktemp("models") / "tiny.pt"))
    return Models([Served("first", "Wav2Lip", file), Served("second", None, file)], "cpu", {}, 1, 4)


def asked(face, voice, tmp_path, **changes) -> dict:
    given = {"model": "first", "source": face, "audio": voice, "output": tmp_path / "out.mp4", **changes}
    return {key: str(value) for key, value in given.items()} | {"visible_mark": False, "mute": False}


def test_models_are_loaded_by_name_when_they_are_asked_for_and_the_last_one_used_stays(models):
    told = models.describe({}, Wire())["models"]
    assert [(each["name"], each["model"]) for each in told] == [("first", "Wav2Lip"), ("second", "Wav2Lip")]
    assert list(models._loaded) == ["first"], "the others were only looked at"
    second = models["second"]
    assert list(models._loaded) == ["second"] and models["second"] is second


def test_to_be_tried_out_a_worker_loads_its_first_model_and_computes_with_it(models, monkeypatch):
    models._loaded.clear()
    assert models.try_out({}, Wire()) == {} and list(models._loaded) == ["first"]

    def broken(self):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("torch.Tensor.item", broken)
    with pytest.raises(RuntimeError, match="CUDA"):
        models.try_out({}, Wire())


def test_of_every_model_is_told_what_limits_its_use(models, monkeypatch):
    monkeypatch.setattr(type(models["first"].model), "licence", property(lambda self: "not for sale"))
    assert [each["licence"] for each in models.describe({}, Wire())["models"]] == ["not for sale"] * 2


def beside_the_first(models, file, overrides=None) -> Models:
    return Models([models._served["first"], Served("other", None, str(file))], "cpu", overrides or {}, 1, 4)


def test_keys_of_a_model_are_those_of_the_first_one_alone(models, tmp_path):
    other = random_checkpoint(tmp_path / "tiny.pt", "IPLAP")
    both = beside_the_first(models, other, {"model.inference.reference": "typical", "video_cache_mb": 3})
    assert [each["model"] for each in both.describe({}, Wire())["models"]] == ["Wav2Lip", "IPLAP"]
    assert both["first"].model.config.inference.reference == "typical"
    assert both["first"].video_cache_mb == both["other"].video_cache_mb == 3


def test_a_model_that_cannot_make_videos_is_refused_at_the_start(models, tmp_path):
    judge = random_checkpoint(tmp_path / "judge.pt", "SyncNet")
    with pytest.raises(ConfigError, match="^model other: SyncNet makes no videos, so it cannot be served"):
        beside_the_first(models, judge).describe({}, Wire())
    half = tmp_path / "half.pt"
    content = checkpoint.load(checkpoint.find_checkpoint(models._served["first"].checkpoint))
    content.ready = content.trained = []
    checkpoint.save(half, content)
    with pytest.raises(CheckpointError, match="^model other: .*half.pt: holds no trained generator"):
        beside_the_first(models, half).describe({}, Wire())
    with pytest.raises(ConfigError, match="^model other: .*video_cach"):
        beside_the_first(models, judge, {"video_cach_mb": 3})["other"]


def test_a_job_for_a_model_that_an_earlier_server_had_is_refused(models, face, voice, tmp_path):
    with pytest.raises(ConfigError, match="model: third is not served any more"):
        generate(models, asked(face, voice, tmp_path, model="third"), Wire())


def test_a_video_is_made_and_its_progress_told(models, face, voice, tmp_path):
    wire = Wire()
    made = generate(models, asked(face, voice, tmp_path), wire)
    assert made["bytes"] == (tmp_path / "out.mp4").stat().st_size and count_frames(tmp_path / "out.mp4") == 10
    assert wire.told[-1] == {"frames": 10, "of": 10}


def test_what_is_stopped_leaves_nothing(models, face, tmp_path):
    with pytest.raises(Stopped):
        generate(models, asked(face, write_voice(tmp_path / "v.wav", 2.0), tmp_path), Wire(stop_at=3))
    assert [path.name for path in tmp_path.iterdir()] == ["v.wav"]


def test_errors_name_the_field_and_not_our_folders(models, voice, tmp_path):
    empty = tmp_path / "wall.png"
    write_image(empty, np.full((128, 128, 3), 90, np.uint8))
    with pytest.raises(NoFaceError) as caught:
        generate(models, asked(empty, voice, tmp_path), Wire())
    assert str(caught.value).startswith("source: no face") and str(tmp_path) not in str(caught.value)
