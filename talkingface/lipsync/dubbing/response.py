"""How much the mouths that a generator draws follow the sound: nothing else tells a deaf one from one that listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from talkingface.devices import to_device
from talkingface.lipsync.dubbing.networks import network_pictures
from talkingface.networks.dubbing.geometry import MouthCrop, hide

if TYPE_CHECKING:
    from talkingface.lipsync.dubbing.data import DubbingFrames, Shown
    from talkingface.lipsync.dubbing.networks import DubbingNetworks

CLIPS, FRAMES = 8, 8
"""Held-out clips that are looked at, and frames of each, evenly spread."""


@torch.no_grad()
def audio_response(model: DubbingNetworks, held_out: DubbingFrames) -> float:
    """Mean change of drawn mouths on another clip's sound, over the deviation of the true mouths around their mean.

    A generator that draws the mouth of whatever it hears has about 1, a deaf one 0. Of a single clip, frames hear the
    sound of others.

    Args:
        model: in eval mode.
        held_out: held-out data, at the size that is drawn.
    """
    shown = list(held_out.each_readable(lambda clip: held_out.some(clip, FRAMES), held_out.some_clips(CLIPS)))
    changes, deviations = [], []
    for own, other in zip(shown, [*shown[1:], shown[0]]):
        crop = MouthCrop(own.faces.shape[2] * 4 // 5)
        voices = own.audio, np.resize(other.audio, own.audio.shape) if len(shown) > 1 else np.roll(own.audio, 3, axis=0)
        drawn = [crop.cut(_drawn(model, own, voice)) for voice in voices]
        changes.append((drawn[0] - drawn[1]).abs().mean().item())
        true = own.faces[:, crop.rows, crop.columns].astype(np.float32) / 255
        deviations.append(float(true.std(axis=0).mean()))
    return float(np.mean(changes) / max(np.mean(deviations), 1e-6))


def _drawn(model: DubbingNetworks, shown: Shown, audio: np.ndarray) -> torch.Tensor:
    """Crops (n, 3, H, W) of some frames, to rows (n, width, 5)."""
    real = network_pictures(to_device(shown.faces, model.device))
    hidden = hide(real, model.hole_in(real))
    references = network_pictures(to_device(shown.references, model.device)).flatten(1, 2)
    return model.generator(hidden, references, to_device(audio, model.device)).float()
