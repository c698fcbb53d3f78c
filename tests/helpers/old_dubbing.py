"""The tree that DINet's and LawDNet's data processing leaves, with drawn pictures: each shows its frame's number."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from talkingface.media import write_wav

BASE = "asserts/training_data"
OLD = "split_video_25fps"


def shade(frame: int) -> int:
    """Grey level of a frame's picture."""
    return 40 + 3 * (frame % 64)


def row(frame: int, kind: str = "deepspeech") -> np.ndarray:
    """What a recogniser heard at a frame, (29,)."""
    return frame + np.arange(29) / 100 + (1000 if kind == "deepspeech2" else 0)


def old_video(
    root: Path,
    name: str = "clip",
    *,
    clips: Sequence[int] = range(7),
    size: tuple[int, int] = (104, 80),
    rows: int | None = 63,
    rows2: int | None = None,
    sound: np.ndarray | None | str = "tone",
    film: Path | None = None,
    relative: bool = False,
) -> Path:
    """Add a video to a tree below `root`; returns the folder of its crops.

    Args:
        root: what paths in the JSON begin in.
        name: of the video.
        clips: numbers of its clips, nine pictures each.
        size: height and width of the pictures.
        rows: of DeepSpeech as text; None: no file.
        rows2: of DeepSpeech 2.
        sound: of the wave file; None: no file.
        film: the video.
        relative: whether pictures are numbered anew in every clip.
    """
    base = root / BASE
    crops = base / f"{OLD}_crop_face" / name
    for clip in clips:
        (crops / f"{clip:06d}").mkdir(parents=True)
        for frame in range(9 * clip, 9 * clip + 9):
            picture = np.full((*size, 3), (shade(frame), 30, 200), np.uint8)  # OpenCV's order: much red
            cv2.imwrite(os.fspath(crops / f"{clip:06d}/{frame % 9 if relative else frame:06d}.jpg"), picture)
    for kind, count, end in (("deepspeech", rows, ""), ("deepspeech_2", rows2, "_dp2")):
        if count is not None:
            (base / f"{OLD}_{kind}").mkdir(exist_ok=True)
            known = "deepspeech2" if end else "deepspeech"
            values = np.array([row(k, known) for k in range(count)]).reshape(-1, 29)
            np.savetxt(base / f"{OLD}_{kind}/{name}_deepspeech{end}.txt", values)
    if sound is not None:
        (base / f"{OLD}_audio").mkdir(exist_ok=True)
        samples = 0.2 * np.sin(np.arange(9 * 640 * len(clips)) / 20) if isinstance(sound, str) else sound
        write_wav(base / f"{OLD}_audio/{name}.wav", samples.astype(np.float32))
    if film is not None:
        (base / OLD).mkdir(exist_ok=True)
        shutil.copy(film, base / OLD / f"{name}.mp4")
    return crops


def listed(name: str, clips: Sequence[int], kinds: Sequence[str] = ("deep_speech_list",), rows: int = 9) -> dict:
    """A video's entry in the JSON: DINet's and older LawDNet's, with the second list the newest."""
    entries = []
    for clip in clips:
        frames = range(9 * clip, 9 * clip + 9)
        names = [f"{name}/{clip:06d}/{frame:06d}.jpg" for frame in frames]
        entry: dict = {"frame_name_list": names}
        entry["frame_path_list"] = [f"./{BASE}/{OLD}_crop_face/{each}" for each in names]
        for key in kinds:
            kind = "deepspeech2" if "dp2" in key else "deepspeech"
            entry[key] = [row(frame, kind).tolist() for frame in frames][:rows]
        entries.append(entry)
    return {"video_clip_num": len(entries), "clip_data_list": entries}


def write_list(root: Path, videos: Mapping[str, dict], name: str = "training_json.json") -> Path:
    """Write a training JSON."""
    path = root / BASE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(videos))
    return path


def content(*folders: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file with what a rewrite would change."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
