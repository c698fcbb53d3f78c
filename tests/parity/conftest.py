"""Fixtures of the parity tests.

`python -m pytest tests/parity --vectors DIR` runs the same tests on other vectors: `DIR/<system>/<name>.json`, the same
file names, another salt. Numbers that may change with the salt are read from the JSON, never written in a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from . import fill

if TYPE_CHECKING:
    import torch
    from torch import nn

VECTORS = Path(__file__).parent / "vectors"


class Vector:
    """One vector file: what goes in, what comes out, and how to compare.

    `data` is the JSON itself, `salt` its salt, `outputs` the stored outputs. numpy in and out unless a name says torch.
    """

    def __init__(self, path: Path) -> None:
        """Read `path`."""
        self.path = path
        self.data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.salt: str = self.data.get("salt", "")
        self.outputs: dict[str, Any] = self.data.get("outputs", {})

    def __getitem__(self, key: str) -> Any:
        """A top-level field of the JSON."""
        return self.data[key]

    def sibling(self, name: str) -> Vector:
        """Another vector of the same system."""
        return Vector(self.path.with_name(f"{name}.json"))

    def tensor(self, name: str, shape: Any, dist: str = "normal") -> np.ndarray:
        """An input that is not in the list of inputs, with this file's salt."""
        return fill.tensor(name, shape, dist, self.salt)

    def input(self, name: str) -> np.ndarray:
        """The listed input called `name`."""
        entry = next(entry for entry in self["inputs"] if entry["name"] == name)
        return self.tensor(name, entry["shape"], entry["dist"])

    def inputs(self) -> list[torch.Tensor]:
        """All listed inputs as torch tensors, in their order."""
        import torch

        return [torch.from_numpy(self.input(entry["name"])) for entry in self["inputs"]]

    def signal(self) -> np.ndarray:
        """The waveform that the field `signal` describes, float32 at 16 kHz."""
        spec = self["signal"]
        wave = fill.signal(spec["seconds"])
        if spec["noise"]:
            shape = next((e["shape"] for e in self["inputs"] if e["name"] == spec["noise"]), wave.shape)
            noise = fill.tensor(spec["noise"], shape, "normal", self.salt)
            wave = wave + np.float32(spec["noise_gain"]) * noise
        return np.clip(wave, -1.0, 1.0) if spec["clip"] else wave

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Filled weights under the published keys, in the order of the file."""
        import torch

        return {k: torch.from_numpy(np.asarray(v)) for k, v in fill.weights(self["state_dict"], self.salt).items()}

    def load(self, network: nn.Module) -> nn.Module:
        """Check that the network's keys, shapes and dtypes equal the published ones item by item, then fill it.

        Entries in `constructed_buffers` keep the values of the constructor.
        """
        ours = [[k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in network.state_dict().items()]
        assert ours == [list(entry) for entry in self["state_dict"]]
        kept = {key: network.state_dict()[key] for key in self["constructed_buffers"]}
        network.load_state_dict(self.state_dict() | kept, strict=True)
        return network

    def check(self, name: str, got: Any, tolerance: float = 1e-4) -> None:
        """Compare `got` with the stored output `name`.

        The tolerance is a share of the stored largest absolute value. The same kind of CPU gives about 1e-8 here; the
        default leaves room for other CPUs, whose rounding the warps by random flows enlarge.
        """
        self.check_stored(self.outputs[name], got, tolerance, name)

    def check_stored(self, stored: dict[str, Any], got: Any, tolerance: float = 1e-4, name: str = "output") -> None:
        """Compare `got` with a stored summary that lies elsewhere in the file."""
        got = got.detach().cpu().numpy() if hasattr(got, "detach") else got
        error = fill.deviation(got, stored)
        assert error <= tolerance, f"{self.path.name}: {name} is off by {error:.2e} of its largest value"

    def check_norms(self, network: nn.Module, stored: dict[str, Any], group: str = "", tolerance: float = 1e-2) -> None:
        """Compare the gradient norms of named parameters; `None` means that no gradient may arrive.

        The file's `grad_norm_tolerance`, keyed by group or by the front of a name, comes before `tolerance`.
        """
        bounds = self.data.get("grad_norm_tolerance", {})
        parameters = dict(network.named_parameters())
        for key, want in stored.items():
            if key == "how":
                continue
            gradient = parameters[key].grad
            if want is None:
                assert gradient is None or not gradient.any(), f"{group} {key} has a gradient"
                continue
            own = [bound for name, bound in bounds.items() if name == group or key.startswith(name)]
            error = abs(gradient.norm().item() - want) / abs(want)
            assert error <= max(own, default=tolerance), f"{group} {key}: gradient norm is off by {error:.2e}"


@pytest.fixture(scope="session")
def vectors_dir(request: pytest.FixtureRequest) -> Path:
    """The folder given by `--vectors`; ours by default."""
    folder = Path(request.config.getoption("--vectors") or VECTORS)
    if not folder.is_dir():
        raise pytest.UsageError(f"--vectors {folder}: no such folder")
    return folder


@pytest.fixture(scope="session")
def vector(vectors_dir: Path) -> Callable[[str, str], Vector]:
    """`vector(system, name)` reads `<vectors>/<system>/<name>.json` into a `Vector`.

    The test is skipped when a folder given with `--vectors` lacks the file; our own copy must be complete.
    """

    def read(system: str, name: str) -> Vector:
        path = vectors_dir / system / f"{name}.json"
        if not path.is_file() and vectors_dir.resolve() != VECTORS.resolve():
            pytest.skip(f"{path} is absent")
        return Vector(path)

    return read


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread: the stored numbers are of a fixed order of sums, and small inputs gain nothing from more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
