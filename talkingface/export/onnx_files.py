"""Writing a model's networks as ONNX files, each compared with PyTorch before it counts."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from packaging.version import Version
from torch import Tensor, nn

from talkingface.errors import CheckpointError, PackageMissing, first_line
from talkingface.export.manifest import Exported, ports, write_manifest
from talkingface.export.runtime import OnnxGraph
from talkingface.files import atomic_output, file_sha256, writable_folder
from talkingface.weights.hashes import weights_hash

if TYPE_CHECKING:
    from talkingface.plugin.contract import TalkingFaceModel
    from talkingface.plugin.graphs import Graph, Port

log = logging.getLogger("talkingface")

TOLERANCE = 1e-4
"""Largest difference from PyTorch: absolute up to values of 1, beyond that in shares of the largest value."""

OPSET = 18
LEAST_TORCH = (2, 5)  # the first whose exporter knows torch.export's graphs
TRACED, OTHERS = 2, ((1, 3), (5, 7))
"""Sizes of named axes: while the graph is recorded, and in the checks (batch, any other axis)."""


def export_model(
    model: TalkingFaceModel, name: str, ready: Collection[str], folder: Path, told: Callable[[str], None]
) -> list[Path]:
    """Write every graph of a model whose network has trained weights, and `graphs.json`.

    Args:
        model: with its weights, on the CPU.
        name: its registered name.
        ready: networks with trained weights; graphs of others are left out, and told.
        folder: where the files go.
        told: gets a line about every graph.

    Returns:
        The files.

    Raises:
        CheckpointError: there is nothing to export, or a graph differs from PyTorch.
        PackageMissing: torch is too old.
        OutputError: a file cannot be written.
    """
    if Version(torch.__version__).release < LEAST_TORCH:
        raise PackageMissing(f"export --format=onnx needs torch 2.5 or newer, {torch.__version__} is installed")
    graphs = model.eval().graphs()
    if not graphs:
        raise CheckpointError(f"{name} declares no graphs; docs/adding_a_model.md#export says how a model does")
    written: list[Exported] = []
    writable_folder(folder)
    for graph in graphs:
        if graph.weights not in ready:
            told(f"left out {graph.name}: the checkpoint holds no trained {graph.weights}")
            continue
        exported = _export(model, graph, folder)
        told(f"wrote {folder / exported.file}, at most {exported.difference:.1e} from PyTorch")
        written.append(exported)
    if not written:
        raise CheckpointError(f"{name}: none of its networks is trained, so nothing is exported")
    manifest = write_manifest(folder, name, written)
    return [*(folder / exported.file for exported in written), manifest]


def _export(model: TalkingFaceModel, graph: Graph, folder: Path) -> Exported:
    traced = Traced(model, graph).eval()
    path = folder / f"{graph.name}.onnx"
    with atomic_output(path) as temporary:
        _record(traced, graph, temporary)
        difference = largest_difference(traced, graph, OnnxGraph(temporary))
        if not difference <= TOLERANCE:
            raise CheckpointError(
                f"{path}: differs from PyTorch by {difference:.1e}, more than {TOLERANCE:g}; it is not kept"
            )
    weights = weights_hash(getattr(model, graph.weights).state_dict())
    return Exported(
        file=path.name,
        network=graph.network,
        method=graph.method,
        weights=weights,
        sha256=file_sha256(path),
        difference=difference,
        inputs=ports(graph.inputs),
        outputs=ports(graph.outputs),
        crop=dict(graph.crop),
    )


class Traced(nn.Module):
    """A graph's method as a module that takes and gives plain tensors.

    Args:
        model: whose network it is.
        graph: what is recorded.
    """

    def __init__(self, model: TalkingFaceModel, graph: Graph) -> None:
        super().__init__()
        self.network = model.get_submodule(graph.network)
        self._call = graph.call or getattr(self.network, graph.method)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order."""
        made = self._call(*inputs)
        return (made,) if isinstance(made, Tensor) else tuple(made)


def _record(traced: Traced, graph: Graph, path: Path) -> None:
    """Let torch write the file, without what its exporter has to say about itself."""
    axes = {name for port in graph.inputs for name in port.shape if isinstance(name, str)}
    dims = {name: torch.export.Dim(name, max=graph.most.get(name)) for name in sorted(axes)}
    shapes = tuple({k: dims[s] for k, s in enumerate(p.shape) if isinstance(s, str)} for p in graph.inputs)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                traced,
                examples(graph.inputs, TRACED, TRACED + 2, seed=0),
                str(path),
                input_names=[port.name for port in graph.inputs],
                output_names=[_output_name(port, graph) for port in graph.outputs],
                dynamic_shapes=(shapes,),  # one entry: `forward` takes them as *inputs
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        if os.environ.get("TALKINGFACE_DEBUG"):
            raise
        raise CheckpointError(f"{graph.name}: torch {torch.__version__} cannot write it: {first_line(error)}") from None


def _output_name(port: Port, graph: Graph) -> str:
    """Names of a graph must differ: an output that has the name of an input gets a longer one."""
    taken = {each.name for each in graph.inputs}
    return f"{port.name}_out" if port.name in taken else port.name


@torch.no_grad()
def largest_difference(traced: Traced, graph: Graph, exported: OnnxGraph) -> float:
    """How far the file is from PyTorch on random inputs of other sizes than it was recorded with, see `TOLERANCE`."""
    worst = 0.0
    for seed, sizes in enumerate(OTHERS, start=1):
        inputs = examples(graph.inputs, *sizes, seed=seed)
        for ours, theirs in zip(traced(*inputs), exported(*inputs), strict=True):
            if ours.shape != theirs.shape or not torch.isfinite(theirs).all():
                return float("inf")
            worst = max(worst, float((ours - theirs).abs().max()) / max(1.0, float(ours.abs().max())))
    return worst


def examples(ports: Sequence[Port], batch: int, other: int, seed: int) -> tuple[Tensor, ...]:
    """Random inputs inside the declared ranges; where there is none, normally distributed.

    Args:
        ports: what goes in.
        batch: size of the axis `batch`.
        other: size of every other named axis.
        seed: of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for port in ports:
        shape = [size if isinstance(size, int) else batch if size == "batch" else other for size in port.shape]
        if port.low is None or port.high is None:
            values = torch.randn(shape, generator=generator)
            made.append(values if port.low is None else values.clamp(min=port.low))
        else:
            made.append(port.low + (port.high - port.low) * torch.rand(shape, generator=generator))
    return tuple(made)
