"""VGG19 features for perceptual losses, defined here so that torchvision is not needed.

Weights come from a file the user has: torchvision's `vgg19-dcbb9e9d.pth`, or the published IPLAP renderer, which holds
a copy. Nothing is downloaded.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from talkingface.errors import CheckpointError
from talkingface.weights.checkpoint import load_state, read

PERCEPTUAL_LAYERS = (1, 6, 11, 20, 29)  # after relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1
_CHANNELS = (64, 64, "pool", 128, 128, "pool", *(256,) * 4, "pool", *(512,) * 4, "pool", *(512,) * 4, "pool")
_KEY = re.compile(r"^(?:module\.)?(?:features\.|perceptual\.model\.network\.)?(\d+\.(?:weight|bias))$")

logger = logging.getLogger("talkingface")


class VGG19Features(nn.Module):
    """Activations of VGG19 after chosen layers; the stack ends at the last of them. Keys as in torchvision.

    Args:
        layers: indices into torchvision's `features`.
    """

    def __init__(self, layers: Sequence[int] = PERCEPTUAL_LAYERS) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.features = nn.Sequential(*_stack()[: max(layers) + 1])
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised as the weights expect -> one activation per chosen layer."""
        outputs = []
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self.layers:
                outputs.append(images)
        return outputs

    def load(self, path: str | Path) -> VGG19Features:
        """Fill from torchvision's file or from a published renderer checkpoint.

        Raises:
            CheckpointError: the file is missing, unreadable, or holds no VGG19.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"{path}: VGG19 weights not found; put torchvision's vgg19-dcbb9e9d.pth there")
        self.load_weights(read(path), str(path))
        logger.debug("VGG19 weights read from %s", path)
        return self

    def load_weights(self, content: Mapping[str, object], what: str = "VGG19") -> None:
        """Fill from the content of such a file: entries beyond the last layer and classifiers are left out.

        Raises:
            CheckpointError: an entry is missing or has another shape.
        """
        if not isinstance(content, Mapping):
            raise CheckpointError(f"{what}: no VGG19 weights inside")
        nested = content.get("state_dict")
        entries = nested if isinstance(nested, Mapping) else content
        # Three names for the same layer: torchvision's, that of the published renderer, and either behind `module.`.
        named = {f"features.{match[1]}": entries[key] for key in entries if (match := _KEY.match(str(key)))}
        own = self.state_dict()
        bad = [k for k in own if not isinstance(named.get(k), Tensor) or named[k].shape != own[k].shape]
        if bad:
            raise CheckpointError(
                f"{what}: no VGG19 weights inside (missing or of another shape: {', '.join(bad[:3])})"
            )
        load_state(self, {key: named[key] for key in own}, what)


def _stack() -> list[nn.Module]:
    """Configuration E of the paper (K. Simonyan and A. Zisserman, ICLR 2015) without its classifier."""
    modules: list[nn.Module] = []
    inputs = 3
    for entry in _CHANNELS:
        if entry == "pool":
            modules.append(nn.MaxPool2d(2))
            continue
        modules += [nn.Conv2d(inputs, entry, 3, padding=1), nn.ReLU()]  # not in place: activations are read later
        inputs = entry
    return modules
