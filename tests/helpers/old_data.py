"""What older code leaves on a disk, made from prepared clips and their videos: the trees of Wav2Lip and of IP_LAP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from talkingface.clips.folder import ClipFolder
from talkingface.faces import mesh as facemesh
from talkingface.faces.crop import CropConfig, crop_face, face_boxes, relative_landmarks
from talkingface.media import VideoReader, write_wav
from talkingface.sound.mel import melspectrogram


def wav2lip_tree(root: Path, clips: Sequence[ClipFolder], gone: Sequence[int] = ()) -> Path:
    """`<set>/<clip>/{0.jpg, ..., audio.wav}`: tight boxes in source pixels; frames `gone` had no face."""
    crop = CropConfig(margin_mode="relative", margin=0.0, rule="mesh")
    for clip in clips:
        folder = root / clip.clip_id
        folder.mkdir(parents=True)
        boxes = np.rint(face_boxes(clip.track().points_px, clip.track().size, crop)).astype(int)
        for index, frame in enumerate(VideoReader(clip.video, fps=25.0)):
            x1, y1, x2, y2 = boxes[index]
            if index not in gone:
                cv2.imwrite(os.fspath(folder / f"{index}.jpg"), frame[y1:y2, x1:x2, ::-1])
        write_wav(folder / "audio.wav", clip.audio())
    return root


def iplap_tree(root: Path, clips: Sequence[ClipFolder]) -> dict[str, Path]:
    """Folders `landmarks` (a pickle per frame), `faces` (128 px) and `audio` (mel and sound), by `<speaker>/<clip>`."""
    folders = {name: root / name for name in ("landmarks", "faces", "audio")}
    crop = CropConfig(size=128, margin_mode="px", margin=5.0)
    for clip in clips:
        for folder in folders.values():
            (folder / clip.clip_id).mkdir(parents=True)
        track = clip.track()
        boxes = face_boxes(track.points_px, track.size, crop)
        shares = relative_landmarks(track.points_px, boxes).transpose(0, 2, 1)  # (F, 478, 2)
        for index, frame in enumerate(VideoReader(clip.video, fps=25.0)):
            face = crop_face(frame, boxes[index], crop.size)
            cv2.imwrite(os.fspath(folders["faces"] / clip.clip_id / f"{index}.png"), face[..., ::-1])
            rows = {
                "pose_landmarks": [(k, *map(float, shares[index, k])) for k in sorted(facemesh.IPLAP_POSE)],
                "content_landmarks": [(k, *map(float, shares[index, k])) for k in sorted(facemesh.IPLAP_CONTENT)],
            }
            np.save(folders["landmarks"] / clip.clip_id / f"{index}.npy", rows)
        np.save(folders["audio"] / clip.clip_id / "audio.npy", melspectrogram(clip.audio()).T)
        write_wav(folders["audio"] / clip.clip_id / "audio.wav", clip.audio())
    return folders


HR_KINDS = ("GT_IMG", "GT_MASK", "HYPER_IMG", "HYPER_SKETCH")


def face_picture(side: int, frame: int, blue: int = 200) -> np.ndarray:
    """A square whose left half is blue (in OpenCV's order) and that grows brighter from frame to frame."""
    picture = np.full((side, side, 3), 40 + 4 * (frame % 50), np.uint8)
    picture[:, : side // 2] = (blue, 30, 30)
    return picture


def lip_mask(side: int, height: float) -> np.ndarray:
    """White between 0.6 and 0.6 + `height` of the rows, 0.25 and 0.75 of the columns."""
    mask = np.zeros((side, side), np.uint8)
    mask[round(0.6 * side) : round((0.6 + height) * side), round(0.25 * side) : round(0.75 * side)] = 255
    return mask


def hyperlips_tree(
    root: Path,
    clips: Sequence[str],
    *,
    frames: int = 20,
    fps: float = 25.0,
    gone: Sequence[int] = (),
    hr: Sequence[str] = (),
    hr_gone: Sequence[int] = (),
    side: int = 40,
    hr_side: int = 120,
) -> Path:
    """`preprocessed_data` of HyperLips with drawn pictures; frames `gone` had no face, HR pictures of `hr_gone` fail.

    Args:
        root: the folder that gets `imgs`, and `HR_Train_Dateset` where `hr` names some of `HR_KINDS`.
        clips: names `<set>/<clip>`.
        frames: of every clip.
        fps: so many pictures were cut per second of sound.
        gone: frames without any picture.
        hr: kinds of high-resolution pictures.
        hr_gone: further frames that these lack.
        side: of the face pictures.
        hr_side: of the others.
    """
    for clip_id in clips:
        folder = root / "imgs" / clip_id
        pictures = {index: face_picture(side, index) for index in range(frames) if index not in gone}
        _write_all(folder, pictures)
        write_wav(folder / "audio.wav", (0.2 * np.sin(np.arange(round(16000 * frames / fps)) / 20)).astype(np.float32))
        for kind in hr:
            made = {k: _hr_picture(kind, hr_side, k) for k in pictures if k not in hr_gone}
            _write_all(root / "HR_Train_Dateset" / kind / clip_id, made)
    return root


def _hr_picture(kind: str, side: int, frame: int) -> np.ndarray:
    if kind == "GT_MASK":
        return lip_mask(side, 0.0 if frame == 1 else 0.2)
    if kind == "HYPER_SKETCH":
        return cv2.circle(np.zeros((side, side, 3), np.uint8), (side // 2, side // 2), side // 4, (255,) * 3, 6)
    return face_picture(side, frame, blue=230 if kind == "GT_IMG" else 120)


def _write_all(folder: Path, pictures: dict[int, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in pictures.items():
        cv2.imwrite(os.fspath(folder / f"{index}.jpg"), picture)
