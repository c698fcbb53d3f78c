"""A small graph that looks like DeepSpeech 0.1 as TensorFlow 1 freezes it, and what it computes, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from talkingface.networks.deepspeech.graph import message_class

SIZES = (12, 10, 8)  # dense layers; the last is the input of an LSTM of 5
CELL, LAST, WINDOW, LETTERS = 5, 11, 494, 29
CLIP, FORGET = 20.0, 1.0


class GraphFile:
    """Nodes of a graph, added one by one."""

    def __init__(self) -> None:
        self.graph = message_class("Graph")()

    def add(self, name: str, op: str, inputs: Sequence[str] = (), shape: Sequence[int] | None = None) -> str:
        node = self.graph.node.add(name=name, op=op, input=list(inputs))
        if shape is not None:
            value = node.attr.add(key="shape").value
            value.shape.SetInParent()
            for side in shape:
                value.shape.dim.add(size=side)
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        """A constant, and the node `<name>/read` that frozen variables have; returns the latter."""
        values = np.asarray(values)
        tensor = self.graph.node.add(name=name, op="Const").attr.add(key="value").value.tensor
        tensor.dtype = {"f": 1, "i": 3}[values.dtype.kind]
        for side in values.shape:
            tensor.tensor_shape.dim.add(size=side)
        if values.size == 1:  # as TensorFlow writes single numbers
            getattr(tensor, "float_val" if values.dtype.kind == "f" else "int_val").append(values.reshape(-1)[0])
        else:
            tensor.tensor_content = values.astype("<f4" if values.dtype.kind == "f" else "<i4").tobytes()
        return self.add(f"{name}/read", "Identity", [name])

    def write(self, path: Path) -> Path:
        path.write_bytes(self.graph.SerializeToString())
        return path


def weights(letters: int = LETTERS) -> dict[str, np.ndarray]:
    """Kernels and biases by name."""
    rng = np.random.default_rng(0)
    sides = {"1": (WINDOW, SIZES[0]), "2": SIZES[:2], "3": SIZES[1:], "5": (2 * CELL, LAST), "6": (LAST, letters)}
    found = {f"h{k}": rng.normal(0, 2 / np.sqrt(side[0]), side) for k, side in sides.items()}
    found |= {f"b{k}": rng.normal(0, 0.3, side[1]) for k, side in sides.items()}
    for way in ("fw", "bw"):
        found[f"{way}/kernel"] = rng.normal(0, 0.5, (SIZES[2] + CELL, 4 * CELL))
        found[f"{way}/bias"] = rng.normal(0, 0.5, 4 * CELL)
    return {name: values.astype(np.float32) for name, values in found.items()}


def look_alike(
    path: Path, letters: int = LETTERS, without: Sequence[str] = (), shape: Sequence[int] = (-1, -1, WINDOW)
) -> Path:
    """Write the graph; nodes `without` are left out."""
    file, values = GraphFile(), weights(letters)
    read = {name: file.constant(name.replace("/", "_cell/"), value) for name, value in values.items()}
    file.add("input_node", "Placeholder", shape=shape)
    file.add("input_lengths", "Placeholder", shape=[-1])
    here = file.add("Reshape", "Reshape", [file.add("transpose", "Transpose", ["input_node", "perm"]), "sizes"])
    file.constant("perm", np.array([1, 0, 2], np.int32))
    file.constant("sizes", np.array([-1, WINDOW], np.int32))
    for k in "123":
        here = _clipped(file, k, here, read)
    rows = file.add("Reshape_1", "Reshape", [here, "sizes"])
    ways = [_direction(file, "fw", rows, read), _direction(file, "bw", rows, read)]
    file.constant("concat/axis", np.array(2, np.int32))
    both = file.add("Reshape_2", "Reshape", [file.add("concat", "ConcatV2", [*ways, "concat/axis"]), "sizes"])
    here = _clipped(file, "5", both, read)
    product = file.add("MatMul_6", "MatMul", [here, read["h6"]])
    file.add("logits", "Reshape", [file.add("Add_6", "Add", [product, read["b6"]]), "sizes"])
    kept = [node for node in file.graph.node if node.name not in without]
    del file.graph.node[:]
    file.graph.node.extend(kept)
    return file.write(path)


def _clipped(file: GraphFile, k: str, rows: str, read: dict[str, str]) -> str:
    product = file.add(f"MatMul_{k}", "MatMul", [rows, read[f"h{k}"]])
    relu = file.add(f"Relu_{k}", "Relu", [file.add(f"Add_{k}", "Add", [product, read[f"b{k}"]])])
    return file.add(f"Minimum_{k}", "Minimum", [relu, file.constant(f"Minimum_{k}/y", np.float32(CLIP))])


def _direction(file: GraphFile, way: str, rows: str, read: dict[str, str]) -> str:
    """A loop over time as TensorFlow 1 writes it: the cell reads its own output of the step before."""
    if way == "bw":
        rows = file.add("bw/ReverseSequence", "ReverseSequence", [rows, "input_lengths"])
    cell, loop = f"{way}/while/basic_lstm_cell", f"{way}/while"
    file.add(f"{way}/TensorArray", "TensorArrayScatterV3", [rows])
    enter = {name: file.add(f"{loop}/{name}/Enter", "Enter", [read[f"{way}/{name}"]]) for name in ("kernel", "bias")}
    for state in ("c", "h"):
        merged = [file.add(f"{loop}/Enter_{state}", "Enter", [f"{way}/zeros"]), f"{loop}/NextIteration_{state}"]
        file.add(f"{loop}/Merge_{state}", "Merge", merged)
        file.add(f"{loop}/Identity_{state}", "Identity", [f"{loop}/Merge_{state}"])
    file.constant(f"{way}/zeros", np.zeros((1, CELL), np.float32))
    step = file.add(f"{loop}/TensorArrayReadV3", "TensorArrayReadV3", [f"{way}/TensorArray"])
    file.constant(f"{cell}/axis", np.array(1, np.int32))
    joined = file.add(f"{cell}/concat", "ConcatV2", [step, f"{loop}/Identity_h", f"{cell}/axis"])
    product = file.add(f"{cell}/MatMul", "MatMul", [joined, enter["kernel"]])
    summed = file.add(f"{cell}/BiasAdd", "BiasAdd", [product, enter["bias"]])
    split = file.add(f"{cell}/split", "Split", [f"{cell}/axis", summed])
    forget = file.add(f"{cell}/Add", "Add", [f"{split}:2", file.constant(f"{cell}/Const", np.float32(FORGET))])
    kept = file.add(f"{cell}/Mul", "Mul", [f"{loop}/Identity_c", file.add(f"{cell}/Sigmoid", "Sigmoid", [forget])])
    gates = [file.add(f"{cell}/Sigmoid_1", "Sigmoid", [split]), file.add(f"{cell}/Tanh", "Tanh", [f"{split}:1"])]
    new = file.add(f"{cell}/Add_1", "Add", [kept, file.add(f"{cell}/Mul_1", "Mul", gates)])
    gates = [file.add(f"{cell}/Tanh_1", "Tanh", [new]), file.add(f"{cell}/Sigmoid_2", "Sigmoid", [f"{split}:3"])]
    out = file.add(f"{cell}/Mul_2", "Mul", gates)
    file.add(f"{loop}/NextIteration_c", "NextIteration", [new])
    file.add(f"{loop}/NextIteration_h", "NextIteration", [out])
    file.add(f"{loop}/Exit", "Exit", [file.add(f"{loop}/Write", "TensorArrayWriteV3", [out])])
    gathered = file.add(f"{way}/TensorArrayStack", "TensorArrayGatherV3", [f"{loop}/Exit"])
    return gathered if way == "fw" else file.add("ReverseSequence", "ReverseSequence", [gathered, "input_lengths"])


def computed(rows: np.ndarray) -> np.ndarray:
    """Logits (T, 29) of rows (T, 494), in float64."""
    values = {name: value.astype(np.float64) for name, value in weights().items()}

    def clipped(x: np.ndarray, k: str) -> np.ndarray:
        return np.clip(x @ values[f"h{k}"] + values[f"b{k}"], 0, CLIP)

    here = clipped(clipped(clipped(rows.astype(np.float64), "1"), "2"), "3")
    both = np.concatenate([_lstm(here, "fw", values), _lstm(here[::-1], "bw", values)[::-1]], axis=1)
    return clipped(both, "5") @ values["h6"] + values["b6"]


def _lstm(rows: np.ndarray, way: str, values: dict[str, np.ndarray]) -> np.ndarray:
    state, out, found = np.zeros(CELL), np.zeros(CELL), []
    for row in rows:
        gates = np.concatenate([row, out]) @ values[f"{way}/kernel"] + values[f"{way}/bias"]
        first, new, forget, last = np.split(gates, 4)
        state = state * _sigmoid(forget + FORGET) + _sigmoid(first) * np.tanh(new)
        out = np.tanh(state) * _sigmoid(last)
        found.append(out)
    return np.array(found)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
