"""Checkpoints: plain data, written under a temporary name and renamed, read without ever unpickling code."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from talkingface.config.yaml_files import read_yaml
from talkingface.errors import CheckpointError, ConfigError, OutputError, first_line, out_of_memory
from talkingface.files import atomic_output, output_error
from talkingface.weights import pickled
from talkingface.weights.hub import fetch, is_on_hub
from talkingface.weights.inert import stand_ins, without_objects
from talkingface.weights.safe_file import PUBLISHED, SUFFIX, read_safe, write_safe

log = logging.getLogger("talkingface")

FORMAT = 1
MOST_SETTINGS = 20_000  # values in the configuration of a checkpoint, as in a YAML file
_UNREADABLE = (
    RuntimeError, EOFError, ValueError, LookupError, OSError, AttributeError, TypeError, pickle.UnpicklingError
)  # fmt: skip
IMPORTED = "imported"  # "stage" of a checkpoint that `import` made


@dataclass
class CheckpointContent:
    """All that one of our checkpoint files holds; the one list of its entries.

    A file may lack the entries with a default: those that older versions did not write, and of `import`, which has
    nothing to resume.

    Attributes:
        model: registered name.
        config: the whole resolved configuration as plain data.
        networks: network -> state dict, as generation uses it (averaged where the stage averages).
        stage: name of the stage that wrote it, `imported` for published weights.
        trained: networks that this stage trained, or that were imported.
        ready: networks with trained or given weights; the others are saved along as they were initialised.
        epoch: epochs finished in the stage.
        batch_in_epoch: batches done in the epoch under way.
        step: batches since the stage began.
        finished: whether the stage has come to its end.
        best: best validation value so far, by name.
        waited: validations since the monitored value improved.
        training_networks: of averaged networks the state that training goes on with.
        optimizers: network -> state dict of its optimiser.
        gradients: network -> parameter -> gradient, where batches are being accumulated.
        precision: state of the gradient scaler.
        rng: state of every global random source.
        threads: of torch on the CPU; another number adds in another order.
    """

    model: str
    config: dict[str, Any]
    networks: dict[str, dict[str, Tensor]]
    stage: str = ""
    trained: list[str] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)
    epoch: int = 0
    batch_in_epoch: int = 0
    step: int = 0
    finished: bool = True
    best: dict[str, float] = field(default_factory=dict)
    waited: int = 0
    training_networks: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    optimizers: dict[str, dict[str, Any]] = field(default_factory=dict)
    gradients: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    precision: dict[str, Any] = field(default_factory=dict)
    rng: dict[str, Any] | None = None
    threads: int | None = None

    @classmethod
    def recognise(cls, data: Any) -> CheckpointContent | None:
        """The content of a file of ours that was read, or None where it is something else, say a published file."""
        if not isinstance(data, dict) or "networks" not in data:
            return None
        known = {entry.name: data[entry.name] for entry in fields(cls) if entry.name in data}
        wrong = {name for name, value in known.items() if _misfit(name, value)}
        if wrong & {"model", "config", "networks", "stage", "trained", "ready"}:
            return None
        # What `import` wrote before it said so has nothing but ready networks; what is not in the file is not ready.
        ready = [name for name in data.get("ready", data["networks"]) if name in data["networks"]]
        return cls(**{"model": "", "config": {}, **known, "ready": ready})

    def to_plain(self) -> dict[str, Any]:
        """The entries of the file."""
        return {"format": FORMAT, **{entry.name: getattr(self, entry.name) for entry in fields(self)}}


@cache
def _checker(name: str) -> TypeAdapter[Any]:
    """What an entry of a file must be, from its type in `CheckpointContent`."""
    settings = ConfigDict(arbitrary_types_allowed=True, strict=True)
    hints = get_type_hints(CheckpointContent)
    # Which of a network's entries are no tensors is told later, by name.
    loose = {"networks": dict[str, dict[str, Any]], "training_networks": dict[str, dict[str, Any]]}
    return TypeAdapter(loose.get(name, hints[name]), config=settings)


def _misfit(name: str, value: Any) -> str | None:
    """Why an entry of a file cannot be what its name says; None where it can."""
    try:
        _checker(name).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        inside = "".join(f".{part}" for part in first["loc"])
        return f"'{name}{inside}' {first['msg'].removeprefix('Input ')}"
    return None


def save(path: Path, content: CheckpointContent) -> None:
    """Write a checkpoint; see `write`.

    Raises:
        OutputError: the folder is read-only or the disk is full; the old file is untouched.
    """
    write(path, content.to_plain())


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Write plain data so that a reader sees the old file or the whole new one, never a part.

    Raises:
        OutputError: the folder is read-only or the disk is full; the old file is untouched.
    """
    try:
        with atomic_output(path) as temporary, temporary.open("wb") as file:
            torch.save(dict(data), file)
    except (OutputError, RuntimeError) as error:
        # Where writing fails in the middle, torch complains about its own file format.
        cause = error if isinstance(error, OutputError) else error.__context__
        known = output_error(path, cause) if isinstance(cause, OSError) else cause
        reason = str(known if isinstance(known, OutputError) else f"cannot be written ({first_line(error)})")
        reason = reason.removeprefix(f"{path}: ")
        raise OutputError(f"{path}: the checkpoint {reason}; the previous one is untouched") from error


