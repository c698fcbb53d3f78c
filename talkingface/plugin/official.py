"""From the published files of a paper to a model with their weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from talkingface.errors import CheckpointError, unknown
from talkingface.weights.checkpoint import load_state, read

if TYPE_CHECKING:
    from talkingface.plugin.contract import Official, TalkingFaceModel

log = logging.getLogger("talkingface")


@dataclass(frozen=True)
class PublishedFile:
    """A file that is there, read as one published file of the model.

    Attributes:
        official: what is known of it.
        path: where it lies, under whatever name.
    """

    official: Official
    path: Path

    @property
    def asks(self) -> tuple[str, ...]:
        """Dotted model keys that whoever imports it must give."""
        own = self.path.name == self.official.file
        return self.official.asks if own else (*self.official.asks, *self.official.asks_of_others)

    def state(self) -> dict[str, Tensor]:
        """The entries that our network takes, under our names.

        Raises:
            CheckpointError: unreadable, or of another layout.
        """
        return official_state(self.official, read(self.path, objects=self.official.objects), self.path)

    def settings(self) -> Mapping[str, Any]:
        """Dotted model keys that these weights need.

        Raises:
            CheckpointError: they follow from the entries, and those are others.
        """
        wanted = self.official.settings
        if not callable(wanted):
            return wanted
        try:
            return wanted(self.state())
        except (LookupError, AttributeError, ValueError, TypeError, ArithmeticError) as error:
            raise CheckpointError(
                f"{self.path}: not the published weights of '{self.official.network}': {type(error).__name__} {error}"
            ) from None


def published_files(
    model: type[TalkingFaceModel], folder: str | Path | None, use: Mapping[str, str | Path] | None = None
) -> list[PublishedFile]:
    """The published files that are there, those of `use` first.

    Args:
        model: class of the model.
        folder: where files of the published names are; None: nowhere.
        use: network -> file of any name. It comes in every form that is published for the network, unless its name
            tells which; see `alternatives`.

    Raises:
        CheckpointError: none is there, a file of `use` is missing, or nothing is published for its network.
    """
    if not model.official:
        raise CheckpointError(f"{model.__name__} has no published checkpoints to import")
    files: list[PublishedFile] = []
    for network, name in (use or {}).items():
        forms = [official for official in model.official if official.network == network]
        if not forms:
            known = {official.network for official in model.official}  # one may be published in several forms
            raise CheckpointError(unknown("published network", network, known))
        if not Path(name).is_file():
            raise CheckpointError(f"{name}: no such file for '{network}'")
        named = [official for official in forms if official.file == Path(name).name]
        files += [PublishedFile(official, Path(name)) for official in named or forms]
    if folder is not None:
        if not Path(folder).is_dir():
            raise CheckpointError(f"{folder}: no such folder")
        rest = [official for official in model.official if official.network not in (use or {})]
        there = [PublishedFile(official, Path(folder) / official.file) for official in rest]
        files += [file for file in there if file.path.is_file()]
    if not files:
        wanted = ", ".join(dict.fromkeys(official.file for official in model.official))
        raise CheckpointError(f"{folder}: none of the published files is there: {wanted}")
    return files


def alternatives(files: Sequence[PublishedFile]) -> Iterator[list[PublishedFile]]:
    """Every way to read each file in one form."""
    forms: dict[tuple[str, Path], list[PublishedFile]] = {}
    for file in files:
        forms.setdefault((file.official.network, file.path), []).append(file)
    for choice in product(*forms.values()):
        yield list(choice)


def import_official(model: TalkingFaceModel, files: Sequence[PublishedFile]) -> list[str]:
    """Fill a model from published files.

    Args:
        model: freshly built model.
        files: what is there. Where several may fill one network (forms of different size, say), the first that fits
            does.

    Returns:
        Names of the networks that were filled.

    Raises:
        CheckpointError: entries that do not fit, each named.
    """
    filled: list[str] = []
    problems: list[tuple[str, str]] = []
    for file in files:
        network = file.official.network
        if network in filled:
            log.warning("%s: left out, '%s' is filled already; give it a folder of its own", file.path, network)
            continue
        try:
            load_state(getattr(model, network), file.state(), f"{file.path}", file.official.lacks)
        except CheckpointError as error:
            problems.append((network, str(error)))
            continue
        filled.append(network)
    unfit = [text for network, text in problems if network not in filled]
    if unfit:
        raise CheckpointError("\n  ".join(unfit))
    return filled


def official_state(official: Official, content: Any, path: Path) -> dict[str, Tensor]:
    """The entries one of our networks takes from a published file, under our names.

    Args:
        official: what is known of the file.
        content: what was read.
        path: of the file, for messages.

    Raises:
        CheckpointError: the file has another layout.
    """
    for key in official.key:
        if not isinstance(content, dict) or key not in content:
            raise CheckpointError(f"{path}: expected an entry '{key}', the file has another layout")
        content = content[key]
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(f"{path}: expected named tensors, the file has another layout")
    state = {}
    for key, value in content.items():
        # Only one leading prefix goes: `flow_module.` contains the substring `module.` as well.
        key = key[len(official.strip) :] if official.strip and key.startswith(official.strip) else key
        if key.startswith(official.ignore) and official.ignore:
            continue
        for old, new in official.rename:
            if key.startswith(old):
                key = new + key[len(old) :]
                break
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: '{key}' is no tensor, the file has another layout")
        state[key] = value
    return state
