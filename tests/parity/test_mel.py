from __future__ import annotations

import inspect

import numpy as np
import pytest

from talkingface.sound.mel import MEL_WIDTH, MelConfig, mel_basis, mel_window_start, melspectrogram, preemphasis

from .published import mel_chunk_starts

NAMES = {"max_abs_value": "max_abs"}


def config(constructor: dict, **more: str) -> MelConfig:
    """Our parameters from those a vector lists; descriptions such as `stft` are not parameters."""
    known = inspect.signature(MelConfig).parameters
    named = {NAMES.get(key, key): value for key, value in constructor.items()}
    return MelConfig(**{key: value for key, value in named.items() if key in known}, **more)


def test_iplap_spectrogram(vector):
    v = vector("iplap", "mel")
    parameters = config(v["constructor"])
    assert parameters == MelConfig()
    v.check("mel", melspectrogram(v.signal(), parameters), 1e-6)
    v.check("intermediate.mel_basis", mel_basis(parameters), 1e-6)


def test_iplap_windows(vector):
    chunks = vector("iplap", "mel")["chunks"]
    starts = mel_chunk_starts(chunks["mel_columns"])
    assert starts == chunks["starts"]
    assert len(starts) == chunks["count"]
    # window i belongs to frame i + 2
    assert starts == [mel_window_start(frame + 2) for frame in range(len(starts))]


@pytest.mark.parametrize("pad", ["reflect", "zero"])
def test_wav2lip_spectrogram_with_either_padding(vector, pad):
    v = vector("wav2lip", "mel")
    parameters = config(v["constructor"], pad_mode={"reflect": "reflect", "zero": "constant"}[pad])
    mel = melspectrogram(v.signal(), parameters)
    v.check(f"mel_{pad}_pad", mel, 1e-6)
    v.check(f"mel_{pad}_pad_first_4_frames" if pad == "zero" else "mel_reflect_first_4_frames", mel[:, :4], 1e-6)


def test_wav2lip_parts(vector):
    v = vector("wav2lip", "mel")
    v.check("preemphasis", preemphasis(v.signal(), v["constructor"]["preemphasis"]), 1e-6)
    v.check("mel_basis", mel_basis(config(v["constructor"])), 1e-6)
    silence = np.zeros(int(v.outputs["mel_of_4000_zeros"]["shape"][1] - 1) * v["constructor"]["hop"], np.float32)
    v.check("mel_of_4000_zeros", melspectrogram(silence), 1e-6)


def test_wav2lip_window_starts(vector):
    v = vector("wav2lip", "mel")
    columns = v.outputs["mel_reflect_pad"]["shape"][1]
    for rate, stored in v["inference_chunk_starts"].items():
        # The published loop appends the last full window once the next would run over the end.
        starts = mel_chunk_starts(columns, float(rate.removeprefix("fps")))
        assert [*starts, columns - MEL_WIDTH] == stored, rate
    training = v["training_window_starts_fps25_first_60_frames"]
    assert [mel_window_start(frame + 2) for frame in range(len(training))] == training


def test_hyperlips_spectrogram_and_windows(vector):
    v = vector("hyperlips", "mel")
    mel = melspectrogram(v.signal(), config(v["constructor"]))
    v.check("mel", mel, 1e-6)
    for frame, start in v["window_starts"].items():
        assert mel_window_start(int(frame) + 2) == start
        v.check(f"mel_window_frame{frame}", mel[:, start : start + MEL_WIDTH], 1e-6)
