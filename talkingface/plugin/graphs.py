"""What of a model can leave the toolkit as a graph of its own: its inputs and outputs, declared by the model class.

`export --format=onnx` writes a file for each `Graph` and compares it with PyTorch; `--backend=onnx` runs the files in
place of the networks' methods, so that a model's `generate` needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Run = Callable[..., tuple[Tensor, ...]]
"""A graph that runs: its inputs in order -> its outputs."""


@dataclass(frozen=True)
class Port:
    """A tensor that goes in or comes out; all are float32.

    Attributes:
        name: in the file.
        shape: sizes of the axes; a name stands for an axis of any size, and for the same one wherever it comes again.
        about: what the axes and channels are.
        low: least value; None: not bounded.
        high: largest value; None: not bounded.
        colour: order of the colours, `BGR` or `RGB`; empty for what is no picture.
    """

    name: str
    shape: tuple[int | str, ...]
    about: str
    low: float | None = None
    high: float | None = None
    colour: str = ""


@dataclass(frozen=True)
class Graph:
    """One method of one network as a graph.

    The defaults serve a method that takes tensors and gives one. What takes or gives a structure of tensors says how it
    is laid flat.

    Attributes:
        network: dotted path from the model to the network.
        inputs: in the order of the graph.
        outputs: likewise.
        method: of the network, `forward` or another one that generation calls.
        crop: how the pictures that go in are cut out of a frame: side, margin, box.
        most: axis name -> largest size, where there is one.
        call: flat inputs -> what the method gives; None: the method takes the inputs as they are.
        flat: arguments of the method -> flat inputs; None: they are the same.
        result: flat outputs -> what the method gives; None: the only output.
        also: other methods of the network that the graph can answer, each with a function from the running graph to
            what stands in for the method.
    """

    network: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    method: str = "forward"
    crop: Mapping[str, Any] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    call: Callable[..., Any] | None = None
    flat: Callable[..., Sequence[Tensor]] | None = None
    result: Callable[..., Any] | None = None
    also: Mapping[str, Callable[[Run], Callable[..., Any]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the file, without its suffix."""
        return self.network if self.method == "forward" else f"{self.network}.{self.method}"

    @property
    def weights(self) -> str:
        """The attribute of the model, and key of its checkpoint, that holds the weights."""
        return self.network.partition(".")[0]

    def stand_in(self, run: Run) -> Callable[..., Any]:
        """What takes the place of the method when the graph runs."""

        def answer(*args: Any, **kwargs: Any) -> Any:
            outputs = run(*(self.flat(*args, **kwargs) if self.flat else (*args, *kwargs.values())))
            return self.result(*outputs) if self.result else outputs[0]

        return answer
