"""Ground truth of a demo clip: the json beside its video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.demo.visemes import MouthTracks
from talkingface.errors import DataError
from talkingface.files import write_text
from talkingface.stored.jsons import read_json

TRUTH_BYTES = 2**28
"""Of a file of ground truth: some hours of film."""

_TRACKS = ("jaw", "width", "press", "tuck", "blink", "pose", "opening", "mouth_width")


def save_truth(path: Path, tracks: MouthTracks, lips: np.ndarray, facts: dict[str, Any]) -> None:
    """Write the ground truth of a clip.

    Args:
        path: the json file.
        tracks: all tracks, with pose, blink and the intended opening.
        lips: (F, 40, 2) intended lip landmarks in pixels.
        facts: parameters, text, frame size; stored beside the tracks.
    """
    data = {"synthetic": True} | facts
    data["fps"] = tracks.fps
    data["phonemes"] = [[round(start, 4), name] for start, name in tracks.phonemes]
    data["tracks"] = {name: np.round(getattr(tracks, name), 5).tolist() for name in _TRACKS}
    data["lips"] = np.round(lips.reshape(len(tracks), -1).astype(float), 2).tolist()
    write_text(path, json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")


def load_tracks(video_path: Path | str) -> MouthTracks:
    """Ground truth of a clip from the `.json` beside its video.

    Raises:
        DataError: there is no such file, or it is not one of ours.
    """
    path = Path(video_path).with_suffix(".json")
    if not path.exists():
        raise DataError(f"{path}: no ground truth beside this video; only demo clips have it")
    try:
        data = read_json(path, TRUTH_BYTES)
        tracks = {name: np.array(values, np.float64) for name, values in data["tracks"].items()}
        phonemes = [(float(start), str(name)) for start, name in data["phonemes"]]
        return MouthTracks(fps=float(data["fps"]), phonemes=phonemes, **tracks)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path}: not the ground truth of a demo clip ({error}); make the corpus again") from error


def load_lips(video_path: Path | str) -> np.ndarray:
    """Intended lip landmarks (F, 40, 2) float32 of a clip, in pixels.

    20 outer points, then 20 inner ones; each loop goes from the left corner over the upper lip and back over the lower.
    """
    path = Path(video_path).with_suffix(".json")
    data = read_json(path, TRUTH_BYTES)
    try:
        return np.array(data["lips"], np.float32).reshape(-1, 40, 2)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the ground truth of a demo clip ({error}); make the corpus again") from error
