"""A child that generates: it holds the models, one device, and does one thing at a time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from talkingface.devices import allow_tf32, limit_threads, own_cores
from talkingface.errors import TalkingFaceError
from talkingface.pipeline import Pipeline
from talkingface.plugin.registry import get_spec
from talkingface.serving.child import Answer, Line
from talkingface.serving.service import Served
from talkingface.weights import checkpoint as files

_TELL_SECONDS = 0.2  # between two words about the progress


def make_generator(
    served: Sequence[Sequence[str | None]], device: str, overrides: dict[str, Any], models_kept: int, sharing: int
) -> Answer:
    """What the child answers with.

    Args:
        served: the fields of `Served` of each model.
        device: where it computes.
        overrides: configuration keys that differ from training.
        models_kept: how many models stay in memory.
        sharing: processes that share the device: cores of a CPU, of which each takes its part.
    """
    threads = overrides.get("threads")
    limit_threads(threads if threads or sharing < 2 else max(1, len(own_cores()) // sharing))
    allow_tf32(overrides.get("tf32"))
    models = Models([Served(*each) for each in served], device, overrides, models_kept)
    tasks = {"describe": models.describe, "generate": lambda question, line: generate(models, question, line)}

    def answer(question: dict[str, Any], line: Line) -> dict[str, Any]:
        return tasks[question["do"]](question, line)

    return answer


class Models:
    """The pipelines of the served models, loaded when they are first asked for; the least recently used one goes."""

    def __init__(self, served: Sequence[Served], device: str, overrides: dict[str, Any], kept: int) -> None:
        self._served = {each.name: each for each in served}
        self._device, self._overrides, self._kept = device, overrides, kept
        self._loaded: OrderedDict[str, Pipeline] = OrderedDict()

    def __getitem__(self, name: str) -> Pipeline:
        if name not in self._loaded:
            while len(self._loaded) >= self._kept:
                self._loaded.popitem(last=False)
            wanted = self._served[name]
            self._loaded[name] = Pipeline.from_checkpoint(
                wanted.model, wanted.checkpoint, self._device, self._overrides
            )
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def describe(self, question: dict[str, Any], line: Line) -> dict[str, Any]:
        """What clients may know of the models; the first one is loaded, of the others the weights are looked at."""
        first = next(iter(self._served))
        licence = self[first].model.licence
        return {
            "models": [self._described(each, licence if each.name == first else "") for each in self._served.values()]
        }

    def _described(self, served: Served, licence: str) -> dict[str, Any]:
        if served.name in self._loaded:
            pipeline = self._loaded[served.name]
            model, stage = pipeline.name, pipeline.model.stage
            stage_name = stage.name if stage is not None else ""
        else:
            content = files.load(files.find_checkpoint(served.checkpoint), served.model)
            model, stage_name = content.model, content.stage
        accepts = list(get_spec(model).model.accepts)
        return {"name": served.name, "model": model, "stage": stage_name, "accepts": accepts, "licence": licence}


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
