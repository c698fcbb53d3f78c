"""Pictures for the logs: what the generator sees, what it draws, and the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from talkingface.lipsync.dubbing.networks import network_pictures
from talkingface.networks.dubbing.geometry import hide

if TYPE_CHECKING:
    from talkingface.lipsync.dubbing.networks import DubbingNetworks
    from talkingface.plugin.contract import Batch

ITEMS = 4


def sheet(model: DubbingNetworks, batch: Batch) -> Tensor:
    """Rows of hidden face, first reference, drawn and true face, (3, 4 H, 4 W) RGB in [0, 1]."""
    few = {name: values[:ITEMS] for name, values in batch.items()}
    count = len(few["faces"])
    fake, real = (crops[:count].float().cpu() for crops in model.draw(few))  # the first frames stand first
    hidden = hide(real, model.hole_in(real))
    reference = network_pictures(few["references"][:, 0, 0]).float().cpu()
    rows = torch.cat([hidden, reference, fake, real], dim=-1)
    return rows.transpose(0, 1).flatten(1, 2)
