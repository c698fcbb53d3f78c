"""The networks of DINet or LawDNet as a model: what drawing faces needs of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from talkingface.devices import to_device
from talkingface.lipsync.dubbing.config import DubbingConfig
from talkingface.networks import deepspeech2, hubert_ds  # noqa: F401, front ends that register themselves
from talkingface.networks.deepspeech import front_ends  # noqa: F401, the same
from talkingface.networks.dubbing.generator import DubbingGenerator, References
from talkingface.networks.dubbing.geometry import MouthCrop, hide
from talkingface.plugin.contract import Batch, TalkingFaceModel


class DubbingNetworks(TalkingFaceModel):
    """A model whose `generator` fills in the mouth of a face crop.

    Attributes:
        config: its settings.
        generator: see `DubbingGenerator`.
    """

    draws_wanted = True
    config: DubbingConfig
    generator: DubbingGenerator

    def __init__(self) -> None:
        super().__init__()
        self._holes: dict[tuple[MouthCrop, torch.device], Tensor] = {}

    @abstractmethod
    def hole(self, crop: MouthCrop) -> Tensor:
        """What is hidden of a crop, (1, 1, H, W) float32 in [0, 1]."""

    def hole_in(self, crops: Tensor) -> Tensor:
        """`hole` of crops (..., H, W), on their device; made and copied once for each size and device."""
        key = crop_of(crops), crops.device
        if key not in self._holes:
            # Made while a video is generated, it must serve in training, too.
            with torch.inference_mode(False):
                self._holes[key] = self.hole(key[0]).to(crops.device)
        return self._holes[key]

    @property
    def drawn(self) -> MouthCrop:
        """The crop that is drawn: as large as in the stage that trained the generator, or as the stored ones."""
        data = getattr(self.stage, "data", None)
        return MouthCrop(getattr(data, "mouth", self.config.crop.mouth))

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Drawn and true crops of a batch of `DubbingFrames` or `DubbingClips`.

        Returns:
            (T B, 3, H, W) each, RGB in [0, 1]: the first frames of all items first.
        """
        faces, references, audio = (
            batch[name].transpose(0, 1).flatten(0, 1) for name in ("faces", "references", "audio")
        )
        real = network_pictures(faces)
        hidden = hide(real, self.hole_in(real))
        return self.generator(hidden, network_pictures(references).flatten(1, 2), audio).float(), real

    def precision(self) -> AbstractContextManager:
        """Within: as precise as the model draws."""
        half = self.inference_precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    @torch.no_grad()
    def known(self, references: np.ndarray) -> References:
        """What the generator keeps of reference crops (5, H, W, 3) uint8 RGB for all frames of a video."""
        pictures = network_pictures(to_device(references, self.device)).flatten(0, 1)
        with self.precision():
            return self.generator.encode(pictures[None])

    @torch.no_grad()
    def redraw(self, faces: np.ndarray, known: References, audio: np.ndarray) -> Tensor:
        """Draw mouths.

        Args:
            faces: (m, H, W, 3) uint8 RGB; what lies in the hole does not count.
            known: what is known of their references.
            audio: (m, width, 5) rows of features around each frame.

        Returns:
            (m, H, W, 3) uint8 RGB on the device.
        """
        real = network_pictures(to_device(faces, self.device))
        source = hide(real, self.hole_in(real))
        with self.precision():
            drawn = self.generator(source, known, to_device(audio, self.device))
        return (drawn.float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1)


@contextmanager
def running_statistics(network: nn.Module) -> Iterator[None]:
    """Within: batch norms of a network that trains use their running averages, and leave them alone."""
    norms = [each for each in network.modules() if isinstance(each, _BatchNorm) and each.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def network_pictures(pictures: Tensor) -> Tensor:
    """Pictures uint8 RGB (..., H, W, 3) -> float RGB (..., 3, H, W) in [0, 1]."""
    return pictures.movedim(-1, -3).float() / 255


def crop_of(crops: Tensor) -> MouthCrop:
    """Which crop (..., H, W) are."""
    return MouthCrop(crops.shape[-1] * 4 // 5)
