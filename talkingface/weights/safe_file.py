"""`.safetensors` files of ours: the networks, and in the header what model and configuration they are of.

Tensors are called `<network>.<entry>`. The header's metadata has one entry of ours, `talkingface`, a JSON object with
what a checkpoint has beside its networks. Nothing in such a file can be code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from talkingface.errors import CheckpointError, first_line
from talkingface.files import atomic_output
from talkingface.packages import need
from talkingface.stored.jsons import MOST_BYTES, parse_json

SUFFIX = ".safetensors"
PUBLISHED = f"model{SUFFIX}"
"""Name of the weights in a folder that `publish` makes; the hub's pages look for it."""

KEY = "talkingface"


def write_safe(path: Path, networks: Mapping[str, Mapping[str, Tensor]], told: Mapping[str, Any]) -> None:
    """Write networks.

    Args:
        path: the file.
        networks: network -> its entries.
        told: plain data for the header.

    Raises:
        PackageMissing: safetensors is not installed.
        OutputError: it cannot be written.
    """
    need("hub", "a .safetensors file")
    from safetensors.torch import save_file

    # Copies: the format knows no memory that two tensors share, and no layout but the plain one.
    tensors = {
        f"{name}.{key}": value.detach().cpu().contiguous(memory_format=torch.contiguous_format).clone()
        for name, state in networks.items()
        for key, value in state.items()
    }
    header = {"format": "pt", KEY: json.dumps(dict(told), allow_nan=False)}
    with atomic_output(path) as temporary:
        mode = temporary.stat().st_mode
        save_file(tensors, temporary, metadata=header)
        temporary.chmod(mode)  # safetensors 0.8 leaves a file that its owner alone may read


def read_safe(path: Path) -> dict[str, Any]:
    """The entries of a checkpoint, as `write_safe` was given them; `networks` among them.

    Raises:
        PackageMissing: safetensors is not installed.
        CheckpointError: damaged, or none of ours.
    """
    need("hub", f"{path}")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = (file.metadata() or {}).get(KEY, "")
            told = parse_json(header) if 0 < len(header) <= MOST_BYTES else None
            if not isinstance(told, dict):
                raise CheckpointError(f"{path}: its header says nothing of a talkingface model; `export` writes one")
            networks: dict[str, dict[str, Tensor]] = {}
            names = file.keys()  # a file cannot be iterated over
            for full in names:
                name, _, key = full.partition(".")
                networks.setdefault(name, {})[key] = file.get_tensor(full)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        why = f"cut short, damaged or none of ours ({first_line(error)})"
        raise CheckpointError(f"{path}: cannot be read: {why}; copy it again") from None
    return {**told, "networks": networks}
