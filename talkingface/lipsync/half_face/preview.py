"""Pictures for the logs: what the generator sees, what it draws, and the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import default_collate

from talkingface.lipsync.half_face.pixels import network_input

if TYPE_CHECKING:
    from talkingface.lipsync.half_face.data import FaceWindows
    from talkingface.lipsync.half_face.draw import HalfFaceNetworks
    from talkingface.plugin.contract import Batch

FRAMES = 25  # a second
PER_PASS = 5  # windows


def face_preview(model: HalfFaceNetworks, batch: Batch, dataset: FaceWindows) -> dict[str, Tensor]:
    """Rows of hidden, reference, generated and real face.

    Returns:
        `faces`: (3, 4 S, 4 S), the first frames of four items of the batch; `clip`: (T, 3, S, 4 S), consecutive frames
        of the first held-out clip.
    """
    rows = panes(model, {name: values[:4] for name, values in batch.items()})[:, 0]
    items = dataset.stretch(FRAMES)
    parts = [default_collate(items[k : k + PER_PASS]) for k in range(0, len(items), PER_PASS)]
    clip = [panes(model, {name: v.to(model.device) for name, v in part.items()}).flatten(0, 1) for part in parts]
    return {"faces": rows.transpose(0, 1).flatten(1, 2), "clip": torch.cat(clip)}


def panes(model: HalfFaceNetworks, batch: Batch) -> Tensor:
    """(B, T, 3, S, 4 S) RGB in [0, 1]: masked face, reference, generated face, real face."""
    masked, reference = network_input(batch["target"], batch["reference"]).chunk(2, dim=1)
    drawn, target = model.draw(batch)
    return torch.cat([masked, reference, drawn, target], dim=-1).flip(1).transpose(1, 2).float().cpu()
