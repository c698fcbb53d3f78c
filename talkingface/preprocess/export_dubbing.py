"""Writing prepared clips as DINet's and LawDNet's code reads them: crops in clips of nine frames, features, JSON."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from talkingface.clips.dubbing_tree import CROPS, FEATURES, SOUND, VIDEOS
from talkingface.clips.folder import ClipFolder
from talkingface.clips.prepared import prepared_ids
from talkingface.errors import DataError, OutputError, TalkingFaceError
from talkingface.faces.dubbing_crop import BLOCK
from talkingface.files import atomic_output, output_error, writable_folder
from talkingface.lipsync.dubbing.config import ARTEFACT
from talkingface.lipsync.dubbing.sound import rows_of_frames
from talkingface.preprocess.converters.base import register_exporter
from talkingface.preprocess.converters.dubbing_video import FEWEST
from talkingface.preprocess.outcome import FAILED, OK, REJECTED, Outcome
from talkingface.preprocess.report import Report
from talkingface.preprocess.step import Rejected
from talkingface.sound.choice import ARTEFACT as HEARD
from talkingface.sound.recogniser import WIDTH

_LIKED = ("deepspeech_onnx", "deepspeech_tf", "hubert_ds", "deepspeech2", "logmel")
LIST = "training_json.json"


@register_exporter("lawdnet")
def export_lawdnet(prepared: Path, out: Path, progress: bool = True) -> Report:
    """Write frontal crops, as LawDNet reads them; see `export_dubbing`."""
    return export_dubbing(prepared, out, "frontal", progress)


@register_exporter("dinet")
def export_dinet(prepared: Path, out: Path, progress: bool = True) -> Report:
    """Write upright crops, as DINet reads them; see `export_dubbing`."""
    return export_dubbing(prepared, out, "upright", progress)


def export_dubbing(
    prepared: str | Path,
    out: str | Path,
    crop: str,
    progress: bool = True,
    *,
    places: Mapping[str, Path] | None = None,
) -> Report:
    """Write crops, features as text, sound and the training JSON of all prepared clips.

    Args:
        prepared: the `preprocessed_root`.
        out: folder for the tree; it must hold none yet. Paths in the JSON begin with it, as it is given.
        crop: which crops: an artefact, or a kind, of which a clip's widest are taken.
        progress: show a progress bar.
        places: other places of `crop_face`, `audio`, `deepspeech`, `deepspeech_2` and `training_json.json`.

    Returns:
        One outcome per clip. Clips of fewer than six whole blocks of nine frames are of no use there, and rejected; so
        are those without such crops.

    Raises:
        DataError: there are no clips, or a tree lies in `out` already.
        OutputError: it cannot be written.
    """
    ids = prepared_ids(prepared)
    if not ids:
        raise DataError(f"{prepared}: no prepared clips found here")
    tree = {end: Path(out) / f"{VIDEOS}_{end}" for end in _ENDS} | {LIST: Path(out) / LIST} | dict(places or {})
    if there := [path for path in tree.values() if path.exists()]:
        raise DataError(f"{there[0]}: is there already, and is left as it is; name another folder")
    for place in tree.values():
        writable_folder(place.parent)
    started, report = time.perf_counter(), Report(worked=len(ids))
    with atomic_output(tree[LIST]) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("{")
        for clip_id in tqdm(ids, desc="export", unit="clip", disable=not progress):
            outcome, listed = _export(ClipFolder(Path(prepared) / clip_id, clip_id=clip_id), crop, tree)
            report.add(outcome)
            if listed:
                # One by one: all lists of a large data set together do not fit into memory.
                stream.write(f"{',' * (len(report.ok_ids) > 1)}\n{json.dumps(_name(clip_id))}: {json.dumps(listed)}")
        stream.write("\n}\n")
    report.seconds = time.perf_counter() - started
    return report


_ENDS = (CROPS, SOUND, *(folder for folder, _ in FEATURES.values()))


def _name(clip_id: str) -> str:
    """The name of a video; folders have none in that layout."""
    return clip_id.replace("/", "_")


def _export(clip: ClipFolder, crop: str, tree: Mapping[str, Path]) -> tuple[Outcome, dict[str, Any]]:
    """Write a clip; returns what became of it, and its entry in the JSON."""
    try:
        if clip.status != "ok":
            raise Rejected(f"{clip.status or 'not prepared'}: {clip.reason}")
        if (tree[CROPS] / _name(clip.clip_id)).exists():
            raise Rejected(f"another clip is called {_name(clip.clip_id)} there")
        listed = _write(clip, _crops(clip, crop), tree)
    except Rejected as reason:
        return Outcome(clip.clip_id, REJECTED, str(reason)), {}
    except OSError as error:
        raise output_error(tree[CROPS].parent, error) from error
    except OutputError:
        raise
    except TalkingFaceError as error:
        return Outcome(clip.clip_id, FAILED, str(error)), {}
    return Outcome(clip.clip_id, OK, frames=len(clip)), listed


def _crops(clip: ClipFolder, crop: str) -> str:
    """Name of the crops that are meant, see `export_dubbing`; models that share clips leave several kinds there."""
    there = [name for name in clip.meta.get("steps", {}) if name.startswith(ARTEFACT) and clip.has(name)]
    # aligned@<width>-<kind>-..., see `DubbingCropConfig.artefact`
    sizes = {name: int(name.removeprefix(ARTEFACT).split("-")[0]) for name in there if f"-{crop}-" in name}
    if crop in there or sizes:
        return crop if crop in there else max(sizes, key=sizes.__getitem__)
    raise Rejected(f"has no {crop} crops, but {', '.join(there) or 'none at all'}")


def _write(clip: ClipFolder, crop: str, tree: Mapping[str, Path]) -> dict[str, Any]:
    name, heard = _name(clip.clip_id), _heard(clip)
    if not heard:
        raise Rejected(f"has no features of {WIDTH} numbers")
    faces = clip.faces(crop)
    count = len(clip) // BLOCK
    blocks = np.flatnonzero(faces.valid[: count * BLOCK].reshape(count, BLOCK).all(axis=1))
    if len(blocks) < FEWEST:
        raise Rejected(
            f"has {len(blocks)} whole blocks of {BLOCK} frames with a face, {FEWEST} are needed", len(blocks)
        )
    for recogniser, rows in heard.items():
        folder, end = FEATURES[recogniser]
        tree[folder].mkdir(exist_ok=True)
        np.savetxt(tree[folder] / f"{name}{end}", rows)
    if clip.has("audio"):
        tree[SOUND].mkdir(exist_ok=True)
        shutil.copyfile(clip.path / clip.files("audio")[0], tree[SOUND] / f"{name}.wav")
    listed = []
    for block in map(int, blocks):
        frames = range(block * BLOCK, (block + 1) * BLOCK)
        names = [f"{name}/{block:06d}/{frame:06d}.jpg" for frame in frames]
        paths = [tree[CROPS] / each for each in names]
        paths[0].parent.mkdir(parents=True)
        for frame, path in zip(frames, paths, strict=True):
            path.write_bytes(faces.jpeg(frame))
        own = {
            f"deep_speech{'_dp2' * (kind == 'deepspeech2')}_list": rows[frames].tolist() for kind, rows in heard.items()
        }
        listed.append({"frame_name_list": names, "frame_path_list": [path.as_posix() for path in paths], **own})
    return {"video_clip_num": len(listed), "clip_data_list": listed}


def _heard(clip: ClipFolder) -> dict[str, np.ndarray]:
    """Rows (F, 29) per frame by recogniser; the first list is of whatever front end the clip has."""
    found = {}
    for name in _LIKED:
        if clip.has(f"{HEARD}{name}"):
            rows = rows_of_frames(clip.features(f"{HEARD}{name}"), len(clip), name)
            found |= {"deepspeech": found.get("deepspeech", rows)} | (
                {"deepspeech2": rows} if name == "deepspeech2" else {}
            )
    return found