def read(path: str | Path, mapped: bool = False, objects: bool = False) -> Any:
    """Read a file made by `torch.save` or a `.safetensors` of ours, tensors on the CPU; only plain data is admitted.

    Args:
        path: the file.
        mapped: leave tensors on the disk until they are used; for whoever wants to know what is in a large file.
        objects: read past objects of other programs, an optimiser say, instead of refusing the file; they are left
            out, and no code of theirs runs.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or it contains code (which is refused).
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the checkpoint is empty (0 bytes); copy or train it again")
    if path.suffix == SUFFIX:
        return read_safe(path)
    strangers = pickled.check(path, objects)
    try:
        with stand_ins(strangers) if strangers else nullcontext():
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except _UNREADABLE as error:
        if needs := out_of_memory(error):
            raise CheckpointError(f"{path}: cannot be read: {needs}") from None
        why = f"cut short, damaged or not a checkpoint ({first_line(error)})"
        raise CheckpointError(f"{path}: cannot be read: {why}; copy or download it again") from None
    try:
        pickled.count_values(data)
    except ValueError as error:
        raise CheckpointError(f"{path}: refused: {error}") from None
    if strangers:
        log.info("%s: objects inside were left out: %s", path, ", ".join(sorted(strangers)))
        return without_objects(data)
    return data


def load(path: str | Path, model: str | None = None) -> CheckpointContent:
    """Read one of our checkpoints.

    Args:
        path: a `.pt` or `.safetensors` file.
        model: the model name it must belong to, or None for any.

    Raises:
        CheckpointError: unreadable, foreign (with the hint to import it), or of another model.
    """
    data = read(path)
    content = CheckpointContent.recognise(data)
    if content is None or "format" not in data:
        raise CheckpointError(
            f"{path}: not a talkingface checkpoint; a published file is converted with"
            " `python run_talkingface.py import --model=NAME --folder=DIR`"
        )
    if not isinstance(data["format"], int) or not {"model", "config"} <= data.keys():
        raise CheckpointError(f"{path}: not a complete talkingface checkpoint")
    wrong = [misfit for name, value in vars(content).items() if (misfit := _misfit(name, value))]
    if wrong:
        raise CheckpointError(f"{path}: its entry {wrong[0]}; the file is damaged, or somebody has changed it")
    try:
        pickled.count_values(content.config, MOST_SETTINGS)
    except ValueError as error:
        raise CheckpointError(f"{path}: its configuration is none ({error})") from None
    if data["format"] > FORMAT:
        raise CheckpointError(f"{path}: written by a newer talkingface (format {data['format']}); update this one")
    if model is not None and content.model != model:
        raise CheckpointError(f"{path}: this is a checkpoint of {content.model}, not of {model}")
    return content


def save_safe(path: Path, content: CheckpointContent) -> None:
    """Write what generation needs of a checkpoint as `.safetensors`; nothing that training goes on with.

    Raises:
        PackageMissing: safetensors is not installed.
        OutputError: it cannot be written.
    """
    kept = ("model", "config", "stage", "trained", "ready", "epoch", "step", "best")
    told = {name: getattr(content, name) for name in kept}
    # JSON has no NaN, and a validation that gave none says nothing.
    told["best"] = {name: value for name, value in content.best.items() if math.isfinite(value)}
    write_safe(path, content.networks, {"format": FORMAT, **told})


def find_checkpoint(path: str | Path) -> Path:
    """The file meant by `path`: itself, in a run or stage folder the best (else last) of the last stage there.

    Also the weights in a folder that `publish` made, here or on the hub (`hub:USER/NAME`).

    Raises:
        CheckpointError: nothing there.
        PackageMissing: what reads the hub is not installed.
    """
    if is_on_hub(path):
        return fetch(path) / PUBLISHED
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        for folder in [path, *reversed(_stage_folders(path))]:
            for name in ("best.pt", "last.pt"):
                if (folder / name).is_file():
                    return folder / name
        if (path / PUBLISHED).is_file():
            return path / PUBLISHED
        raise CheckpointError(f"{path}: no best.pt, last.pt or {PUBLISHED} in this folder or its stages")
    raise CheckpointError(f"{path}: no such checkpoint file or run folder")


def _stage_folders(run: Path) -> list[Path]:
    """Stage folders of a run in the order of training; copying may have changed their times, so its YAML decides."""
    found = sorted(p for p in run.iterdir() if p.is_dir() and any(p.glob("*.pt")))
    try:
        stages = read_yaml(run / "config.yaml")[0].get("stages") or []
        order = [stage["name"] for stage in stages]
    except (ConfigError, TypeError, KeyError):
        return sorted(found, key=lambda folder: max(f.stat().st_mtime for f in folder.glob("*.pt")))
    return sorted(found, key=lambda folder: order.index(folder.name) if folder.name in order else -1)


def load_networks(model: nn.Module, networks: Mapping[str, Mapping[str, Tensor]], source: str | Path) -> None:
    """Load the state of each named network strictly.

    Raises:
        CheckpointError: names missing, unexpected and misshapen entries.
    """
    for name, state in networks.items():
        load_state(_network(model, name, source), state, f"{source}: {name}")


def check_networks(model: nn.Module, networks: Mapping[str, Mapping[str, Tensor]], source: str | Path) -> None:
    """Compare names and shapes alone, also with a model on the device `meta`, whose tensors have no memory.

    Raises:
        CheckpointError: names missing, unexpected and misshapen entries.
    """
    for name, state in networks.items():
        _check_fit(_network(model, name, source).state_dict(), state, f"{source}: {name}")


def fitting(model: nn.Module, networks: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Which of these networks `check_networks` would not refuse."""
    names = []
    for name, state in networks.items():
        with suppress(CheckpointError):
            check_networks(model, {name: state}, "")
            names.append(name)
    return names


