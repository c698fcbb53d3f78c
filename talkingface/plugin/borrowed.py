"""Networks that a model borrows from the run of another: which run is meant, and what comes along with its weights.

A lender is found by its name in the registry and read from its checkpoint; models never import each other. Whoever
borrows saves the network in its own checkpoints, so the lender's run may go once the borrower's has begun.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from talkingface.config.layers import dotted, leaves, to_plain
from talkingface.config.stages import until
from talkingface.config.yaml_files import read_yaml
from talkingface.errors import CheckpointError, ConfigError
from talkingface.plugin.configuration import LoadedConfig, from_plain, profiles_of
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import IMPORTED, CheckpointContent
from talkingface.weights.hashes import weights_hash
from talkingface.weights.runs import RunFolder, newest_first

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.plugin.contract import Borrowed

log = logging.getLogger("talkingface")

AUTO = "auto"
_OF_THE_BORROWER = frozenset(
    (
        *("model", "stages", "stage", "experts", "experts_weights", "prerequisites", "run_name", "resume", "train"),
        *("evaluate", "evaluate_model_file", "metrics", "evaluation", "epochs", "max_steps", "batch_size"),
        *("learning_rate", "learner", "weight_decay", "eval_step", "stopping_step"),
    )
)


class LenderMissing(CheckpointError):
    """There is no run of a model to borrow from.

    Args:
        name: what the borrower calls the network.
        loan: what is borrowed.
        loaded: the borrower's configuration.
    """

    def __init__(self, name: str, loan: Borrowed, loaded: LoadedConfig) -> None:
        self.loan = loan
        config = loaded.config
        if loan.optional:
            super().__init__(
                f"experts.{name}: there is no finished run of {loan.model} on {config.dataset} in {config.saved_dir}:"
                f" leave the option out, and {config.model_name} trains its own, or name a run or a file"
            )
            return
        options = "".join(f" {_option(key, value)}" for key, value in carried_over(loaded, loan).items())
        super().__init__(
            f"{config.model_name} needs a trained {loan.model}, and there is no finished run of it on {config.dataset}"
            f" in {config.saved_dir}: first `python run_talkingface.py --model={loan.model} --dataset={config.dataset}"
            f"{options}`, or --prerequisites=train to have `run` do that now, or `python run_talkingface.py import"
            f" --model={loan.model} --folder=DIR` for published weights"
        )


def _option(key: str, value: Any) -> str:
    """A setting as one word of a shell's command line."""
    return shlex.quote(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")


def carried_over(loaded: LoadedConfig, loan: Borrowed) -> dict[str, Any]:
    """What the user has set that a lender's run is to be made with, too: data, places, seed, device, profile.

    Also settings of the network that is lent, by the lender's keys. A profile that the lender does not know concerns
    the borrower alone.

    Returns:
        Dotted keys and values.

    Raises:
        ConfigError: two keys of the borrower give one setting of the lender different values.
    """
    sections = {path[0] for path in loaded.origins if isinstance(path[0], str)} - _OF_THE_BORROWER
    asked = {key: value for section in sorted(sections) for key, value in loaded.asked(section).items()}
    if asked.get("profile") is not None and asked["profile"] not in profiles_of(loan.model):
        del asked["profile"]
    return asked | _lenders(loaded.asked("model"), loan)


def _lenders(asked: Mapping[str, Any], loan: Borrowed) -> dict[str, Any]:
    """Settings of the borrower that come along with the network, by the lender's keys."""
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, value in asked.items():
        for ours, theirs in loan.settings.items():
            rest = f"{key}.".removeprefix(f"model.{ours}.")
            if rest == f"{key}.":
                continue
            name = ".".join(part for part in ("model", theirs, rest[:-1]) if part)
            if found.get(name, value) != value:
                raise ConfigError(
                    f"{sources[name]} is {found[name]!r} and {key} is {value!r}: both are {name} of {loan.model};"
                    " give them one value, or leave one out"
                )
            found[name], sources[name] = value, key
    return found


def with_borrowed(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration with the runs that `experts:` means by `auto`, their networks' settings and weights' hashes.

    A configuration without borrowed networks comes back as it is.

    Raises:
        LenderMissing: there is no run to borrow from.
        CheckpointError: the one that is named is unreadable, of another model, or lacks the network.
        ConfigError: a setting that the user gave contradicts the network.
    """
    overrides: dict[str, Any] = {}
    for name, loan in _wanted(loaded.config).items():
        found = _find(name, loan, loaded)
        if found is None:
            continue
        _refuse_contradictions(found, loaded)
        overrides |= {f"model.{key}": value for key, value in found.settings.items()}
        overrides |= {f"experts.{name}": str(found.path), f"experts_weights.{name}": found.hash}
        overrides |= {f"experts_weights.{name}_{judge}": made for judge, made in found.judges.items()}
        if loan.weights_key:
            overrides[f"model.{loan.weights_key}"] = found.hash
        log.info("%s of %s comes from %s (weights %s)", name, loaded.config.model_name, found.path, found.hash)
    if not overrides:
        return loaded
    return loaded.settled(overrides, "the run that lends it")


def _wanted(config: Config) -> dict[str, Borrowed]:
    """What the model borrows with this configuration, by its own names."""
    borrows = get_spec(config.model_name).model.borrows
    return {name: loan for name, loan in borrows.items() if not loan.optional or config.experts.get(name)}


def with_stand_ins(loaded: LoadedConfig, folder: Path) -> LoadedConfig:
    """`with_borrowed` for whoever measures speed, on which weights have no influence: what is missing is random.

    Args:
        loaded: the configuration; its own settings say what the lender is like.
        folder: for files of random weights.
    """
    try:
        return with_borrowed(loaded)
    except LenderMissing:
        pass
    section, files = to_plain(loaded.config)["model"], {}
    for name, loan in _wanted(loaded.config).items():
        lender = get_spec(loan.model).model
        settings: dict[str, Any] = {}
        for ours, theirs in loan.settings.items():
            value = _value(section, ours)
            settings = dict(value) if not theirs else _merged(settings, theirs, value)
        torch.manual_seed(loaded.config.seed)
        made, network = lender(lender.Config.model_validate(settings)), loan.network or name
        files[name] = folder / f"{loan.model}.pt"
        content = CheckpointContent(
            model=loan.model,
            config={"model": to_plain(made.config)},
            networks={network: getattr(made, network).state_dict()},
            ready=[network],
        )
        checkpoint.save(files[name], content)
    experts = {**loaded.config.experts, **{name: str(file) for name, file in files.items()}}
    return with_borrowed(replace(loaded, config=loaded.config.model_copy(update={"experts": experts})))


def _merged(settings: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`settings` with the value at a dotted key."""
    first, _, rest = key.partition(".")
    return {**settings, first: _merged(dict(settings.get(first) or {}), rest, value) if rest else value}


@dataclass(frozen=True)
class _Loan:
    """A network to borrow: where it lies, what it needs (dotted keys of the borrower), what its weights are.

    Attributes:
        judges: hashes of the experts that it learnt to please, by their names: they are no judges of the borrower.
    """

    path: Path
    settings: Mapping[str, Any]
    hash: str
    judges: Mapping[str, str]


def _find(name: str, loan: Borrowed, loaded: LoadedConfig) -> _Loan | None:
    """The network that is meant; None for an optional one in a file that is no checkpoint, which tells no settings."""
    path = next(_candidates(name, loan, loaded), None)
    if path is None:
        raise LenderMissing(name, loan, loaded)
    if loan.optional and not _is_checkpoint(path):
        return None
    content = checkpoint.load(checkpoint.find_checkpoint(path))
    own, network = content.model == loaded.config.model_name, _name_in(content, name, loan, loaded.config)
    known = own or content.model == loan.model
    if not known and not loan.optional:
        raise CheckpointError(
            f"{path}: is a checkpoint of {content.model}; experts.{name} takes one of {loan.model}, or `auto`"
        )
    lacking = [] if network in content.ready else [f"'{network}'"]
    if not loan.optional:  # an expert is whole, whatever else of its model has not learnt
        lacking = lacking or _left_untrained(content, path)
    if lacking:
        raise CheckpointError(f"{path}: holds no trained {lacking[0]} for experts.{name}; train its run to the end")
    judges = _judges(name, content) if own else _own_judges(content) if known else {}
    return _Loan(path, _settings(loan, content, own) if known else {}, weights_hash(content.networks[network]), judges)


def _is_checkpoint(path: Path) -> bool:
    """Whether a path leads to a checkpoint of ours; of other files, and of none, whoever loads them tells more."""
    try:
        return CheckpointContent.recognise(checkpoint.read(checkpoint.find_checkpoint(path), mapped=True)) is not None
    except CheckpointError:
        return False


def _left_untrained(content: CheckpointContent, path: Path) -> list[str]:
    """What the stages of a checkpoint have not trained inside of its networks."""
    if content.stage in ("", IMPORTED):
        return []
    trained = from_plain(content.config, {}, str(path))
    return [*get_spec(content.model).model.left_untrained(trained.model, until(trained.stages, content.stage))]


def _own_judges(content: CheckpointContent) -> dict[str, str]:
    """Experts in a lender's checkpoint that its losses asked."""
    names = [name for name in get_spec(content.model).model.loss_experts if name in content.ready]
    return {name: weights_hash(content.networks[name]) for name in names}


def _judges(name: str, content: CheckpointContent) -> dict[str, str]:
    """The same, as the borrower's own checkpoint noted them."""
    noted, prefix = content.config.get("experts_weights") or {}, f"{name}_"
    return {key.removeprefix(prefix): made for key, made in noted.items() if key.startswith(prefix)}


def _candidates(name: str, loan: Borrowed, loaded: LoadedConfig) -> Iterator[Path]:
    """Where the network may lie, the best place first."""
    config = loaded.config
    asked = config.experts.get(name) or AUTO
    if asked != AUTO:
        inside = Path(config.weights_dir) / asked
        yield inside if inside.exists() and not Path(asked).exists() else Path(asked)
        return
    yield from _of_resumed(name, loan, config)
    for run in newest_first(Path(config.saved_dir) / f"{loan.model}-{config.dataset}"):
        if run.status == "finished" and _holds(run.path, loan.network or name):
            yield run.path
    imported = Path(config.weights_dir) / loan.model / "imported.pt"
    if imported.is_file():
        yield imported


def _of_resumed(name: str, loan: Borrowed, config: Config) -> Iterator[Path]:
    """What a run that goes on has begun with; where that is gone, or trained on, the run itself holds it."""
    if config.resume == "none":
        return
    run = RunFolder.open(config)
    file = run.path / "config.yaml"
    noted = read_yaml(file)[0] if file.is_file() else {}
    path, made = ((noted.get(key) or {}).get(name) for key in ("experts", "experts_weights"))
    if path and Path(path).exists() and made in (None, _hash_in(Path(path), name, loan, config)):
        yield Path(path)
    yield from (path for path in sorted(run.path.glob("*/last.pt")) if _holds(path, name))


def _hash_in(path: Path, name: str, loan: Borrowed, config: Config) -> str:
    """Hash of the network in a run or file; empty where it cannot be read or is not there."""
    try:
        content = checkpoint.load(checkpoint.find_checkpoint(path))
    except CheckpointError as error:
        log.warning("%s; it lends nothing", error)
        return ""
    state = content.networks.get(_name_in(content, name, loan, config))
    return weights_hash(state) if state else ""


def _name_in(content: CheckpointContent, name: str, loan: Borrowed, config: Config) -> str:
    """What a checkpoint calls the network: a run of the borrower holds what it borrowed."""
    return name if content.model == config.model_name else loan.network or name


def _holds(path: Path, network: str) -> bool:
    """Whether a run or file has trained weights of a network."""
    try:
        return network in checkpoint.load(checkpoint.find_checkpoint(path)).ready
    except CheckpointError as error:
        log.warning("%s; it lends nothing", error)
        return False


def _settings(loan: Borrowed, content: CheckpointContent, own: bool) -> dict[str, Any]:
    """What the network needs, by dotted keys of the borrower, as far as the checkpoint tells."""
    section = content.config.get("model") or {}
    found = {ours: _value(section, ours if own else theirs) for ours, theirs in loan.settings.items()}
    return {ours: value for ours, value in found.items() if value is not None}


def _value(section: Any, key: str) -> Any:
    for part in key.split(".") if key else ():
        section = section.get(part) if isinstance(section, Mapping) else None
    return section


def _refuse_contradictions(found: _Loan, loaded: LoadedConfig) -> None:
    """The user may repeat a setting that came along, not contradict it."""
    nested: dict[str, Any] = {}
    for key, value in found.settings.items():
        nested = _merged(nested, f"model.{key}", value)
    has = {dotted(path): value for path, value in leaves(nested)}
    asked = {key: value for key, value in loaded.asked("model").items() if key in has and has[key] != value}
    if asked:
        told = "; ".join(
            f"{key} is {value!r}, its network was trained with {has[key]!r}" for key, value in asked.items()
        )
        raise ConfigError(f"{found.path}: {told}. Leave the setting out, or name another run with --experts")
