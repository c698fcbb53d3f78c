"""The model card: what a published model is, was trained on, is good for, and may be used for.

A `README.md` whose front matter has the fields that the Hugging Face hub reads (licence, library, tags, data sets,
`model-index` with the figures): https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from talkingface.evaluation.report.numbers import interval, label, number
from talkingface.plugin.registry import describe_datasets, describe_models
from talkingface.version import __version__
from talkingface.weights.safe_file import PUBLISHED

if TYPE_CHECKING:
    from talkingface.evaluation.report.result import EvalResult

NOT_STATED = "not stated"

_INTENDED = (
    "Research on talking-face generation, and films in which everybody shown has agreed to it. Not for showing people"
    " saying what they have not said, for passing synthetic speech off as real, or for fooling checks of identity."
)
_SYNTHETIC = (
    "What this model makes is synthetic video. Say so wherever you show it, and ask the people whose face or voice you"
    " use. Laws of several countries ask for a visible or machine-readable mark."
)


@dataclass(frozen=True)
class Statement:
    """What only the person who publishes can say; empty: not stated.

    Attributes:
        licence: of the weights, an identifier of the hub such as `apache-2.0` or `cc-by-nc-4.0`.
        data_licence: of the training data, in words.
        author: who made it.
        intended_use: what it is for; empty: research, with consent.
    """

    licence: str = ""
    data_licence: str = ""
    author: str = ""
    intended_use: str = ""


@dataclass(frozen=True)
class Subject:
    """The model that a card is about.

    Attributes:
        model: registered name.
        config: its configuration, as it is published.
        stage: whose checkpoint it is.
        step: batches of that stage.
        networks: network -> number of weights.
        restriction: what the model's settings say about the use of what it makes; empty: nothing.
        result: its evaluation; None: there is none.
        stated: by the person who publishes.
    """

    model: str
    config: Mapping[str, Any]
    stage: str
    step: int
    networks: Mapping[str, int]
    restriction: str = ""
    result: EvalResult | None = None
    stated: Statement = field(default_factory=Statement)


def model_card(subject: Subject) -> str:
    """The whole text of `README.md`."""
    front = yaml.safe_dump(front_matter(subject), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_body(subject)) + "\n"


def front_matter(subject: Subject) -> dict[str, Any]:
    """The fields that the hub reads."""
    licence = subject.stated.licence
    known = {"license": licence} if licence else {"license": "other", "license_name": "not-stated"}
    tags = ["talking-face", "lip-sync", "synthetic-media", "video", subject.model.lower()]
    content: dict[str, Any] = {**known, "library_name": "talkingface", "tags": tags}
    if subject.result is not None:
        content["metrics"] = list(subject.result.values())
        content["model-index"] = [{"name": subject.model, "results": _results(subject.result)}]
    return content


def _results(result: EvalResult) -> list[dict[str, Any]]:
    dataset = str(result.provenance.get("dataset") or "unknown")
    row = result.rows.get("generated")
    metrics = []
    for key, value in row.values.items() if row else ():
        ends = row.intervals.get(key)
        name = label(key, result.figures[key], result.definitions.get(key, {}))
        entry = {"type": key, "name": name, "value": float(f"{value:.6g}")}
        metrics.append(entry | ({"args": {"interval95": [float(f"{end:.6g}") for end in ends]}} if ends else {}))
    task = {"type": "talking-face-generation", "name": "Talking-face generation"}
    return [{"task": task, "dataset": {"type": dataset, "name": dataset}, "metrics": metrics}] if metrics else []


def _body(subject: Subject) -> Iterator[str]:
    about = describe_models().get(subject.model, "")
    yield f"# {subject.model}"
    yield ""
    yield f"{about or 'A talking-face model'}. Trained with talkingface {__version__}."
    yield from _section("Use", _use(subject))
    yield from _section("What is in it", _contents(subject))
    yield from _section("Training data", _data(subject))
    yield from _section("Evaluation", _figures(subject.result))
    yield from _section("Intended use", [subject.stated.intended_use or _INTENDED])
    yield from _section("Synthetic video", [_SYNTHETIC])
    yield from _section("Licence", _licence(subject))


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", *lines)


def _use(subject: Subject) -> list[str]:
    command = f"python run_talkingface.py generate --model={subject.model} --checkpoint=DIR"
    judges = subject.result is not None and "generated" not in subject.result.rows
    text = "It judges videos and makes none." if judges else f"`{command} --source=face.mp4 --audio=voice.wav`,"
    return [f"{text} where DIR is this folder, or `hub:USER/NAME`. Needs the packages of the extra `hub`."]


def _contents(subject: Subject) -> list[str]:
    rows = [f"| `{name}` | {count:,} |" for name, count in subject.networks.items()]
    size = ((subject.config.get("model") or {}).get("crop") or {}).get("size")
    faces = f" Faces are drawn at {size} px." if size else ""
    return [
        f"`{PUBLISHED}` holds the networks (after {subject.step:,} steps of stage `{subject.stage}`), its header and"
        f" `config.yaml` the configuration, `metrics.json` the evaluation if there is one.{faces}",
        "",
        "| network | weights |",
        "|---|---|",
        *rows,
    ]


def _data(subject: Subject) -> list[str]:
    name = str(subject.config.get("dataset") or "unknown")
    about = describe_datasets().get(name, "")
    return [
        f"* data set: {name}{f' ({about})' if about else ''}",
        f"* licence and consent: {subject.stated.data_licence or NOT_STATED}",
    ]


def _figures(result: EvalResult | None) -> list[str]:
    """A table of all rows; behind each mean its 95 % interval over clips."""
    if result is None or not result.rows:
        return ["It was not evaluated."]
    names = list(result.rows)
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for key, figure in result.figures.items():
        cells = []
        for name in names:
            row = result.rows[name]
            cells.append(f"{number(row.values.get(key))} {interval(row.intervals.get(key))}".strip())
        lines.append(f"| {label(key, figure, result.definitions.get(key, {}))} | {' | '.join(cells)} |")
    clips = ", ".join(f"{name} {row.clips}" for name, row in result.rows.items())
    synthetic = " The clips are synthetic: no evidence of quality on real people." if _synthetic(result) else ""
    told = (
        f"Means over clips of {result.provenance.get('dataset', 'the data set')} ({clips}), 95 % intervals behind them."
    )
    return [told + synthetic, "", *lines]


def _synthetic(result: EvalResult) -> bool:
    return bool(result.provenance.get("synthetic"))


def _licence(subject: Subject) -> list[str]:
    lines = [f"* weights: {subject.stated.licence or NOT_STATED}", "* code: Apache-2.0 (talkingface)"]
    lines += [f"* made by: {subject.stated.author}"] if subject.stated.author else []
    return lines + ([f"* what it makes: {subject.restriction}"] if subject.restriction else [])