def _network(model: nn.Module, name: str, source: str | Path) -> nn.Module:
    network = getattr(model, name, None)
    if not isinstance(network, nn.Module):
        raise CheckpointError(f"{source}: holds a network '{name}' that {type(model).__name__} does not have")
    return network


def load_state(network: nn.Module, state: Mapping[str, Tensor], where: str, optional: Iterable[str] = ()) -> None:
    """`load_state_dict`, strict, with one clear message for everything that does not fit.

    Args:
        network: network to fill.
        state: its entries.
        where: file and network, for the message.
        optional: suffixes of entries that old files may lack.

    Raises:
        CheckpointError: names missing, unexpected, misshapen and unusable entries.
    """
    own = network.state_dict()
    _check_fit(own, state, where, optional)
    unusable = [f"{key} ({reason})" for key in own if key in state and (reason := _unusable(state[key], own[key]))]
    if unusable:
        raise CheckpointError(f"{where} holds weights that cannot be used: {_first(unusable)}")
    network.load_state_dict({**own, **state})


def _check_fit(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str, optional: Iterable[str] = ()
) -> None:
    """Compare the names and shapes of a network with those of a file; the first misfits of each kind are named."""
    missing = [k for k in own if k not in state and not k.endswith(tuple(optional) or ("\0",))]
    unexpected = [str(k) for k in state if k not in own]
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if isinstance(state.get(k), Tensor) and tuple(state[k].shape) != tuple(own[k].shape)
    ]
    others = [k for k in own if k in state and not isinstance(state[k], Tensor)]
    parts = [("missing", missing), ("unexpected", unexpected), ("no tensor", others), ("wrong shape", shapes)]
    details = "; ".join(f"{len(keys)} {title}: {_first(keys)}" for title, keys in parts if keys)
    if details:
        raise CheckpointError(f"{where} does not fit: {details}")


def _first(entries: Sequence[str], count: int = 3) -> str:
    """The first entries, and how many there are beside."""
    more = f" and {len(entries) - count} more" if len(entries) > count else ""
    return ", ".join(entries[:count]) + more


def _unusable(value: Tensor, own: Tensor) -> str | None:
    """Why a stored tensor cannot stand for one of the network: torch would convert it, and draw black faces."""
    if own.is_floating_point() != value.is_floating_point() or value.is_complex():
        return f"{value.dtype}".removeprefix("torch.")
    # A mask may be infinite on purpose; then it is so in a fresh network, too.
    if value.is_floating_point() and not torch.isfinite(value).all() and torch.isfinite(own).all():
        return "not finite"
    return None


def load_state_file(
    network: nn.Module, path: str | Path, what: str, optional: Iterable[str] = (), name: str | None = None
) -> None:
    """Fill an expert from a published state dict, bare or under `state_dict`, or from a checkpoint or run of ours.

    Args:
        network: network to fill.
        path: the file, or a run folder.
        what: for the message.
        optional: suffixes of entries that old files may lack.
        name: name of the network inside a checkpoint of ours.

    Raises:
        CheckpointError: unreadable, something else, or of a network that was never trained.
    """
    path = find_checkpoint(path)
    data = read(path)
    ours = CheckpointContent.recognise(data)
    if ours is not None and name in ours.networks:
        if name not in ours.ready:
            raise CheckpointError(f"{path}: its '{name}' was never trained; it cannot serve as {what}")
        data = ours.networks[name]
    state = named_tensors(data.get("state_dict", data) if isinstance(data, dict) else data, path, what)
    load_state(network, {k.removeprefix("module."): v for k, v in state.items()}, f"{path}: {what}", optional)


def named_tensors(content: Any, path: str | Path, what: str) -> dict[str, Tensor]:
    """What was read from a file, if it is a mapping of names to tensors as published files have.

    Args:
        content: what was read.
        path: the file, for the message.
        what: whose weights are expected, for the message.

    Raises:
        CheckpointError: it is something else.
    """
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise CheckpointError(f"{path}: expected the weights of {what}, found something else; is it the right file?")
    return content
