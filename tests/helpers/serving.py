"""What servers in tests are given: a checkpoint with random weights, a face, a voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers.clips import portrait, tone
from talkingface.config.layers import to_plain
from talkingface.media import write_image, write_wav
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint


def random_checkpoint(path: Path, name: str = "Wav2Lip", profile: str = "tiny") -> Path:
    """A checkpoint whose networks are as they were initialised: its videos mean nothing, but they are videos."""
    config = load_config(name, "demo", (), {"profile": profile}).config
    model = get_spec(name).model(config.model)
    needed = model.needed_to_speak(config.model) or ()
    networks = {network: getattr(model, network).state_dict() for network in needed}
    content = checkpoint.CheckpointContent(
        model=name,
        config=to_plain(config),
        networks=networks,
        stage=config.stages[-1].name,
        trained=list(networks),
        ready=list(networks),
    )
    checkpoint.save(path, content)
    return path


def write_face(path: Path) -> Path:
    """A picture of a face."""
    write_image(path, np.ascontiguousarray(portrait()))
    return path


def write_voice(path: Path, seconds: float = 0.4) -> Path:
    """A tone, which stands for a voice."""
    write_wav(path, tone(seconds))
    return path
