"""How many threads a process computes with."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from talkingface.media import VideoReader
from talkingface.networks.deepspeech.front_ends import DeepSpeechOnnxFrontEnd


def threads_here(_: object) -> tuple[int, int]:
    """Threads of OpenCV and of torch, which nobody has imported before."""
    import torch

    return cv2.getNumThreads(), torch.get_num_threads()


def threads_to_decode(path: Path) -> tuple[int, str]:
    """Threads that a video adds to this process while it is decoded, and a hash of its frames."""
    before, most, digest = _running(), 0, hashlib.sha256()
    for frame in VideoReader(path):
        most = max(most, _running() - before)
        digest.update(frame)
    return most, digest.hexdigest()


def threads_to_hear(weights: Path) -> int:
    """Threads that DeepSpeech by onnxruntime adds to this process."""
    import onnxruntime  # noqa: F401  (which has threads of its own)

    before, front_end = _running(), DeepSpeechOnnxFrontEnd(weights)
    front_end.extract(np.zeros(16000, np.float32))
    return _running() - before


def _running() -> int:
    return len(os.listdir("/proc/self/task"))
