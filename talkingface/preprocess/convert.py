"""Reading what people have preprocessed with older code: IP_LAP's per-frame files and Wav2Lip's picture folders.

The converters write ordinary clip folders, so that training can start without the source videos. Old landmark files are
pickles; they are read by an unpickler that knows plain containers, numbers and numpy arrays and nothing else.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from tqdm import tqdm

from talkingface import media
from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import FORMAT, META_FILE
from talkingface.errors import DataError, TalkingFaceError
from talkingface.faces import mesh as facemesh
from talkingface.faces.track import LandmarkTrack, fill_gaps
from talkingface.files import writable_folder
from talkingface.preprocess.outcome import FAILED, OK, REJECTED, Outcome
from talkingface.preprocess.report import Report
from talkingface.preprocess.step import Rejected
from talkingface.sound.mel import melspectrogram

log = logging.getLogger("talkingface")

Kind = Literal["iplap", "wav2lip"]
PICTURES = (".png", ".jpg", ".jpeg")
IPLAP_CROP = {"size": 128, "margin_mode": "px", "margin": 5.0, "box": "frame", "rule": "iplap"}


def convert_legacy(
    kind: Kind,
    roots: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    size: int = 96,
    max_gap: int = 12,
    progress: bool = True,
) -> Report:
    """Convert preprocessed data of older code to clip folders.

    Args:
        kind: `iplap` (IP_LAP's landmark, face and audio folders) or `wav2lip` (`<set>/<clip>/{0.jpg, ..., audio.wav}`).
        roots: for `iplap` the folders `landmarks`, `faces` and `audio` (the last two may be left out; sketches are not
            needed, they are drawn from the landmarks); for `wav2lip` the folder `faces`.
        out: the new `preprocessed_root`.
        size: side to which Wav2Lip's crops are resized; IP_LAP's are 128 already.
        max_gap: longest run of missing frames that is bridged.
        progress: show a progress bar.

    Returns:
        One outcome per clip. A damaged clip is reported and does not stop the others.

    Raises:
        DataError: a root is missing or empty.
        OutputError: `out` cannot be written.
    """
    folders = {name: Path(root) for name, root in roots.items()}
    main = "landmarks" if kind == "iplap" else "faces"
    converters: dict[str, Callable[[str, Path], dict[str, Any]]] = {
        "iplap": lambda clip_id, target: _convert_iplap(clip_id, folders, target, max_gap),
        "wav2lip": lambda clip_id, target: _convert_wav2lip(folders["faces"] / clip_id, target, size),
    }
    if kind not in converters:
        raise DataError(f"legacy layout '{kind}' is not known; choose {', '.join(converters)}")
    if main not in folders or not folders[main].is_dir():
        raise DataError(f"{folders.get(main, main)}: the folder with the {kind} {main} does not exist")
    ids = sorted(path.relative_to(folders[main]).as_posix() for path in folders[main].glob("*/*") if path.is_dir())
    if not ids:
        raise DataError(f"{folders[main]}: no <speaker>/<clip> folders found here")
    writable_folder(out)
    started, report = time.perf_counter(), Report()
    for clip_id in tqdm(ids, desc=f"convert {kind}", unit="clip", disable=not progress):
        report.add(_convert_one(clip_id, Path(out) / clip_id, kind, converters[kind]))
    report.worked, report.seconds = len(ids), time.perf_counter() - started
    log.info("conversion: %s", report.table())
    return report


def _convert_one(clip_id: str, target: Path, kind: str, convert: Callable[[str, Path], dict[str, Any]]) -> Outcome:
    target.mkdir(parents=True, exist_ok=True)
    (target / META_FILE).unlink(missing_ok=True)  # an old record must not vouch for half-replaced files
    meta = {"format": FORMAT, "clip_id": clip_id, "speaker": clip_id.split("/")[0], "fps": 25.0, "imported": kind}
    try:
        meta |= convert(clip_id, target) | {"status": OK, "reason": ""}
    except Rejected as reason:
        meta |= {"status": REJECTED, "reason": str(reason)}
    except (TalkingFaceError, OSError, ValueError, KeyError) as error:
        meta |= {"status": FAILED, "reason": " ".join(f"{error}".split()) or type(error).__name__}
    temporary = target / f".{META_FILE}"
    temporary.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, target / META_FILE)
    made = tuple(meta.get("steps", ()))
    return Outcome(clip_id, str(meta["status"]), str(meta["reason"]), made, frames=int(meta.get("frames", 0)))


def _record(files: Iterable[str], **params: Any) -> dict[str, Any]:
    return {"version": 0, "params": params, "fingerprint": "imported", "files": list(files)}


def _convert_iplap(clip_id: str, folders: Mapping[str, Path], target: Path, max_gap: int) -> dict[str, Any]:
    """One clip of IP_LAP's layout.

    The old files hold landmarks relative to the crop and no boxes, so the crop itself becomes the picture: pixels of
    the track are pixels of the 128 x 128 crop, and every box is the whole crop.
    """
    side = IPLAP_CROP["size"]
    frames = _numbered(folders["landmarks"] / clip_id, (".npy",))
    if not frames:
        raise Rejected("no landmark files")
    count = max(frames) + 1
    points = np.full((count, facemesh.N_POINTS, 2), np.nan, dtype=np.float32)
    found = np.zeros(count, dtype=bool)
    for index, path in frames.items():
        points[index] = read_iplap_landmarks(path) * side
        found[index] = True
    valid = fill_gaps(points, found, max_gap)
    track = LandmarkTrack(points, found, valid, (side, side), "mediapipe478", "mediapipe", "imported from IP_LAP files")
    track.save(target / "landmarks.npz")
    steps = {"landmarks": _record(["landmarks.npz"])}
    if "faces" in folders:
        pictures = _numbered(folders["faces"] / clip_id, PICTURES)
        steps["faces"] = _record(_pack_faces(pictures, count, target, IPLAP_CROP), **IPLAP_CROP)
    if "audio" in folders:
        steps |= _iplap_audio(folders["audio"] / clip_id, target)
    return {"frames": count, "steps": steps}


def _iplap_audio(folder: Path, target: Path) -> dict[str, Any]:
    mel = load_plain(folder / "audio.npy")
    if not isinstance(mel, np.ndarray) or mel.ndim != 2 or mel.shape[1] != 80:
        shape = getattr(mel, "shape", type(mel).__name__)
        raise DataError(f"{folder / 'audio.npy'}: expected a mel spectrogram (frames, 80), found {shape}")
    np.save(target / "mel.npy", np.ascontiguousarray(mel.T, dtype=np.float32))
    steps = {"mel": _record(["mel.npy"])}
    if (folder / "audio.wav").is_file():
        steps |= _copy_audio(folder / "audio.wav", target)[0]
    return steps


def _convert_wav2lip(folder: Path, target: Path, size: int) -> dict[str, Any]:
    """One clip of Wav2Lip's layout: detector crops of any size, and the sound track."""
    pictures = _numbered(folder, PICTURES)
    if not pictures:
        raise Rejected("no face pictures")
    count = max(pictures) + 1
    crop = {**IPLAP_CROP, "size": size, "margin": 0.0, "rule": "s3fd"}
    steps, audio = _copy_audio(folder / "audio.wav", target)
    np.save(target / "mel.npy", melspectrogram(audio).astype(np.float32))
    steps |= {"mel": _record(["mel.npy"]), "faces": _record(_pack_faces(pictures, count, target, crop), **crop)}
    return {"frames": count, "steps": steps}


def _copy_audio(path: Path, target: Path) -> tuple[dict[str, Any], np.ndarray]:
    audio = media.read_audio(path)
    media.write_wav(target / "audio.wav", audio)
    return {"audio": _record(["audio.wav"])}, audio


def _pack_faces(pictures: Mapping[int, Path], count: int, target: Path, crop: Mapping[str, Any]) -> tuple[str, ...]:
    """Pack numbered pictures; a missing number is a frame without a face, a damaged picture an error."""
    side = int(crop["size"])
    writer = FaceWriter(target, "faces")
    boxes = np.full((count, 4), np.nan, dtype=np.float32)
    for index in range(count):
        if index not in pictures:
            writer.add(None)
            continue
        picture = cv2.imread(os.fspath(pictures[index]), cv2.IMREAD_COLOR)
        if picture is None:
            raise DataError(f"{pictures[index]}: not a readable picture")
        boxes[index] = (0, 0, side, side)
        resized = cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)
        writer.add(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB))
    return writer.close(boxes, {**crop, "frame_hw": [side, side]})


