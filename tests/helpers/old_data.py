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
