"""What may be set about the server: limits and places. The defaults stand in `properties/serve.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from talkingface.config.checks import validate
from talkingface.config.layers import Layer, Merged, nest, properties_dir
from talkingface.config.sections import Section
from talkingface.errors import ConfigError, closest


class ServeConfig(Section):
    """Limits of the server; they hold for every client.

    `queue` jobs may wait beside those at work. A request of more than `most_upload_mb` is turned away while it arrives;
    what is too long, too large or too small as a picture, once it was looked at. `keep_hours` is how long results stay,
    `most_results_mb` how much room all of them have: beyond it those go that were done first.
    `stall_seconds` is how long the server waits for a client that asks or says nothing.
    `names` are further names by which a server on this machine alone is called, as by a proxy in front of it.
    """

    folder: str = "serving"
    queue: int = Field(32, ge=1)
    most_upload_mb: float = Field(200, gt=0)
    most_audio_seconds: float = Field(120, gt=0)
    most_source_seconds: float = Field(300, gt=0)
    most_pixels: int = Field(2_100_000, gt=0)
    least_pixels: int = Field(4096, gt=0)
    upload_seconds: float = Field(120, gt=0)
    check_seconds: float = Field(60, gt=0)
    job_seconds: float = Field(900, gt=0)
    keep_hours: float = Field(24, gt=0)
    most_results_mb: float = Field(20_000, gt=0)
    models_kept: int = Field(2, ge=1)
    connections: int = Field(200, ge=1)
    avatars: int = Field(16, ge=1)
    stall_seconds: float = Field(10, gt=0)
    names: tuple[str, ...] = ()


def load_serving(files: Sequence[str | Path] = (), overrides: Mapping[str, Any] | None = None) -> ServeConfig:
    """Resolve and check the settings of the server.

    Args:
        files: YAML files with a section `serve`, later ones win.
        overrides: dotted key (`serve.queue`) -> value, strongest.

    Raises:
        ConfigError: every unknown key and wrong value, one line each with its origin.
    """
    layers = [Layer.from_file(Path(path)) for path in (properties_dir() / "serve.yaml", *files)]
    merged, problems = Merged(), []
    for layer in (*layers, Layer("command line", nest(overrides or {}))):
        for key in sorted(layer.data.keys() - {"serve"}):
            hint = closest(key, ["serve"])
            problems.append(f"{layer.where((key,))}: unknown key '{key}'{hint}: only `serve` belongs here")
        merged.add(layer)
    config = validate(ServeConfig, merged.data.get("serve") or {}, ("serve",), merged, problems)
    if problems or config is None:
        raise ConfigError("\n  ".join(problems))
    return config
