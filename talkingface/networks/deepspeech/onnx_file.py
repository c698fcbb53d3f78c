"""DeepSpeech 0.1 as an ONNX file, for onnxruntime: the same layers, one LSTM operator instead of two loops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface.errors import CheckpointError
from talkingface.files import atomic_output
from talkingface.networks.deepspeech.layers import INPUT, OUTPUT, WINDOW, Cell, DeepSpeech, Dense, read_deepspeech
from talkingface.packages import unusable
from talkingface.sound.recogniser import WIDTH

if TYPE_CHECKING:
    from onnx import ModelProto

_OPSET, _FORMAT = 17, 8


def convert_deepspeech(graph: str | Path, out: str | Path) -> Path:
    """Write the ONNX form of a frozen graph of DeepSpeech 0.1, `output_graph.pb`.

    Args:
        graph: the file; nothing is written beside it.
        out: the ONNX file.

    Returns:
        `out`. The same graph gives the same bytes, so its hash says what features were made with.

    Raises:
        CheckpointError: the graph is another one, or the package onnx is not there.
        OutputError: it cannot be written.
    """
    model = onnx_model(read_deepspeech(graph))
    with atomic_output(out) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return Path(out)


def onnx_model(layers: DeepSpeech) -> ModelProto:
    """The model: `input_node` (1, T, 494) float32 -> `logits` (T, 1, 29)."""
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise CheckpointError(f"writing ONNX: {unusable('onnx', error)}") from None

    built = _Builder(helper)
    rows = built.add("Transpose", [INPUT], perm=[1, 0, 2])
    for layer in layers.first:
        rows = built.dense(rows, layer)
    rows = built.recurrent(rows, layers.forward, layers.backward)
    built.dense(built.dense(rows, layers.last), layers.logits, OUTPUT)
    graph = helper.make_graph(
        built.nodes,
        "DeepSpeech 0.1",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, "T", WINDOW])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["T", 1, WIDTH])],
        built.numbers,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=_FORMAT, producer_name="talkingface")


class _Builder:
    """Nodes and numbers of a graph, in order."""

    def __init__(self, helper: Any) -> None:
        self.helper, self.nodes, self.numbers = helper, [], []

    def add(self, op: str, inputs: list[str], output: str = "", outputs: int = 1, **attributes: Any) -> str:
        """A node; returns the name of its first output."""
        name = output or f"{op}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, inputs, [name], name=f"node_{len(self.nodes)}", **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        """Numbers that nodes read, by name."""
        from onnx import numpy_helper

        name = f"numbers_{len(self.numbers)}"
        self.numbers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def dense(self, rows: str, layer: Dense, output: str = "") -> str:
        """(T, 1, in) -> (T, 1, out)."""
        product = self.add("MatMul", [rows, self.constant(layer.kernel.astype(np.float32))])
        linear = "" if layer.clip is not None else output
        result = self.add("Add", [product, self.constant(layer.bias.astype(np.float32))], linear)
        if layer.clip is None:
            return result
        ends = [self.constant(np.array(end, np.float32)) for end in (0.0, layer.clip)]
        return self.add("Clip", [result, *ends], output)

    def recurrent(self, rows: str, forward: Cell, backward: Cell) -> str:
        """(T, 1, in) -> (T, 1, 2 hidden), both directions side by side."""
        width = forward.kernel.shape[0] - forward.hidden
        weights = [
            [_gates(part) for part in (cell.kernel[:width], cell.kernel[width:])] for cell in (forward, backward)
        ]
        inputs = [self.constant(np.stack(parts)) for parts in zip(*weights, strict=True)]
        biases = self.constant(np.stack([_biases(cell) for cell in (forward, backward)]))
        both = self.add("LSTM", [rows, *inputs, biases], direction="bidirectional", hidden_size=forward.hidden)
        turned = self.add("Transpose", [both], perm=[0, 2, 1, 3])  # (T, directions, 1, hidden)
        return self.add("Reshape", [turned, self.constant(np.array([0, 0, -1]))])


def _gates(kernel: np.ndarray) -> np.ndarray:
    """(in, 4 hidden) in TensorFlow's order of gates -> (4 hidden, in) in ONNX's: input, output, forget, new value."""
    first, new, forget, last = np.split(kernel.astype(np.float32), 4, axis=-1)
    return np.concatenate([first, last, forget, new], axis=-1).T


def _biases(cell: Cell) -> np.ndarray:
    """(8 hidden,): those of the input with what is added to the forget gate, and none of the state."""
    bias = cell.bias.astype(np.float32).copy()
    bias[2 * cell.hidden : 3 * cell.hidden] += cell.forget_bias
    return np.concatenate([_gates(bias), np.zeros_like(bias)])
