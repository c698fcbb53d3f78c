"""Writing prepared clips in the layout that HyperLips' own code reads, see `clips.hyperlips_tree`."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from talkingface.clips.crop_pictures import encode_jpeg
from talkingface.clips.face_store import FaceStore
from talkingface.clips.folder import ClipFolder
from talkingface.clips.hyperlips_tree import DRAWN, FACES, FOLDERS, MASKS, SKETCHES, TRUTH, HyperLipsTree
from talkingface.clips.prepared import prepared_ids
from talkingface.errors import DataError, OutputError, TalkingFaceError
from talkingface.faces.crop import CropConfig, polygon_mask, relative_landmarks
from talkingface.faces.mesh import HYPERLIPS_LIPS, N_POINTS
from talkingface.faces.sketch import ON_CROP, white_lines
from talkingface.files import output_error, writable_folder
from talkingface.preprocess.converters.base import register_exporter
from talkingface.preprocess.converters.hyperlips import HYPER, HYPER_SKETCH, LIP_BOXES, SIZE
from talkingface.preprocess.outcome import FAILED, OK, REJECTED, Outcome
from talkingface.preprocess.report import Report
from talkingface.preprocess.step import Rejected
from talkingface.stored.arrays import Wanted


@register_exporter("hyperlips")
def export_tree(prepared: str | Path, out: str | Path, progress: bool = True) -> Report:
    """Write `imgs`, `video_clips` and, where a clip has what HyperLipsHR learns from, `HR_Train_Dateset`.

    Args:
        prepared: the `preprocessed_root`.
        out: folder for the tree; it must hold none yet.
        progress: show a progress bar.

    Returns:
        One outcome per clip.

    Raises:
        DataError: there are no clips, or a tree lies in `out` already.
        OutputError: it cannot be written.
    """
    ids = prepared_ids(prepared)
    if not ids:
        raise DataError(f"{prepared}: no prepared clips found here")
    tree = HyperLipsTree(writable_folder(out))
    if there := [name for name in FOLDERS if (tree.root / name).exists()]:
        raise DataError(f"{tree.root / there[0]}: is there already, and is left as it is; name another folder")
    started, report = time.perf_counter(), Report(worked=len(ids))
    for clip_id in tqdm(ids, desc="export", unit="clip", disable=not progress):
        report.add(_export(ClipFolder(Path(prepared) / clip_id, clip_id=clip_id), tree))
    report.seconds = time.perf_counter() - started
    return report


def _export(clip: ClipFolder, tree: HyperLipsTree) -> Outcome:
    try:
        if clip.status != "ok":
            raise Rejected(f"{clip.status or 'not prepared'}: {clip.reason}")
        if clip.clip_id.count("/") != 1:
            raise Rejected("its name is not <set>/<clip>, as all names in that layout are")
        _write_faces(clip, tree)
        _write_for_hr(clip, tree)
    except Rejected as reason:
        return Outcome(clip.clip_id, REJECTED, str(reason))
    except OSError as error:
        raise output_error(tree.root, error) from error
    except OutputError:
        raise
    except TalkingFaceError as error:
        return Outcome(clip.clip_id, FAILED, str(error))
    return Outcome(clip.clip_id, OK, frames=len(clip))


def _write_faces(clip: ClipFolder, tree: HyperLipsTree) -> None:
    """`imgs` and `video_clips`: pictures of all frames with a face, the sound, and the video if it is an mp4."""
    crops = _crops(clip)
    if not crops or not clip.has("audio"):
        raise Rejected("has no face crops" if not crops else "has no sound")
    faces = clip.faces(crops[min(crops, key=_by_likeness)])
    _write(tree.folder(FACES, clip.clip_id), {int(i): faces.jpeg(int(i)) for i in np.flatnonzero(faces.valid)})
    shutil.copyfile(clip.path / clip.files("audio")[0], tree.sound(clip.clip_id))
    if clip.has_video and clip.video.suffix.lower() == ".mp4":
        video = tree.video(clip.clip_id)
        video.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip.video, video)


def _write_for_hr(clip: ClipFolder, tree: HyperLipsTree) -> None:
    """`HR_Train_Dateset`, of frames that have all parts: the published code passes over clips with unequal counts."""
    name = next((name for name in (HYPER, "hyper@raw") if clip.has(name)), None)
    if name is None:
        return
    drawn = clip.faces(name)
    truths = [store for store in map(clip.faces, _crops(clip).values()) if _same_boxes(store, drawn)]
    if not truths:
        return
    stores = {DRAWN: drawn, TRUTH: max(truths, key=lambda store: store.size)}
    if clip.has(HYPER_SKETCH):
        stores[SKETCHES] = clip.faces(HYPER_SKETCH)
    pictures = {
        kind: {int(i): store.jpeg(int(i)) for i in np.flatnonzero(store.valid)} for kind, store in stores.items()
    }
    if masks := _masks(clip, stores[TRUTH]):
        pictures[MASKS] = masks
    if SKETCHES not in pictures and clip.has(mesh := name.replace("hyper@", "hyper_mesh@")):
        pictures[SKETCHES] = _sketches(clip.array(mesh, Wanted("f", (len(clip), N_POINTS, 2))), drawn)
    whole = set.intersection(*(set(found) for found in pictures.values()))
    for kind, found in pictures.items():
        _write(tree.folder(kind, clip.clip_id), {index: data for index, data in found.items() if index in whole})


def _crops(clip: ClipFolder) -> dict[CropConfig, str]:
    """The face crops of a clip by their settings."""
    named = {name: CropConfig.of_artefact(name) for name in clip.meta.get("steps", {})}
    return {crop: name for name, crop in named.items() if crop is not None and clip.has(name)}


def _by_likeness(crop: CropConfig) -> tuple[bool, bool, int]:
    """The smaller, the more alike is a crop to the published one: its size, the box of each frame, no margin."""
    return crop.size != SIZE, (crop.box, crop.margin) != ("frame", 0), crop.size


def _sketches(meshes: np.ndarray, drawn: FaceStore) -> dict[int, bytes]:
    """Sketches of frames with a mesh, lines of 6 px at the resolution that the face has in its frame, as published."""
    sketches = {}
    for index in np.flatnonzero(drawn.valid & np.isfinite(meshes).all(axis=(1, 2))):
        side = max(1, round(float((drawn.boxes[index, 2:] - drawn.boxes[index, :2]).mean())))
        lines = white_lines(meshes[index], side, ON_CROP)
        sketches[int(index)] = encode_jpeg(cv2.cvtColor(lines, cv2.COLOR_GRAY2RGB))
    return sketches


def _same_boxes(store: FaceStore, other: FaceStore) -> bool:
    """Whether two stores show the same parts of the frames, at whatever size."""
    both = store.valid & other.valid
    shares = [each.boxes[both] / np.tile(each.frame_hw[::-1], 2) for each in (store, other)]
    return bool(both.any()) and np.allclose(*shares, atol=1e-4)


def _masks(clip: ClipFolder, truth: FaceStore) -> dict[int, bytes]:
    """Lips in white: their outline where landmarks of the same picture are known, else their boxes."""
    size = truth.size
    masks: dict[int, np.ndarray] = {}
    if clip.has("landmarks") and (track := clip.track()).size == truth.frame_hw and track.layout == "mediapipe478":
        outlines = relative_landmarks(track.points_px[:, list(HYPERLIPS_LIPS), :2], truth.boxes).transpose(0, 2, 1)
        for index in np.flatnonzero(truth.valid & track.valid):
            masks[int(index)] = polygon_mask(outlines[index] * size, (size, size), blur=None)
    elif clip.has(LIP_BOXES):
        boxes = clip.array(LIP_BOXES, Wanted("f", (len(clip), 4)))
        for index in np.flatnonzero(np.isfinite(boxes).all(axis=1)):
            top, bottom, left, right = np.rint(boxes[index] * size).astype(int)
            masks[int(index)] = mask = np.zeros((size, size), np.uint8)
            mask[top:bottom, left:right] = 255
    return {index: encode_jpeg(cv2.cvtColor(mask, cv2.COLOR_GRAY2RGB)) for index, mask in masks.items()}


def _write(folder: Path, pictures: dict[int, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, data in pictures.items():
        (folder / f"{index}.jpg").write_bytes(data)
