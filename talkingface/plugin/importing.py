"""Published files of a paper made one checkpoint of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.config.layers import dotted, leaves, nest, to_plain
from talkingface.errors import CheckpointError, ConfigError
from talkingface.plugin.assembly import build_for
from talkingface.plugin.configuration import load_config
from talkingface.plugin.hearing import with_published_front_end
from talkingface.plugin.official import PublishedFile, alternatives, import_official, published_files
from talkingface.plugin.registry import get_spec
from talkingface.plugin.trained import read_trained
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import IMPORTED, CheckpointContent
from talkingface.weights.runs import note_licence

if TYPE_CHECKING:
    from talkingface.plugin.registry import ModelSpec


@dataclass(frozen=True)
class Imported:
    """A checkpoint made of published files.

    Attributes:
        path: where it lies.
        networks: the networks in it.
        missing: published files that were not there, by the network that has no weights for want of them.
        licence: what limits the use of the checkpoint; empty: nothing is known.
    """

    path: Path
    networks: tuple[str, ...]
    missing: dict[str, str]
    licence: str = ""


def import_checkpoints(
    model: str,
    folder: str | None,
    output: str | None,
    overrides: Mapping[str, Any],
    use: Mapping[str, str] | None = None,
) -> Imported:
    """Turn published files into one checkpoint of ours, every key checked.

    Args:
        model: registered model name.
        folder: where files of the published names are; None: only those of `use`.
        output: file to write; None: `<weights_dir>/<Model>/imported.pt`.
        overrides: configuration keys, stronger than the settings that a file brings along.
        use: network -> file of any name.

    Raises:
        CheckpointError: none of the files is there, or one does not fit.
        ConfigError: a file does not tell something that is needed, and `overrides` do not either.
    """
    spec = get_spec(model)
    problems: list[str] = []
    for files in alternatives(published_files(spec.model, folder, use)):
        try:
            content, licence = _imported_content(spec, files, overrides)
            break
        except CheckpointError as error:
            problems.append(str(error))
    else:
        raise CheckpointError("\n  ".join(dict.fromkeys(problems)))
    path = Path(output or Path(content.config["weights_dir"]) / spec.name / "imported.pt")
    checkpoint.save(path, content)
    missing = {each.network: each.file for each in spec.model.official if each.network not in content.networks}
    note_licence(path, licence)
    return Imported(path, tuple(content.networks), missing, licence)


def import_safe(model: str, source: str | Path, output: str | None, overrides: Mapping[str, Any]) -> Imported:
    """Turn a `.safetensors` of ours back into a checkpoint, once its weights are known to fit.

    Args:
        model: registered model name.
        source: the file, a folder that `publish` made, or `hub:USER/NAME`.
        output: file to write; None: `<weights_dir>/<Model>/imported.pt`.
        overrides: configuration keys that differ from the file's.

    Raises:
        CheckpointError: it is unreadable, of another model, or does not fit.
    """
    trained = read_trained(model, source, overrides)
    path = Path(output or Path(trained.config.weights_dir) / trained.name / "imported.pt")
    checkpoint.save(path, replace(trained.content, config=to_plain(trained.config)))
    note_licence(path, trained.model.licence)
    return Imported(path, tuple(trained.content.networks), {}, trained.model.licence)


def _imported_content(
    spec: ModelSpec, files: Sequence[PublishedFile], overrides: Mapping[str, Any]
) -> tuple[CheckpointContent, str]:
    """A model built as the files want it, with their weights, and what limits their use."""
    _ask(files, overrides)
    # The first file has the most to say: forms of one network exclude each other.
    settings = {f"model.{key}": value for file in reversed(files) for key, value in file.settings().items()}
    loaded = load_config(spec.name, "folder", (), {**settings, **overrides})
    config = with_published_front_end(loaded, {*settings, *_given(overrides)}).config
    spec.model.check_overrides(load_config(spec.name, "folder", (), settings).config.model, config.model)
    network = build_for(spec.model, config.model, {}, files[0].path)  # sizes may come from the file
    filled = import_official(network, files)
    made = CheckpointContent(
        model=spec.name,
        config=to_plain(config),
        networks={name: getattr(network, name).state_dict() for name in filled},
        stage=IMPORTED,
        trained=filled,
        ready=filled,
    )
    return made, network.licence


def _ask(files: Sequence[PublishedFile], overrides: Mapping[str, Any]) -> None:
    """See that whoever imports has said what the files do not tell.

    Raises:
        ConfigError: with the key.
    """
    given = _given(overrides)
    for file in files:
        for key in file.asks:
            if not any(f"{path}.".startswith(f"model.{key}.") for path in given):
                raise ConfigError(f"{file.path}: nothing in this file tells model.{key}; say --model.{key}=...")


def _given(overrides: Mapping[str, Any]) -> list[str]:
    """Dotted keys that whoever imports has set."""
    return [dotted(path) for path, _ in leaves(nest(overrides))]
