"""Frozen TensorFlow graphs without TensorFlow: nodes, what they read, and the numbers of constants.

The format (`tensorflow/core/framework/graph.proto` and the messages in it) is declared here as far as it is needed;
everything else in a file is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.errors import CheckpointError
from talkingface.stored.regular import read_bytes

_MOST_BYTES = 2**31  # what protobuf can read
_MOST_NUMBERS = 2**28
_PACKAGE = "talkingface.tensorflow"

# Field: name, number, type (a message or a number of descriptor_pb2's), repeated.
_FLOAT, _DOUBLE, _INT64, _INT32, _BOOL, _STRING, _BYTES = 2, 1, 3, 5, 8, 9, 12
_MESSAGES: Mapping[str, tuple[tuple[str, int, int | str, bool], ...]] = {
    "Dim": (("size", 1, _INT64, False),),
    "Shape": (("dim", 2, "Dim", True), ("unknown_rank", 3, _BOOL, False)),
    "Tensor": (
        ("dtype", 1, _INT32, False),
        ("tensor_shape", 2, "Shape", False),
        ("tensor_content", 4, _BYTES, False),
        ("float_val", 5, _FLOAT, True),
        ("double_val", 6, _DOUBLE, True),
        ("int_val", 7, _INT32, True),
        ("int64_val", 10, _INT64, True),
    ),
    "Value": (("shape", 7, "Shape", False), ("tensor", 8, "Tensor", False)),
    "Attribute": (("key", 1, _STRING, False), ("value", 2, "Value", False)),  # an entry of a map
    "Node": (
        ("name", 1, _STRING, False),
        ("op", 2, _STRING, False),
        ("input", 3, _STRING, True),
        ("attr", 5, "Attribute", True),
    ),
    "Graph": (("node", 1, "Node", True),),
}
_NUMBERS = {1: ("<f4", "float_val"), 2: ("<f8", "double_val"), 3: ("<i4", "int_val"), 9: ("<i8", "int64_val")}
"""Types of tensors: how they lie in `tensor_content`, and where else their numbers may be."""


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        name: its own.
        op: what it computes.
        inputs: names of the outputs that it reads, `name` or `name:1`; without those that it only waits for.
        shape: of a placeholder, -1 where a side is open; None where nothing is said.
        message: of its value, if it is a constant.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...] | None
    message: Any = None

    def value(self) -> np.ndarray:
        """Numbers of a constant.

        Raises:
            CheckpointError: it is none, or its numbers are not there.
        """
        if self.message is None or self.message.dtype not in _NUMBERS:
            raise CheckpointError(f"node '{self.name}' ({self.op}) is no constant of numbers; was the graph frozen?")
        kind, field = _NUMBERS[self.message.dtype]
        sides = [dim.size for dim in self.message.tensor_shape.dim]
        count = math.prod(sides)
        content, listed = self.message.tensor_content, getattr(self.message, field)
        numbers = np.frombuffer(content, kind) if content else np.array(listed, kind)
        if min(sides, default=1) < 0 or count > _MOST_NUMBERS or not (0 < len(numbers) <= count):
            raise CheckpointError(f"node '{self.name}' holds {len(numbers)} numbers for a shape of {sides}")
        # Of equal numbers at the end only the first is stored.
        return np.concatenate([numbers, np.repeat(numbers[-1:], count - len(numbers))]).reshape(sides)


def read_graph(path: str | Path) -> dict[str, Node]:
    """Nodes of a frozen graph, by name.

    Raises:
        CheckpointError: the file is no graph.
    """
    from google.protobuf.message import DecodeError

    content = read_bytes(path, _MOST_BYTES)
    graph = message_class("Graph")()
    try:
        graph.ParseFromString(content)
    except (DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not a frozen TensorFlow graph ({' '.join(str(error).split())[:100]})") from None
    if not graph.node:
        raise CheckpointError(f"{path}: holds no TensorFlow graph")
    return {node.name: _node(node) for node in graph.node}


def _node(message: Any) -> Node:
    values = {entry.key: entry.value for entry in message.attr}
    shape, tensor = values.get("shape"), values.get("value")
    known = shape is not None and shape.HasField("shape") and not shape.shape.unknown_rank
    return Node(
        message.name,
        message.op,
        tuple(name for name in message.input if not name.startswith("^")),
        tuple(dim.size for dim in shape.shape.dim) if known else None,
        tensor.tensor if tensor is not None and tensor.HasField("tensor") else None,
    )


@lru_cache(maxsize=1)
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name="talkingface_graph.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for label, number, kind, repeated in fields:
            field = message.field.add(name=label, number=number, label=3 if repeated else 1)
            field.type = 11 if isinstance(kind, str) else kind
            if isinstance(kind, str):
                field.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def message_class(name: str) -> Any:
    """The protobuf class of a message, `Graph` say."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))
