"""A whole utterance through the voice conversion. Official implementation of MakeItTalk."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from talkingface.models.makeittalk.networks.autovc import AutoVC
from talkingface.models.makeittalk.segments import Segmenting, joined, spans

CHUNK = 4096
"""Rows that go through the network together, 65 s: its memories start anew with each."""

OVERLAP = 256
MULTIPLE = 32
"""Chunks are filled up to a multiple of it."""


@torch.inference_mode()
def converted_mel(
    network: AutoVC,
    mel: np.ndarray,
    pitch: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    segmenting: Segmenting = "overlap",
) -> np.ndarray:
    """The mel of an utterance in another voice.

    Args:
        network: in eval mode.
        mel: (T, 80) float32.
        pitch: (T, 257) one-hot.
        source: (256,) embedding of the speaker.
        target: (256,) embedding of the wanted one.
        segmenting: of utterances longer than a chunk.

    Returns:
        (T, 80) float32.
    """
    device = next(network.parameters()).device
    voices = [torch.from_numpy(np.asarray(voice, np.float32)).to(device)[None] for voice in (source, target)]
    places = spans(len(mel), segmenting, CHUNK, OVERLAP, least=1)
    parts = []
    for start, stop in places:
        # Kept: what fills up has no pitch at all, not the bin of unvoiced rows.
        rows = [torch.from_numpy(x[start:stop]).to(device) for x in (mel, pitch)]
        filled = [F.pad(x, (0, 0, 0, -len(x) % MULTIPLE))[None] for x in rows]
        parts.append(network(filled[0], *voices, filled[1]).refined[0, : stop - start].cpu().numpy())
    return joined(parts, places)
