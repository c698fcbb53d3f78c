"""How many threads a process computes with."""

from __future__ import annotations

import cv2
import torch


def threads_here(_: object) -> tuple[int, int]:
    """Threads of OpenCV and of torch."""
    return cv2.getNumThreads(), torch.get_num_threads()
