"""Made `tests/networks/hubert_by_torchaudio.npz`: a small HuBERT of torchaudio 2.11.1, and what it gives.

`python tests/helpers/hubert_by_torchaudio.py OUT.npz`, where torchaudio is installed.
"""

from __future__ import annotations

import sys

import numpy as np

SIZES = {"channels": 8, "width": 16, "layers": 2, "heads": 4, "inner": 24, "kernel": 6, "groups": 4}
LETTERS = 32  # of the published file: 29 and three that were never trained


def main(out: str) -> None:
    import torch
    from torchaudio.models import wav2vec2_model
    from torchaudio.pipelines._wav2vec2.utils import _extend_model, _remove_aux_axes

    torch.manual_seed(0)
    layers = [(SIZES["channels"], *layer) for layer in ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))]
    sizes = [SIZES[name] for name in ("width", "kernel", "groups", "layers", "heads", "inner")]
    width, kernel, groups, count, heads, inner = sizes

    def network(letters):
        encoder = (width, 0.0, kernel, groups, count, heads, 0.0, inner, 0.0, 0.0, True, 0.0)
        return wav2vec2_model("layer_norm", layers, False, *encoder, letters).eval()

    drawn = network(LETTERS)
    for values in drawn.parameters():
        values.data += 0.2 * torch.randn_like(values)
    state = {name: values.clone() for name, values in drawn.state_dict().items()}
    kept = dict(state)
    _remove_aux_axes(kept, (1, 2, 3))
    used = network(LETTERS - 3)
    used.load_state_dict(kept)
    with torch.inference_mode():
        logits = _extend_model(used, normalize_waveform=True).eval()(torch.from_numpy(heard())[None])[0][0]
    np.savez_compressed(out, logits=logits.numpy(), **{f"state/{name}": v.numpy() for name, v in state.items()})


def heard() -> np.ndarray:
    """The waveform, (4000,)."""
    return (np.random.default_rng(5).normal(size=4000) * 0.1 + 0.02).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1])
