"""The networks of such a model, and how they draw: what generation, pasting, previews and scores need of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from talkingface.devices import OnTheWay, to_device
from talkingface.lipsync.half_face.pixels import faces_of, network_faces, network_input
from talkingface.media.info import FPS
from talkingface.plugin.contract import Batch, TalkingFaceModel

if TYPE_CHECKING:
    from talkingface.lipsync.half_face.config import HalfFaceConfig


class HalfFaceNetworks(TalkingFaceModel):
    """A model that redraws the lower half of a face: its `generator` gets a sound, a hidden face and a reference.

    Attributes:
        config: its settings, with `crop` and `inference`.
        generator: (m, 1, 80, 16) and (m, 6, S, S) -> (m, 3, S, S).
        postprocess: called on every generated face (R, R, 3) uint8 RGB before it is pasted, e.g. an enhancer.
    """

    draws_wanted = True
    config: HalfFaceConfig
    generator: nn.Module
    postprocess: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def drawn_size(self) -> int:
        """Side of the faces that are drawn, in pixels."""
        return self.config.crop.size

    def drawer(self, above: float = 0.5, fps: float = FPS) -> Drawer:
        """Whoever draws the faces of one video.

        Args:
            above: share of a face, upwards from its middle, that must be drawn beside the lower half; what lies higher
                is not pasted.
            fps: frames per second, for whoever smooths over time.
        """
        return Drawer(self)

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Generated and true faces (B, 3, T, S, S), BGR in [0, 1], of a batch of `FaceWindows`."""
        drawn = self.generator(batch["mels"], network_input(batch["target"], batch["reference"]))
        return drawn.float(), network_faces(batch["target"])


class Drawer:
    """Draws faces, each by itself. One that remembers frames before derives from it, and serves one video.

    Args:
        model: the model, in eval mode.

    Attributes:
        remembers: whether a frame depends on those before it; `follows` is then worked out for it.
    """

    remembers: ClassVar[bool] = False

    def __init__(self, model: HalfFaceNetworks) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(
        self, faces: np.ndarray, references: np.ndarray, mel: np.ndarray, follows: np.ndarray, boxes: np.ndarray
    ) -> OnTheWay:
        """Draw faces to a sound.

        Args:
            faces: (m, S, S, 3) uint8 RGB; their lower halves are not looked at.
            references: the same shape: faces that show what is hidden.
            mel: (m, 1, 80, 16) their sound.
            follows: (m,) bool: the frame goes on from the one drawn before it, maybe in the batch before.
            boxes: (m, 4) x1, y1, x2, y2 of the faces in their frames, pixels.

        Returns:
            (m, R, R, 3) uint8 RGB, perhaps still to be computed.
        """
        return OnTheWay(faces_of(self.drawn(faces, references, mel, follows)))

    @torch.no_grad()
    def drawn(self, faces: np.ndarray, references: np.ndarray, mel: np.ndarray, follows: np.ndarray) -> Tensor:
        """What `__call__` draws as (m, 3, S, S), BGR in [0, 1], on the device."""
        target, others = (to_device(each, self.model.device)[:, None] for each in (faces, references))
        inputs = network_input(target, others)[:, :, 0]
        with self.precision():
            return self.draw(to_device(mel, self.model.device), inputs, follows).float()

    def precision(self) -> AbstractContextManager:
        """Within: as precise as the model draws."""
        half = self.model.inference_precision == "bf16"
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=half)

    def draw(self, mel: Tensor, inputs: Tensor, follows: np.ndarray) -> Tensor:
        """(m, 1, 80, 16) and (m, 6, S, S) -> (m, 3, S, S), BGR in [0, 1]."""
        return self.model.generator(mel, inputs)
