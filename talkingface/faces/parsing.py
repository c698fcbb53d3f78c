"""Face parsing for pasting: which pixels of a generated face may replace those of the frame.

The rule is that of Y. Chen et al., "HyperLips", arXiv:2310.05720: skin, mouth and lips of the lower half, without the
sides. A mask is made for the box alone, whatever the size of the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from talkingface.errors import CheckpointError, DataError
from talkingface.networks.bisenet import CLASSES, SIDE, BiSeNet
from talkingface.networks.losses import IMAGENET_MEAN, IMAGENET_STD
from talkingface.weights import published as weights
from talkingface.weights.checkpoint import load_state, read

WEIGHTS = "face_segmentation"  # name in `talkingface.weights.published`
PASTED = ("skin", "mouth", "upper_lip", "lower_lip")
SIDES_OFF = 0.15  # share of the box at its left and at its right that stays as it is
ERODED = 5  # pixels, as published
BLUR = 75  # pixels, as published, of boxes of about `BLUR_OF`
BLUR_OF = 500
_BATCH = {"cpu": 4, "cuda": 32}

Looked = Literal["original", "generated", "union"]


class FaceParser:
    """BiSeNet with its weights, ready to find skin and mouth in face crops.

    Args:
        network: with its final weights.
        device: where it runs.
    """

    def __init__(self, network: BiSeNet, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        self._classes = torch.tensor([CLASSES.index(name) for name in PASTED], device=self.device)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> FaceParser:
        """The parser with the weights of the public file, checked entry by entry.

        Raises:
            DataError: the file is not there.
            CheckpointError: it is damaged, or holds another network.
        """
        path = Path(path)
        if not path.is_file():
            folder = path.parent if path.name == Path(weights.find(WEIGHTS).path).name else "checkpoints"
            raise DataError(
                f"{path}: weights of the face parser not found; {weights.how_to_get(WEIGHTS, folder)}, or paste by"
                " landmarks: --model.inference.paste=contour"
            )
        state = read(path)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise CheckpointError(f"{path}: expected the weights of the face parser, found something else")
        network = BiSeNet()
        load_state(network, state, f"{path}: face parser")
        return cls(network, device)

    @torch.inference_mode()
    def skin(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Where skin, mouth and lips are.

        Args:
            faces: crops (h, w, 3) uint8 RGB, of any sizes.

        Returns:
            (n, 512, 512) bool, in the crops' own coordinates stretched to that square.
        """
        found = []
        size = _BATCH["cuda" if self.device.type == "cuda" else "cpu"]
        for start in range(0, len(faces), size):
            squares = [cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for face in faces[start:][:size]]
            images = torch.from_numpy(np.stack(squares)).to(self.device).movedim(-1, 1).float() / 255
            mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
            classes = self.network((images - mean) / std).argmax(dim=1)
            found.append(torch.isin(classes, self._classes).cpu().numpy())
        return np.concatenate(found) if found else np.zeros((0, SIDE, SIDE), bool)


def parsed_weights(skin: np.ndarray, height: int, width: int, blur: int | None = None) -> np.ndarray:
    """Weights of a generated face inside its box.

    Args:
        skin: (S, S) bool, the pixels that may be replaced; the or of two such maps for both faces.
        height: of the box in pixels.
        width: of the box in pixels.
        blur: side of the Gaussian in pixels, odd; None: in proportion to the box, 75 px for 500 px as published.

    Returns:
        (height, width) uint8, 255 for the generated face; 0 in the upper half, at the sides, and wherever there is no
        skin.
    """
    hard = cv2.resize(skin.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR)
    region = hard.copy()
    side = int(SIDES_OFF * width)
    region[: height // 2] = 0
    region[:, :side] = 0
    region[:, width - side :] = 0
    blur = blur or box_blur(height, width)
    # Beyond the box nothing is replaced: its border is the border of the mask, as on the published full frame.
    pad = blur // 2 + ERODED
    padded = cv2.copyMakeBorder(region, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    padded = cv2.erode(padded, np.ones((ERODED, ERODED), np.uint8))
    soft = cv2.GaussianBlur(padded, (blur, blur), 0)[pad:-pad, pad:-pad]
    # Where nothing was skin, the face that is blended in is the frame itself.
    return np.rint(soft.astype(np.float32) * hard / 255).astype(np.uint8)


def box_blur(height: int, width: int) -> int:
    """Side of the Gaussian for a box: an odd number of pixels, at least 3."""
    return max(3, round(BLUR * (height + width) / 2 / BLUR_OF) // 2 * 2 + 1)
