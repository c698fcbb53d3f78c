"""Pictures of IPLAP for the logs: predicted landmarks, and a stretch of a held-out clip as the renderer draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from talkingface.faces.sketch import draw_sketches
from talkingface.models.iplap.pixels import network_sketches

if TYPE_CHECKING:
    from talkingface.models.iplap.data import RenderWindows
    from talkingface.models.iplap.parts import IPLAPNetworks
    from talkingface.plugin.contract import Batch

FRAMES = 25  # a second
PER_PASS = 5


def landmark_preview(batch: Batch, predicted: Tensor, size: int) -> Tensor:
    """Sketches of the first window of a batch: true in green, predicted (T, 2, 57) in red, (T, 3, size, size)."""
    pose, content = batch["pose"][0].cpu().float(), batch["content"][0].cpu().float()
    shape = (size, size)
    true = draw_sketches(torch.cat([pose, content], dim=-1).numpy(), shape, size)
    drawn = draw_sketches(torch.cat([pose, predicted.float()], dim=-1).numpy(), shape, size)
    return torch.from_numpy(np.stack([drawn, true, np.minimum(drawn, true)], axis=1))


def render_preview(model: IPLAPNetworks, batch: Batch, dataset: RenderWindows) -> dict[str, Tensor]:
    """Rows of input, sketch, warped reference, generated and real face.

    Returns:
        `faces`: (3, 4 S, 5 S), four items of the batch; `clip`: (T, 3, S, 5 S), consecutive frames of the first
        held-out clip.
    """
    rows = panes(model, {name: values[:4] for name, values in batch.items()})
    items = dataset.stretch(FRAMES)
    parts = [default_collate(items[k : k + PER_PASS]) for k in range(0, len(items), PER_PASS)]
    clip = [panes(model, {name: v.to(model.device) for name, v in part.items()}) for part in parts]
    return {"faces": rows.transpose(0, 1).flatten(1, 2), "clip": torch.cat(clip)}


def panes(model: IPLAPNetworks, batch: Batch) -> Tensor:
    """(B, 3, S, 5 S) RGB in [0, 1]: upper face, driving sketch, warped reference, generated face, real face."""
    real, generated, warped = model.draw(batch)
    masked = model.renderer.mask_lower_half(real)
    drive = network_sketches(batch["sketches"])[:, model.config.landmark.window // 2].expand_as(real)
    row = torch.cat([masked, drive, warped.clamp(0, 1), generated.clamp(0, 1), real], dim=-1)
    return row.float().flip(1).cpu()
