"""`graphs.json` beside exported networks: what goes in and out of each, and from which weights it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from talkingface.errors import CheckpointError, DataError
from talkingface.files import file_sha256, write_text
from talkingface.plugin.graphs import Port
from talkingface.stored.jsons import read_json
from talkingface.version import __version__

FORMAT = 1
NAME = "graphs.json"


@dataclass(frozen=True)
class Exported:
    """An entry of the file.

    Attributes:
        file: name of the ONNX file, in the same folder.
        network: dotted path of the network in the model.
        method: of the network.
        weights: hash of the weights of the network, see `weights.hashes`.
        sha256: of the file.
        difference: the largest from PyTorch that the check has seen.
        inputs: what goes in, in order, as plain data.
        outputs: what comes out, likewise.
        crop: how the pictures that go in are cut out; empty where there are none.
    """

    file: str
    network: str
    method: str
    weights: str
    sha256: str
    difference: float
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    crop: dict[str, Any]


def folder_beside(checkpoint: Path) -> Path:
    """Where the ONNX files of a checkpoint lie unless somebody says otherwise."""
    return checkpoint.parent / "onnx"


def write_manifest(folder: Path, model: str, entries: Sequence[Exported]) -> Path:
    """Write the file.

    Args:
        folder: of the ONNX files.
        model: registered name.
        entries: what was exported.
    """
    content = {"format": FORMAT, "talkingface": __version__, "model": model, "files": [asdict(e) for e in entries]}
    path = folder / NAME
    write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def ports(declared: Sequence[Port]) -> list[dict[str, Any]]:
    """Tensors in plain data."""
    return [_plain(port) for port in declared]


def _plain(port: Port) -> dict[str, Any]:
    """A tensor in words; what is not known of it is left out."""
    content = {"name": port.name, "dtype": "float32", "shape": list(port.shape), "about": port.about}
    content |= {"range": [port.low, port.high]} if (port.low, port.high) != (None, None) else {}
    return content | ({"colour": port.colour} if port.colour else {})


def read_manifest(folder: Path, model: str) -> dict[tuple[str, str], Exported]:
    """What was exported, by network and method; every file is there and is the one that was checked.

    Raises:
        CheckpointError: there is nothing, it is of another model, damaged, or a file has changed.
    """
    path = folder / NAME
    again = f"`python run_talkingface.py export --model={model} --checkpoint=RUN --format=onnx` makes it"
    if not path.is_file():
        raise CheckpointError(f"{path}: no exported networks here; {again}")
    try:
        content = read_json(path)
        found = [Exported(**{name: entry[name] for name in Exported.__annotations__}) for entry in content["files"]]
        other, newer = content["model"] != model, content["format"] > FORMAT
    except (DataError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is damaged or none of ours ({error}); {again} anew") from None
    if other or newer:
        what = f"of {content['model']}, not of {model}" if other else "written by a newer talkingface"
        raise CheckpointError(f"{path}: is {what}; {again} anew")
    for entry in found:
        file = folder / Path(str(entry.file)).name
        if not file.is_file() or file_sha256(file) != entry.sha256:
            raise CheckpointError(f"{file}: is missing or not the file that was checked; {again} anew")
    return {(entry.network, entry.method): entry for entry in found}
