"""LPIPS, the perceptual distance of two pictures, version 0.1: differentiable, so that it can also be a loss.

Paper: R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018,
arXiv:1801.03924. Keys equal those of torchvision's trunks (without classifiers) and of the published linear layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import tee
from pathlib import Path

import torch
from torch import Tensor, nn

from talkingface.networks.blocks import full_precision
from talkingface.weights.checkpoint import load_state, named_tensors, read

CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
STAGES = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Indices into torchvision's `features` after which a stage ends, each a ReLU."""

SMALLEST = {"alex": 31, "vgg": 16}
"""Pixels a side below which the trunk's last map is empty."""

_VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
_EPS = 1e-10


def bundled_heads(net: str) -> Path:
    """Where the package torchmetrics carries the linear layers for a trunk; the file may be absent."""
    package = find_spec("torchmetrics")
    folders = list(package.submodule_search_locations or ()) if package else []
    return Path(*folders[:1]) / "functional" / "image" / "lpips_models" / f"{net}.pth"


class LPIPS(nn.Module):
    """Perceptual distance with frozen weights; always in eval mode, gradients flow to the pictures alone.

    Args:
        net: `alex` (usual in evaluation) or `vgg` (usual as a loss). Distances of the two do not compare.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex") -> None:
        super().__init__()
        if net not in CHANNELS:
            raise ValueError(f"LPIPS knows the nets {', '.join(CHANNELS)}, not {net!r}")
        self.net = net
        self.features = nn.Sequential(*(_alexnet() if net == "alex" else _vgg16()))
        for number, channels in enumerate(CHANNELS[net]):
            setattr(self, f"lin{number}", _Linear(channels))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> LPIPS:
        """Stays in eval mode: the dropout of the linear layers belongs to their own training."""
        return super().train(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B, 1, 1, 1), 0 for equal pictures.

        Args:
            first: (B, 3, H, W) RGB in [-1, 1], sides of at least `SMALLEST`.
            second: the same shape.
        """
        return torch.stack(list(self.layers(first, second))).sum(dim=0)

    def layers(self, first: Tensor, second: Tensor) -> Iterator[Tensor]:
        """The five terms of the sum, (B, 1, 1, 1) each.

        Raises:
            ValueError: the pictures are too small for the trunk.
        """
        if min(first.shape[-2:]) < SMALLEST[self.net]:
            size = f"{first.shape[-1]}x{first.shape[-2]}"
            raise ValueError(f"LPIPS with {self.net} needs at least {SMALLEST[self.net]} pixels a side, got {size}")
        # Each stage is compared at once: one activation is alive without gradients.
        for number, (a, b) in enumerate(zip(*self._stages(first, second), strict=True)):
            with full_precision(a):
                yield getattr(self, f"lin{number}")((a - b).square()).mean(dim=(2, 3), keepdim=True)

    def _stages(self, first: Tensor, second: Tensor) -> tuple[Iterator[Tensor], Iterator[Tensor]]:
        """The normalised features of both, stage by stage."""
        if torch.is_grad_enabled() and first.requires_grad and not second.requires_grad:
            # Apart, or gradients would be computed for the target, too, and thrown away.
            return self._features(first), self._without_gradients(second)
        both, again = tee(self._features(torch.cat([first, second])))
        return (x.chunk(2)[0] for x in both), (x.chunk(2)[1] for x in again)

    def _without_gradients(self, pictures: Tensor) -> Iterator[Tensor]:
        stages = self._features(pictures)
        while True:
            with torch.no_grad():  # not around the `yield`: whoever takes the features has gradients
                features = next(stages, None)
            if features is None:
                return
            yield features

    def _features(self, pictures: Tensor) -> Iterator[Tensor]:
        x, start = (pictures - self.shift) / self.scale, 0
        for end in STAGES[self.net]:
            x = self.features[start : end + 1](x)
            start = end + 1
            with full_precision(x):  # differences of like features drown in 8 bits
                yield _normalised(x.float())

    def load(self, trunk: str | Path, linear: str | Path) -> LPIPS:
        """Fill from torchvision's classifier and from the file of linear layers.

        Raises:
            CheckpointError: a file is missing, unreadable, or of another network.
        """
        # Two files, one network: the trunk of a classifier, and linear layers that weigh its channels.
        trunk_state = {
            k.removeprefix("features."): v
            for k, v in named_tensors(read(trunk), trunk, "LPIPS's trunk").items()
            if k.startswith("features.")
        }
        load_state(self.features, trunk_state, f"{trunk}: {self.net} trunk of LPIPS")
        features = {key: value for key, value in self.state_dict().items() if key.startswith("features.")}
        load_state(
            self,
            features | named_tensors(read(linear), linear, "LPIPS's linear layers"),
            f"{linear}: linear layers of LPIPS {self.net}",
        )
        return self


def _normalised(x: Tensor) -> Tensor:
    """Every pixel's features over their norm."""
    # At 0 the root has no gradient; but then every channel is off, and the ReLU before lets nothing of it through.
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + _EPS)


class _Linear(nn.Module):
    """Weighted sum of channels; keys as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        return self.model(x)


def _alexnet() -> list[nn.Module]:
    """A. Krizhevsky's single-column network of 2014 as torchvision numbers it, up to its last ReLU."""
    return [
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]


def _vgg16() -> list[nn.Module]:
    """Configuration D of K. Simonyan and A. Zisserman, ICLR 2015, up to its last ReLU."""
    modules: list[nn.Module] = []
    inputs = 3
    for entry in _VGG16:
        if isinstance(entry, str):
            modules.append(nn.MaxPool2d(2))
            continue
        modules += [nn.Conv2d(inputs, entry, 3, padding=1), nn.ReLU()]
        inputs = entry
    return modules
