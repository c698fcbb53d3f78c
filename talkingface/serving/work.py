"""A child that generates: it holds the models, one device, and does one thing at a time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.clips.source import Source
from talkingface.devices import allow_tf32, limit_threads, own_cores
from talkingface.errors import ConfigError, TalkingFaceError
from talkingface.media import draw_mark, resampled, synthetic_comment
from talkingface.media.fragments import fragments
from talkingface.pipeline import Pipeline
from talkingface.serving.child import Answer, Line, Stopped
from talkingface.serving.service import Served

_TELL_SECONDS = 0.2  # between two words about the progress
_OF_ONE_KIND = ("model", "experts")  # sections of keys that mean something for one kind of model


def make_generator(
    served: Sequence[Sequence[str | None]],
    device: str,
    overrides: dict[str, Any],
    models_kept: int,
    faces_kept: int,
    sharing: int,
) -> Answer:
    """What the child answers with.

    Args:
        served: the fields of `Served` of each model.
        device: where it computes.
        overrides: configuration keys that differ from training; those of a model itself are for the first one.
        models_kept: how many models stay in memory.
        faces_kept: how many faces of streams do: a few kB per frame, and decoded frames within the `video_cache_mb` of
            the model.
        sharing: processes that share the device: cores of a CPU, of which each takes its part.
    """
    threads = overrides.get("threads")
    limit_threads(threads if threads or sharing < 2 else max(1, len(own_cores()) // sharing))
    allow_tf32(overrides.get("tf32"))
    models = Models([Served(*each) for each in served], device, overrides, models_kept, faces_kept)
    tasks = {
        "describe": models.describe,
        "try": models.try_out,
        "generate": lambda question, line: generate(models, question, line),
        "speak": lambda question, line: speak(models, question, line),
    }

    def answer(question: dict[str, Any], line: Line) -> dict[str, Any]:
        return tasks[question["do"]](question, line)

    return answer


class Models:
    """The pipelines of the served models, loaded when they are first asked for; the least recently used one goes."""

    def __init__(
        self, served: Sequence[Served], device: str, overrides: dict[str, Any], kept: int, faces_kept: int
    ) -> None:
        self._served = {each.name: each for each in served}
        self._device, self._overrides, self._kept, self._faces_kept = device, overrides, kept, faces_kept
        self._loaded: OrderedDict[str, Pipeline] = OrderedDict()
        self._faces: OrderedDict[tuple[str, str], Source] = OrderedDict()

    def __getitem__(self, name: str) -> Pipeline:
        if name not in self._served:  # it waited while the server was started anew with others
            raise ConfigError(f"model: {name} is not served any more")
        if name not in self._loaded:
            while len(self._loaded) >= self._kept:
                gone, _ = self._loaded.popitem(last=False)
                for key in [key for key in self._faces if key[0] == gone]:
                    del self._faces[key]
            self._loaded[name] = self._load(self._served[name], self._device)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _load(self, served: Served, device: str) -> Pipeline:
        """A model that makes videos.

        Raises:
            ConfigError, CheckpointError: it does not; of another than the first one its name is told.
        """
        first = served.name == next(iter(self._served))
        shared = {key: value for key, value in self._overrides.items() if key.partition(".")[0] not in _OF_ONE_KIND}
        overrides = self._overrides if first else shared
        try:
            pipeline = Pipeline.from_checkpoint(served.model, served.checkpoint, device, overrides)
            if pipeline.model.needed_to_speak(pipeline.model.config) is None:
                raise ConfigError(f"{pipeline.name} makes no videos, so it cannot be served")
        except TalkingFaceError as error:
            if first:
                raise
            raise type(error)(f"model {served.name}: {error}") from None
        return pipeline

    def face(self, name: str, source: str) -> Source:
        """A face for streams with what its model has found out about it; kept, for the sentences that follow.

        Raises:
            MediaError, NoFaceError, DataError: it is no good.
        """
        key = name, source
        if key not in self._faces:
            self._faces[key] = self[name].prepare(source)
            while len(self._faces) > self._faces_kept:
                self._faces.popitem(last=False)
        self._faces.move_to_end(key)
        return self._faces[key]

    def describe(self, question: dict[str, Any], line: Line) -> dict[str, Any]:
        """What clients may know of the models. The first one stays; the others are only loaded to see that they can be.

        Raises:
            ConfigError, CheckpointError: one of them cannot be served.
        """
        self[next(iter(self._served))]
        return {"models": [self._described(each) for each in self._served.values()]}

    def try_out(self, question: dict[str, Any], line: Line) -> dict[str, Any]:
        """Load the first model where it is not, and compute with all of its weights: an ill device fails, or hangs.

        Raises:
            ConfigError, CheckpointError: it cannot be loaded any more.
        """
        pipeline = self[next(iter(self._served))]
        for weights in pipeline.model.parameters():
            weights.detach().sum().item()  # waits for the device
        return {}

    def _described(self, served: Served) -> dict[str, Any]:
        # Another model would take the place of the first one on the device.
        pipeline = self._loaded.get(served.name) or self._load(served, "cpu")
        stage = pipeline.model.stage
        return {
            "name": served.name,
            "model": pipeline.name,
            "stage": stage.name if stage is not None else "",
            "accepts": list(pipeline.model.accepts),
            "licence": pipeline.model.licence,
        }


def generate(models: Models, question: dict[str, Any], line: Line) -> dict[str, Any]:
    """Make a video.

    Raises:
        Stopped: nobody wants it any more.
        TalkingFaceError: the input is no good; of `source` and `audio` it speaks by these names.
    """
    told = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told
        line.go_on()
        if time.monotonic() - told > _TELL_SECONDS or done == total:
            told = time.monotonic()
            line.send({"frames": done, "of": total})

    output = Path(question["output"])
    try:
        models[question["model"]](
            question["source"],
            question["audio"],
            output,
            told=tell,
            visible_mark=question["visible_mark"],
            mute=question["mute"],
        )
    except TalkingFaceError as error:
        text = str(error)
        for field in ("source", "audio", "output"):
            text = text.replace(question[field], field)
        raise type(error)(text) from None
    return {"bytes": output.stat().st_size}


def speak(models: Models, question: dict[str, Any], line: Line) -> dict[str, Any]:
    """Send a film in fragments while its sound is still arriving.

    Raises:
        Stopped: nobody wants it any more.
        TalkingFaceError: the face is no good; it is spoken of as `source`.
    """
    pipeline = models[question["model"]]
    try:
        face = models.face(question["model"], question["source"])
    except TalkingFaceError as error:
        raise type(error)(str(error).replace(question["source"], "source")) from None
    heard = _Heard(resampled(_arriving(line), question["sample_rate"]))
    frames: Iterator[np.ndarray] = pipeline.stream(face, heard)
    if question["visible_mark"]:
        frames = map(draw_mark, frames)
    for piece in fragments(frames, heard.between, face.fps, synthetic_comment(pipeline.name)):
        line.go_on()
        line.send(piece)
    return {}


def _arriving(line: Line) -> Iterator[np.ndarray]:
    """Pieces of sound (n,) float32 as the server sends them; each is asked for."""
    rest = b""
    while True:
        line.send({"more": True})
        message = line.receive()
        if message == {"stop": True}:
            raise Stopped
        if not isinstance(message, bytes):
            return
        pcm = rest + message
        whole = len(pcm) // 2 * 2  # a piece may end in the middle of a sample
        rest = pcm[whole:]
        yield np.frombuffer(pcm[:whole], "<i2").astype(np.float32) / 32768


class _Heard:
    """Sound on its way to the model; what was heard is kept until it was written, too."""

    def __init__(self, pieces: Iterator[np.ndarray]) -> None:
        self._pieces = pieces
        self._held = np.zeros(0, np.float32)
        self._begin = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for piece in self._pieces:
            self._held = np.concatenate([self._held, piece])
            yield piece

    def between(self, start: int, stop: int) -> np.ndarray:
        """Samples from `start` to `stop`, fewer at the end; what lies before them is forgotten."""
        self._held, self._begin = self._held[start - self._begin :], start
        return self._held[: stop - start]
