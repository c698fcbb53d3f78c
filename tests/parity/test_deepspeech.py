"""What the speech recognisers behind DINet and LawDNet hear, and what DeepSpeech 2 makes of it, are as published."""

from __future__ import annotations

import numpy as np
import torch

from talkingface.networks.deepspeech2 import DeepSpeech2
from talkingface.sound.mfcc import mfcc
from talkingface.sound.recogniser import (
    context_windows,
    deepspeech2_input,
    deepspeech2_spectrogram,
    deepspeech_input,
    frame_rows,
)

EXACT = 1e-6


def test_deepspeech_hears_the_published_cepstra_and_windows(vector):
    v = vector("lawdnet", "deepspeech_mfcc")
    pcm = np.trunc(v.signal() * np.float32(32767)).astype(np.int16)
    cepstra = mfcc(pcm, 26)
    v.check("mfcc", cepstra, EXACT)
    v.check("windows", context_windows(cepstra[::2]), EXACT)
    v.check("network_input", deepspeech_input(pcm), EXACT)


def test_deepspeech2_hears_the_published_spectrogram_and_gives_the_published_logits(vector):
    v = vector("lawdnet", "deepspeech2")
    audio = v.signal()
    v.check("spectrogram", deepspeech2_spectrogram(audio), EXACT)
    v.check("normalised", deepspeech2_input(audio), 1e-4)  # 1e-5 is added to the deviation, against silence
    sizes = v["constructor"]
    network = v.load(DeepSpeech2(sizes["hidden_size"], sizes["hidden_layers"], sizes["classes"])).eval()
    rows = network.extract(audio)
    v.check("logits", torch.from_numpy(rows)[None])
    stored = v.outputs["features_25hz"]
    v.check_stored(stored, frame_rows(rows, np.arange(stored["shape"][0])))
