"""Checkpoints whose networks are random: as good as trained ones for whoever moves, exports or shares them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from talkingface.config.layers import to_plain
from talkingface.plugin.borrowed import with_stand_ins
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.weights.checkpoint import CheckpointContent, save


def random_checkpoint(name: str, folder: Path, dataset: str = "folder", **overrides: Any) -> Path:
    """`last.pt` of stage `<last stage>` in a run folder, every network counted as trained."""
    loaded = with_stand_ins(load_config(name, dataset, (), overrides), folder / "lent")
    torch.manual_seed(0)
    model = get_spec(name).model(loaded.config.model)
    for parameter in model.parameters():
        if not parameter.any():  # what begins at zero would hide all that lies before it
            torch.nn.init.normal_(parameter, std=0.1)
    networks = {child: network.state_dict() for child, network in model.named_children()}
    stage = loaded.config.stages[-1].name
    content = CheckpointContent(
        model=name,
        config=to_plain(loaded.config),
        networks=networks,
        stage=stage,
        trained=list(networks),
        ready=list(networks),
        step=20,
    )
    path = folder / stage / "last.pt"
    save(path, content)
    return path


def edited(content: CheckpointContent, **changes: Any) -> dict[str, Any]:
    """The entries of a checkpoint with some of them exchanged, without its networks."""
    plain: Mapping[str, Any] = content.to_plain()
    return {key: value for key, value in {**plain, **changes}.items() if key != "networks"}
