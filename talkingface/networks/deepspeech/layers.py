"""DeepSpeech 0.1 in a frozen graph: its layers are found by following what reads what, back from the logits.

Paper: A. Hannun et al., "Deep Speech: Scaling up end-to-end speech recognition", arXiv:1412.5567. Three dense layers, a
bidirectional LSTM, a dense layer and the logits; sizes and clipping are seen in the graph. Names of nodes are those of
Mozilla's release for input and output alone; layers are known by what they compute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from talkingface.errors import CheckpointError
from talkingface.networks.deepspeech.graph import Node, read_graph
from talkingface.sound.recogniser import WIDTH

INPUT, LENGTHS, OUTPUT = "input_node", "input_lengths", "logits"
WINDOW = 494
"""Numbers in a row of the input: 19 times 26 cepstra."""

_SUMS = ("Add", "AddV2", "BiasAdd")
_PASSED = ("Identity", "Reshape", "Transpose", "Enter", "Squeeze", "ExpandDims")  # they leave the numbers as they are
_STREAMING = "; streaming graphs of DeepSpeech 0.2 and later, which keep a state and read 16 rows at a time, do not fit"


class Dense(NamedTuple):
    """A dense layer: kernel (in, out), bias (out,), and where its output is clipped from above; None: it is linear."""

    kernel: np.ndarray
    bias: np.ndarray
    clip: float | None


class Cell(NamedTuple):
    """An LSTM in one direction: kernel (in + hidden, 4 hidden) and bias (4 hidden,), gates in the order of TensorFlow.

    These are input, new value, forget, output; `forget_bias` is added to the third.
    """

    kernel: np.ndarray
    bias: np.ndarray
    forget_bias: float

    @property
    def hidden(self) -> int:
        """Size of its state."""
        return len(self.bias) // 4


class DeepSpeech(NamedTuple):
    """All layers: three dense ones, both directions, a dense one, the logits."""

    first: tuple[Dense, ...]
    forward: Cell
    backward: Cell
    last: Dense
    logits: Dense


def read_deepspeech(path: str | Path) -> DeepSpeech:
    """The layers of a graph file.

    Raises:
        CheckpointError: it is no frozen graph, or none of DeepSpeech 0.1; the message says what it lacks.
    """
    try:
        return _Graph(read_graph(path)).layers()
    except CheckpointError as error:
        told = str(error)
        raise CheckpointError(told if told.startswith(str(path)) else f"{path}: {told}") from None


class _Graph:
    """A graph whose nodes are looked at from behind."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes

    def layers(self) -> DeepSpeech:
        self._check_ends()
        logits, before = self._dense(self._sum_of(OUTPUT))
        last, before = self._dense(self._back(before))
        both = self._back(before)
        if both.op != "ConcatV2":
            raise CheckpointError(
                f"no two directions are joined before the last layers, but there is {both.op}{_STREAMING}"
            )
        forward, backward = (self.node(name) for name in both.inputs[:2])
        if self._reverses(forward) or not self._reverses(backward):
            raise CheckpointError("its recurrent layers do not run forwards and then backwards")
        first: list[Dense] = []
        here = self._nearest(forward, lambda node: node.op == "Minimum")
        while here.name != INPUT:
            layer, before = self._dense(here)
            first.insert(0, layer)
            here = self._back(before)
        found = DeepSpeech(tuple(first), self._cell(forward), self._cell(backward), last, logits)
        _check_sizes(found)
        return found

    def _check_ends(self) -> None:
        """See that input and output are those of whole sentences."""
        missing = [name for name in (INPUT, LENGTHS, OUTPUT) if name not in self.nodes]
        if missing:
            raise CheckpointError(
                f"no graph of DeepSpeech 0.1: it has no node {' and no node '.join(missing)}{_STREAMING}"
            )
        shape = self.nodes[INPUT].shape
        if shape is not None and (len(shape) != 3 or shape[2] != WINDOW or shape[1] > 0):
            sides = " x ".join("?" if side < 0 else str(side) for side in shape)
            raise CheckpointError(
                f"no graph of DeepSpeech 0.1: its input is {sides}, where 1 x ? x {WINDOW} is needed{_STREAMING}"
            )

    def node(self, name: str) -> Node:
        """The node that gives an output."""
        plain = name.partition(":")[0]
        if plain not in self.nodes:
            raise CheckpointError(f"node '{plain}' is missing")
        return self.nodes[plain]

    def _back(self, name: str) -> Node:
        """The node that computes what a name stands for."""
        node = self.node(name)
        for _ in range(len(self.nodes)):  # a loop would go on for ever
            if node.op not in _PASSED or not node.inputs:
                return node
            node = self.node(node.inputs[0])
        raise CheckpointError(f"node '{name}' is computed from itself")

    def _sum_of(self, name: str) -> Node:
        node = self._back(name)
        if node.op not in _SUMS:
            raise CheckpointError(f"'{name}' is not the sum of a product and a bias, but {node.op}")
        return node

    def _dense(self, node: Node) -> tuple[Dense, str]:
        """The layer that ends in a node, and the name of what it reads."""
        clip = None
        if node.op == "Minimum":
            clip = float(self._constant(node.inputs[1]))
            node = self._back(node.inputs[0])
            if node.op != "Relu":
                raise CheckpointError(f"'{node.name}' is {node.op}, where a clipped ReLU is expected")
            node = self._back(node.inputs[0])
        product = self._back(node.inputs[0]) if node.op in _SUMS else node
        if product.op != "MatMul":
            raise CheckpointError(f"'{product.name}' is {product.op}, where a dense layer is expected")
        kernel, bias = self._constant(product.inputs[1]), self._constant(node.inputs[1])
        return Dense(kernel, bias, clip), product.inputs[0]

    def _constant(self, name: str) -> np.ndarray:
        return self._back(name).value()

    def _walk(self, start: Node) -> Iterator[Node]:
        """Nodes behind a node, nearest first, not beyond clipped layers: loops lead back to themselves."""
        seen, waiting = {start.name}, deque([start])
        while waiting:
            node = waiting.popleft()
            yield node
            if node.op == "Minimum":
                continue
            for name in node.inputs:
                other = self.node(name)
                if other.name not in seen:
                    seen.add(other.name)
                    waiting.append(other)

    def _nearest(self, start: Node, wanted: Callable[[Node], bool]) -> Node:
        found = next(filter(wanted, self._walk(start)), None)
        if found is None:
            raise CheckpointError(f"no dense layer before the recurrent one{_STREAMING}")
        return found

    def _reverses(self, node: Node) -> bool:
        """Whether rows are turned round behind the recurrent layer."""
        while node.op in _PASSED and node.inputs:
            node = self.node(node.inputs[0])
        return node.op in ("ReverseSequence", "ReverseV2")

    def _cell(self, end: Node) -> Cell:
        """The LSTM of a direction: one product, split into four gates.

        Raises:
            CheckpointError: there is none, or it uses its gates in another way.
        """
        products = [node for node in self._walk(end) if node.op == "MatMul"]
        gates = [node for node in self._walk(end) if node.op == "Split"]
        if len(products) != 1 or len(gates) != 1:
            raise CheckpointError(
                f"{len(products)} products and {len(gates)} sets of gates in a direction, not one LSTM"
            )
        summed = self._back(gates[0].inputs[1])
        if summed.op not in _SUMS or self._back(summed.inputs[0]) is not products[0]:
            raise CheckpointError(f"the gates of '{gates[0].name}' are not one product and a bias")
        kernel, bias = self._constant(products[0].inputs[1]), self._constant(summed.inputs[1])
        return Cell(kernel, bias, self._forget_bias(end, gates[0].name))

    def _forget_bias(self, end: Node, gates: str) -> float:
        """What is added to the forget gate, the gates being used as TensorFlow's basic cell does."""
        uses = {f"{gates}:{k}" if k else gates: k for k in range(4)}
        found: dict[int, Node] = {}
        for node in self._walk(end):
            found |= {uses[name.removesuffix(":0")]: node for name in node.inputs if name.removesuffix(":0") in uses}
        ops = tuple(found[k].op if k in found else "nothing" for k in range(4))
        if ops[:2] != ("Sigmoid", "Tanh") or ops[2] not in _SUMS or ops[3] != "Sigmoid":
            raise CheckpointError(
                f"the four gates of '{gates}' go through {', '.join(ops)}; not TensorFlow's basic LSTM"
            )
        return float(self._constant(found[2].inputs[1]))


def _check_sizes(found: DeepSpeech) -> None:
    """See that the layers fit each other, and the features.

    Raises:
        CheckpointError: they do not.
    """
    width = WINDOW
    for layer in found.first:
        width = _after(layer, width)
    for cell in (found.forward, found.backward):
        if cell.kernel.shape != (width + cell.hidden, 4 * cell.hidden) or cell.bias.shape != (4 * cell.hidden,):
            raise CheckpointError(f"a recurrent layer has a kernel of {cell.kernel.shape} for {width} inputs")
    if found.forward.hidden != found.backward.hidden:
        raise CheckpointError("its two directions are not of one size")
    width = _after(found.last, 2 * found.forward.hidden)
    if (letters := _after(found.logits, width)) != WIDTH:
        raise CheckpointError(f"its alphabet has {letters - 1} letters and a blank; the features are {WIDTH} logits")


def _after(layer: Dense, width: int) -> int:
    if layer.kernel.ndim != 2 or layer.kernel.shape != (width, layer.bias.size):
        raise CheckpointError(f"a layer has a kernel of {layer.kernel.shape} for {width} inputs")
    return layer.bias.size
