"""Files of MakeItTalk's published code, made from formulas: dumps and text trees."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from helpers.canonical_faces import faces_3d, sound_of
from talkingface.media import write_wav
from talkingface.sound.rows import held_at

PREFIX = "autovc_retrain_mel"


class Runs:
    """Runs code when it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """What pickle asks for."""
        return os.system, ("echo harm > harm.txt",)


def rows_of(count: int, phase: float = 0.0, moving: bool = False) -> np.ndarray:
    """Landmarks (count, 204) at 62.5 rows per second, in pixels."""
    frames = faces_3d(int(count / 2.5) + 2, phase, moving).reshape(-1, 204)
    return held_at(frames, np.arange(count) / 2.5)


def mel_of(count: int, phase: float = 0.0) -> np.ndarray:
    """(count, 80) sound that is as loud as the mouth is open."""
    rows = rows_of(count, phase).reshape(-1, 68, 3)
    gap = rows[:, 66, 1] - rows[:, 62, 1]
    return gap[:, None] / gap.max() * np.linspace(0.5, 1.0, 80) + np.random.default_rng(0).normal(0, 0.01, (count, 80))


def clip(number: int, count: int = 80, **changes: Any) -> dict[str, Any]:
    """One clip of a dump; `changes` replace parts of it."""
    vector = np.random.default_rng(number).normal(size=256)
    made = {
        "sound": mel_of(count, 0.1 * number),
        "about": (number, f"video{number:06d}.mp4", vector / np.linalg.norm(vector)),
        "faces": rows_of(count, 0.1 * number) / 40,
    }
    return {**made, "face_about": made["about"][:2], **changes}


def write_dump(folder: Path, status: str, clips: list[dict[str, Any]], prefix: str = PREFIX, protocol: int = 4) -> Path:
    """`<prefix>_<status>_{au,fl}.pickle`; a clip whose faces are None is missing in the second."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "au": [(each["sound"], each["about"]) for each in clips],
        "fl": [(each["faces"], each["face_about"]) for each in clips if each["faces"] is not None],
    }
    for kind, content in parts.items():
        with (folder / f"{prefix}_{status}_{kind}.pickle").open("wb") as file:
            pickle.dump(content, file, protocol=protocol)
    return folder


def write_texts(root: Path, number: int, name: str, rows: dict[int, np.ndarray], seconds: float) -> None:
    """Landmarks of a clip by their frame, and its sound."""
    for folder in ("raw_fl3d", "raw_wav"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lines = [" ".join([str(frame), *(f"{value:.2f}" for value in row)]) for frame, row in rows.items()]
    (root / "raw_fl3d" / f"fan_{number:05d}_{name}_3d.txt").write_text("\n".join(lines))
    write_wav(root / "raw_wav" / f"{number:05d}_{name}_audio.wav", sound_of(round(seconds * 25)))
    with (root / "filename_index.txt").open("a") as file:
        file.write(f"{number} {name}.mp4\n")
