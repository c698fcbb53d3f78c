"""SyncNet, the network behind LSE-C, LSE-D and the audio-video offset.

Paper: J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild", ACCV 2016 workshops. Keys equal
those of the published `syncnet_v2.model`. Neither inputs nor embeddings are normalised in any way.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from talkingface.errors import CheckpointError
from talkingface.weights.checkpoint import load_state_file

FRAMES = 5  # frames in a lip window


class SyncNetV2(nn.Module):
    """Audio and lip towers that embed 0.2 s of sound and 5 frames into one space.

    Args:
        embedding: size of an embedding.
    """

    def __init__(self, embedding: int = 1024) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_conv2d(1, 64, 3, padding=1),
            nn.MaxPool2d(1, 1),  # does nothing; keeps the published numbering
            *_conv2d(64, 192, 3, padding=1),
            nn.MaxPool2d(3, (1, 2)),
            *_conv2d(192, 384, 3, padding=1),
            *_conv2d(384, 256, 3, padding=1),
            *_conv2d(256, 256, 3, padding=1),
            nn.MaxPool2d(3, 2),
            *_conv2d(256, 512, (5, 4)),
        )
        self.netfcaud = _head(embedding)
        self.netfclip = _head(embedding)
        self.netcnnlip = nn.Sequential(
            *_conv3d(3, 96, (FRAMES, 7, 7), stride=(1, 2, 2)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(256, 512, (1, 6, 6)),
        )

    def forward_audio(self, mfcc: Tensor) -> Tensor:
        """(B, 1, 13, 20) MFCC windows -> (B, 1024)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def forward_lip_features(self, faces: Tensor) -> Tensor:
        """(B, 3, 5, 224, 224) windows, BGR with values 0 to 255 -> (B, 512) features before the last layers."""
        return self.netcnnlip(faces).flatten(1)

    def forward_lip(self, faces: Tensor) -> Tensor:
        """(B, 3, 5, 224, 224) windows, BGR with values 0 to 255 -> (B, 1024)."""
        return self.netfclip(self.forward_lip_features(faces))

    def forward(self, mfcc: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of audio and lip windows, each (B, 1024)."""
        return self.forward_audio(mfcc), self.forward_lip(faces)

    def fold(self) -> FoldedSyncNet:
        """The same network for inference: 1.7 times faster on a CPU, equal to 2e-6 of the largest value."""
        return FoldedSyncNet(self)

    def load(self, path: str | Path) -> SyncNetV2:
        """Fill from the published file; it predates batch norm's `num_batches_tracked`.

        Raises:
            CheckpointError: the file is missing, unreadable, or of another network.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"{path}: SyncNet weights not found; put the published syncnet_v2.model there")
        load_state_file(self, path, what="the published syncnet_v2", optional=("num_batches_tracked",))
        return self


class FoldedSyncNet(nn.Module):
    """SyncNet for inference: lips as 2-D convolutions over 15 channels, batch norms folded in, channels last.

    Only the first lip layer mixes frames, and its kernel covers the whole window, so every layer is 2-D in effect. The
    audio tower pads inside each window, so it stays window by window.

    Args:
        network: with its final weights; it is left untouched, and later changes do not reach the copy.
    """

    def __init__(self, network: SyncNetV2) -> None:
        super().__init__()
        self.lips = _folded(network.netcnnlip)
        self.lip_head = copy.deepcopy(network.netfclip)
        self.audio = _folded(network.netcnnaud)
        self.audio_head = copy.deepcopy(network.netfcaud)
        self.eval().requires_grad_(False)

    def forward_audio(self, mfcc: Tensor) -> Tensor:
        """(B, 1, 13, 20) MFCC windows -> (B, 1024)."""
        return self.audio_head(self.audio(mfcc.contiguous(memory_format=torch.channels_last)).flatten(1))

    def forward_lip(self, faces: Tensor) -> Tensor:
        """(B, 3, 5, 224, 224) windows, BGR with values 0 to 255 -> (B, 1024).

        Nothing is copied where the five frames of a window lie channels last in memory, pixel by pixel.
        """
        stacked = faces.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        return self.lip_head(self.lips(stacked).flatten(1))

    def forward(self, mfcc: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of audio and lip windows, each (B, 1024)."""
        return self.forward_audio(mfcc), self.forward_lip(faces)


def _conv2d(inputs: int, outputs: int, kernel: int | tuple[int, int], padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU()]


def _conv3d(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int, int],
    stride: int | tuple[int, int, int] = 1,
    padding: int | tuple[int, int, int] = 0,
) -> list[nn.Module]:
    return [nn.Conv3d(inputs, outputs, kernel, stride, padding), nn.BatchNorm3d(outputs), nn.ReLU()]


def _head(embedding: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, embedding))


def _folded(tower: nn.Sequential) -> nn.Sequential:
    """A tower in eval mode without batch norms and without the time axis, channels last."""
    layers: list[nn.Module] = []
    for module in tower:
        if isinstance(module, nn.Conv3d):
            layers.append(_flat_conv(module))
        elif isinstance(module, nn.Conv2d):
            layers.append(copy.deepcopy(module))
        # A norm follows its convolution in both towers, and disappears in it.
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            _fold_norm(layers[-1], module)
        elif isinstance(module, nn.MaxPool3d):
            padding = module.padding[1] if isinstance(module.padding, tuple) else module.padding
            layers.append(nn.MaxPool2d(module.kernel_size[1], module.stride[1], padding))
        elif isinstance(module, nn.MaxPool2d):
            layers.append(copy.deepcopy(module))
        else:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _flat_conv(conv: nn.Conv3d) -> nn.Conv2d:
    """A 3-D convolution whose kernel covers all frames, as a 2-D one over frames x channels."""
    # Frame after frame on the channels, as `forward_lip` lays the window out.
    weight = conv.weight.detach().transpose(1, 2).flatten(1, 2)
    flat = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], conv.stride[1:], conv.padding[1:])
    flat = flat.to(weight)
    flat.weight.data = weight.clone()
    flat.bias.data = conv.bias.detach().clone()
    return flat


@torch.no_grad()
def _fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> None:
    """Move a batch norm in eval mode into the convolution before it; scales in float64 to lose nothing."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = (conv.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    conv.weight.copy_(conv.weight.double() * scale[:, None, None, None])
    conv.bias.copy_(bias)