def _numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files named by a frame number, in order."""
    paths = folder.iterdir() if folder.is_dir() else ()
    named = {int(p.stem): p for p in paths if p.suffix.lower() in suffixes and p.stem.isdecimal()}
    return dict(sorted(named.items()))


def read_iplap_landmarks(path: str | os.PathLike[str]) -> np.ndarray:
    """One of IP_LAP's landmark files.

    Args:
        path: a pickled dict of `pose_landmarks` and `content_landmarks`, lists of (mesh index, x, y) relative to the
            crop.

    Returns:
        (478, 2) float32, NaN at points the file does not name.

    Raises:
        DataError: the file is damaged, holds code, or lacks points.
    """
    stored = load_plain(path)
    try:
        rows = np.array([*stored["pose_landmarks"], *stored["content_landmarks"]], dtype=np.float64)
        points = np.full((facemesh.N_POINTS, 2), np.nan, dtype=np.float32)
        points[rows[:, 0].astype(int)] = rows[:, 1:3]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a landmark file of IP_LAP ({type(error).__name__}: {error})") from None
    if np.isnan(points[list(facemesh.IPLAP_ORDER)]).any():
        raise DataError(f"{path}: has {len(rows)} points, but not all 131 that IP_LAP uses")
    return points


def load_plain(path: str | os.PathLike[str]) -> Any:
    """Load an `.npy` file; a pickled one may hold plain containers, numbers, strings and numpy arrays only.

    Raises:
        DataError: the file is missing or damaged, or names anything else (which could run code).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read this file ({error.strerror})") from None
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read_header(stream)
        if not dtype.hasobject:
            return np.load(io.BytesIO(data), allow_pickle=False)
        value = _PlainUnpickler(stream).load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, EOFError, AttributeError, IndexError, KeyError, TypeError, ImportError) as error:
        raise DataError(f"{path}: not a readable .npy file ({type(error).__name__}: {error})") from None
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _latin1(text: str, encoding: str) -> bytes:
    """What protocol-2 pickles use for bytes; any other codec is refused."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: text encoding {encoding}")
    return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    """Knows numpy's array, dtype and scalar constructors; every other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name in the pickle."""
        plain = module.replace("numpy._core", "numpy.core")
        if (plain, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if plain == "numpy.core.multiarray" and name in ("_reconstruct", "scalar"):
            home = (
                "numpy.core.multiarray" if np.lib.NumpyVersion(np.__version__) < "2.0.0" else "numpy._core.multiarray"
            )
            return getattr(importlib.import_module(home), name)
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"refused: the file holds code ({module}.{name}); only plain data are read")
