"""Exported networks that run: ONNX files in place of the methods of a model's networks."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from talkingface.errors import CheckpointError, first_line
from talkingface.export.manifest import ports, read_manifest
from talkingface.packages import need
from talkingface.weights.hashes import weights_hash

if TYPE_CHECKING:
    from talkingface.plugin.contract import TalkingFaceModel

log = logging.getLogger("talkingface")


class OnnxGraph:
    """An ONNX file that takes and gives float32 tensors.

    Args:
        path: the file.
        device: where its inputs and outputs lie; on a GPU it computes there where onnxruntime can.
    """

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        self.path, self.device = path, torch.device(device)

    @cached_property
    def _session(self) -> Any:
        """The file read, at its first use: it computes with as many threads as torch does by then.

        Raises:
            CheckpointError: onnxruntime cannot read it.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        wanted = ["CUDAExecutionProvider"] if self.device.type == "cuda" else []
        here = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            return onnxruntime.InferenceSession(str(self.path), options, [*here, "CPUExecutionProvider"])
        except Exception as error:  # its classes are those of pybind, without a base of their own
            reason = f"onnxruntime cannot run it ({first_line(error)}); export it again"
            raise CheckpointError(f"{self.path}: {reason}") from None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run it on tensors, in the order in which they were declared."""
        values = [tensor.detach().to("cpu", torch.float32).contiguous().numpy() for tensor in inputs]
        names = [each.name for each in self._session.get_inputs()]
        try:
            made = self._session.run(None, dict(zip(names, values, strict=True)))
        except Exception as error:  # see `_session`
            raise CheckpointError(f"{self.path}: onnxruntime cannot compute with it ({first_line(error)})") from None
        return tuple(torch.from_numpy(value).to(self.device) for value in made)


def run_exported(model: TalkingFaceModel, name: str, folder: Path) -> None:
    """Let ONNX files take the place of the methods that the model's graphs declare.

    Args:
        model: with the weights that were exported.
        name: its registered name.
        folder: of the files and `graphs.json`.

    Raises:
        CheckpointError: what videos need was not exported, or from other weights.
        PackageMissing: onnxruntime is not installed.
    """
    need("onnx", "--backend=onnx")
    found, wanted = read_manifest(folder, name), set(model.needed_to_speak(model.config) or ())
    for graph in model.graphs():
        entry = found.get((graph.network, graph.method))
        if entry is None:
            if graph.weights not in wanted:
                continue
            raise CheckpointError(f"{folder}: holds no {graph.name}; export the checkpoint again")
        if entry.weights != weights_hash(getattr(model, graph.weights).state_dict()):
            raise CheckpointError(f"{folder / entry.file}: was made of other weights; export this checkpoint again")
        if (entry.inputs, entry.outputs) != (ports(graph.inputs), ports(graph.outputs)):
            why = "was made with other settings (sizes of the pictures, how many references)"
            raise CheckpointError(f"{folder / entry.file}: {why}; export the checkpoint with these")
        run, network = OnnxGraph(folder / entry.file, model.device), model.get_submodule(graph.network)
        methods = {graph.method: graph.stand_in(run), **{method: make(run) for method, make in graph.also.items()}}
        for method, stand_in in methods.items():
            setattr(network, method, stand_in)
    model.backend = "onnx"
    log.info("networks of %s run as ONNX files from %s", name, folder)
