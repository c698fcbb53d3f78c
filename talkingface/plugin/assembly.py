"""A model for stored weights, the experts that `experts:` names, and whether the model can speak with what it has."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from talkingface.errors import CheckpointError, first_line, out_of_memory
from talkingface.weights.checkpoint import check_networks, find_checkpoint
from talkingface.weights.hashes import weights_hash
from talkingface.weights.hub import is_on_hub

if TYPE_CHECKING:
    from torch import Tensor

    from talkingface.config.sections import Config, Section, StageConfig
    from talkingface.plugin.contract import TalkingFaceModel

MOST_ELEMENTS = 2**28
"""Numbers in all networks of a model that its checkpoint does not hold; 1 GiB."""

MOST_CALLS = 50_000
"""Calls of torch while a model is built, beside a hundred for each entry of the file; Wav2Lip needs 5 000."""

_VALUES_WANTED = re.compile(
    r"Tensor\.item\(\) cannot be called on meta|can't convert meta device|Tensor on device \w+ is not on the expected"
)


def build_for(
    model: type[TalkingFaceModel], settings: Section, networks: Mapping[str, Mapping[str, Tensor]], source: Path
) -> TalkingFaceModel:
    """Build a model with the settings that a checkpoint names, once its weights are known to fit.

    A file of a few hundred bytes may name a model of terabytes, so it is first built without memory.

    Args:
        model: class of the model.
        settings: its settings.
        networks: network -> entries of the checkpoint.
        source: the checkpoint, for messages.

    Raises:
        CheckpointError: the entries do not fit, or the settings ask for networks beyond all measure.
    """
    most = MOST_CALLS + 100 * sum(map(len, networks.values()))
    try:
        with torch.device("meta"), _FewCalls(most):
            sketch = model(settings)
    except _TooManyCalls:
        raise CheckpointError(f"{source}: its settings ask for a model of too many layers") from None
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        if _lacks_values(error):  # a plug-in that computes with its first weights
            return _built(model, settings, source)
        raise _unbuilt(error, source) from None
    check_networks(sketch, networks, source)
    held = sum(value.numel() for state in networks.values() for value in state.values())
    whole = sum(tensor.numel() for tensor in (*sketch.parameters(), *sketch.buffers()))
    if whole - held > MOST_ELEMENTS:
        raise CheckpointError(
            f"{source}: its settings ask for {whole:.2g} weights, of which the file holds {held}; it is not built"
        )
    return _built(model, settings, source)


def _lacks_values(error: Exception) -> bool:
    """Whether torch says that a tensor without memory was to be computed with; a model may say anything of its own."""
    return isinstance(error, NotImplementedError) or bool(_VALUES_WANTED.match(str(error)))


def _built(model: type[TalkingFaceModel], settings: Section, source: Path) -> TalkingFaceModel:
    """The model itself; memory that is not there is told elsewhere, for all commands alike."""
    try:
        return model(settings)
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise _unbuilt(error, source) from None


def _unbuilt(error: Exception, source: Path) -> CheckpointError:
    return CheckpointError(f"{source}: no model can be built with its settings ({first_line(error)})")


class _TooManyCalls(Exception):
    """A model of too many parts is being built."""


class _FewCalls(TorchFunctionMode):
    """Within: an error after many calls of torch; also layers without memory take some, and time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count, and do what was asked for."""
        self.left -= 1
        if self.left < 0:
            raise _TooManyCalls
        return func(*args, **kwargs or {})


def load_experts(
    model: TalkingFaceModel, config: Config, kinds: Collection[str] | None = None, held: Collection[str] = ()
) -> None:
    """Load the weights of experts from the files or runs that `experts:` names, and note them in `model.given`.

    In training frozen networks must be given; one that another stage trains may be.

    Args:
        model: the model to fill.
        config: its configuration; files are looked up as they are, then under `weights_dir`.
        kinds: stage kinds that are about to train, whose experts must be there; None: videos are made, for which used
            networks are loaded where they are there.
        held: networks that a checkpoint holds, which need no file.

    Raises:
        CheckpointError: a needed file is missing; the message says which key names it.
    """
    plans = [plan for kind, plan in model.plans.items() if kinds is None or kind in kinds]
    # Frozen networks judge in training; whoever makes videos with a checkpoint needs no file of them.
    needed = {name for plan in plans for name in plan.frozen} if kinds is not None else set()
    offered = {name for plan in plans for name in plan.uses if config.experts.get(name)}
    for name in sorted((needed | offered) - set(held)):
        file = config.experts.get(name)
        path = _place_of(file, config.weights_dir) if file else None
        if path is not None:
            model.load_expert(name, path)
            model.given |= {name}
        elif kinds is not None:
            raise CheckpointError(
                f"{file or name}: the weights of '{name}' are not there; `python run_talkingface.py doctor` says where"
                f" to get them, --experts.{name}=FILE names another place{model.expert_hint(name)}"
            )


def _place_of(file: str, weights_dir: str) -> Path | None:
    """Where the weights lie that an entry of `experts:` names; None where there are none."""
    if is_on_hub(file):
        return find_checkpoint(file)
    return next((path for path in (Path(file), Path(weights_dir) / file) if path.exists()), None)


def lacking_to_speak(
    model: type[TalkingFaceModel], config: Section, ready: Collection[str], stages: Sequence[StageConfig]
) -> list[str] | None:
    """Networks, or parts of them, that making videos needs and that are not ready; None for a model that makes none.

    Args:
        model: class of the model.
        config: its settings.
        ready: names of the networks with trained or given weights.
        stages: those that trained, see `TalkingFaceModel.left_untrained`.
    """
    needed = model.needed_to_speak(config)
    if needed is None:
        return None
    return [*(name for name in needed if name not in ready), *model.left_untrained(config, stages)]


def hash_in_use(model: TalkingFaceModel) -> str:
    """What the weights are that a model makes videos with, or judges with, in one word, whatever file they came in.

    What else lies in a checkpoint, a discriminator say, does not count, nor what `bind` replaces.
    """
    names = model.needed_to_speak(model.config)
    if names is None:
        names = tuple(name for plan in model.plans.values() for name in plan.trains)
    states = {name: getattr(model, name).state_dict() for name in names}
    entries = {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}
    return weights_hash({key: value for key, value in entries.items() if key not in model.replaced_by_bind})
