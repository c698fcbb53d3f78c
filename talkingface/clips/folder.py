"""Prepared clips on disk.

`ClipFolder` knows file names and types. A folder holds `clip.json` (status, source, provenance of every artefact) and
the artefacts: `audio.wav`, `mel.npy`, `landmarks.npz`, `faces.npz` beside `faces.bin` (or `faces.npy`). Nothing here
needs mediapipe, librosa or PyAV: training on prepared data works without them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface.clips.face_store import FaceStore
from talkingface.clips.meta import META_FILE, clip_file, load_meta, number
from talkingface.errors import DataError
from talkingface.faces.crop import CropConfig
from talkingface.sound import SAMPLE_RATE
from talkingface.sound.rows import Rows
from talkingface.stored.arrays import Wanted, mapped_npy, npy_header, read_npy
from talkingface.stored.regular import REMEDY
from talkingface.stored.waves import read_wav

if TYPE_CHECKING:
    from talkingface.faces.track import LandmarkTrack

MELS = 80  # bands of a mel spectrogram; all models hear the same ones
_MEL = Wanted("f", (MELS, "columns"))


def default_file(artefact: str) -> str:
    """Main file of an artefact; `name@variant` is another variant of the same kind, in files of that name."""
    kind = artefact.partition("@")[0]
    return artefact + {"audio": ".wav", "landmarks": ".npz", "faces": ".npz"}.get(kind, ".npy")


def find_record(steps: Mapping[str, Any], artefact: str) -> dict[str, Any] | None:
    """What `steps` of a `clip.json` say of an artefact, None when it was not made.

    Face crops are named by their settings (`CropConfig.artefact`). Earlier versions named them by the model,
    `faces@wav2lip`; such crops serve where what is recorded of them is what the name asks for.
    """
    if artefact in steps:
        return steps[artefact]
    crop = CropConfig.of_artefact(artefact)
    if crop is None:
        return None
    former = (record for name, record in steps.items() if is_faces(name) and not CropConfig.of_artefact(name))
    return next((record for record in former if not crop.differs_from(record.get("params", {}))), None)


def is_faces(artefact: str) -> bool:
    """Whether these are face crops, whatever their variant."""
    return artefact.partition("@")[0] == "faces"


def among(artefact: str, names: Iterable[str]) -> bool:
    """Whether an artefact, or its kind, is one of some names: `heads@256` is, of `heads`."""
    return artefact in (known := set(names)) or artefact.partition("@")[0] in known


class ClipFolder:
    """One prepared clip.

    Args:
        path: its folder, `<preprocessed_root>/<clip_id>`.
        video: source video; default is the one named in `clip.json`.
        clip_id: default is the one in `clip.json`.
        speaker: who speaks, as the data set's layout has it (empty: not known); default is the one in `clip.json`.
        split: list of the data set that it stands in, `train` say; empty: nobody has looked, see `layouts.of_split`.

    Attributes:
        meta: content of `clip.json`, checked; empty where there is none, or none that can be read.
        problem: why it cannot be read; empty where it can.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        video: str | os.PathLike[str] | None = None,
        clip_id: str = "",
        speaker: str | None = None,
        split: str = "",
    ):
        self.path, self.split = Path(path), split
        self._video = Path(video) if video is not None else None
        self.meta: dict[str, Any] = {}
        self.problem = ""
        try:
            self.meta = load_meta(self.path)
        except DataError as error:
            self.problem = str(error)
        self.clip_id: str = clip_id or self.meta.get("clip_id", self.path.name)
        self.speaker: str = str(self.meta.get("speaker", "")) if speaker is None else speaker

    def __len__(self) -> int:
        """Number of video frames."""
        return int(self.meta.get("frames", 0))

    def __repr__(self) -> str:
        return f"ClipFolder({self.clip_id!r}, {len(self)} frames, {self.status or 'not prepared'})"

    @property
    def status(self) -> str:
        """`ok`, `rejected`, `failed`, or empty when the clip was never prepared."""
        return str(self.meta.get("status", ""))

    @property
    def reason(self) -> str:
        """Why the clip is not usable; empty when it is."""
        return str(self.meta.get("reason", "")) or self.problem

    @property
    def imported(self) -> str:
        """The older layout that the clip was converted from; empty for all others."""
        return str(self.meta.get("imported", ""))

    @property
    def fps(self) -> float:
        """Frame rate of landmarks and faces."""
        return float(self.meta.get("fps", 25.0))

    @property
    def video(self) -> Path:
        """The source video (it may lie elsewhere or be gone when only prepared data were copied)."""
        if self._video is not None:
            return self._video
        name = self.meta.get("source", {}).get("path")
        if not name:
            raise DataError(f"{self.path / META_FILE}: names no source video")
        return Path(os.path.normpath(self.path / name))

    @property
    def has_video(self) -> bool:
        """Whether a source video is named, and is there."""
        try:
            return self.video.is_file()
        except DataError:
            return False

    def has(self, artefact: str) -> bool:
        """Whether the artefact was made and its files are there."""
        if find_record(self.meta.get("steps", {}), artefact) is None:
            return False
        try:
            return all(clip_file(self.path, name) for name in self.files(artefact))
        except DataError:
            return False

    def lacks_crops(self, crop: CropConfig) -> str | None:
        """Why there are no face crops of these settings, or None; it names the settings of those that there are."""
        if self.has(crop.artefact):
            return None
        others = [name for name in self.meta.get("steps", {}) if is_faces(name)]
        if not others:
            return f"has no {crop.artefact}; run preprocess"
        named = CropConfig.of_artefact(others[-1])
        return crop.differs_from(named.model_dump() if named else self.record(others[-1]).get("params", {}))

    def files(self, artefact: str) -> tuple[str, ...]:
        """Names of the artefact's files."""
        return tuple(self.record(artefact).get("files", ())) or (default_file(artefact),)

    def facts(self, artefact: str) -> dict[str, Any]:
        """What the step of an artefact noted in `clip.json`, for instance the offset that filter `sync` measured."""
        return dict(self.record(artefact).get("facts", {}))

    def record(self, artefact: str) -> dict[str, Any]:
        """What preprocessing noted when it made an artefact: `params`, `files`, `facts`, `fingerprint`; else empty."""
        return dict(find_record(self.meta.get("steps", {}), artefact) or {})

    def made_by_others(self, artefact: str, weights: str) -> str | None:
        """Why an artefact that a network makes does not serve, or None: it is not there, or other weights made it.

        Args:
            artefact: its name.
            weights: hash of the weights that are to have made it; empty: any.
        """
        if not self.has(artefact):
            return f"has no {artefact}; run preprocess"
        made = self.record(artefact).get("params", {}).get("weights")
        if not weights or not made or made == weights:
            return None
        return f"its {artefact} was made by weights {made}, the network now has {weights}; run preprocess"

    def number(self, artefact: str, name: str, default: float) -> float:
        """One of the `facts` of an artefact, a number; the default where there is none.

        Raises:
            DataError: it is no number.
        """
        try:
            return number(self.facts(artefact), name, default)
        except ValueError as error:
            raise DataError(f"{self.path / META_FILE}: facts of {artefact}: {error}; {REMEDY}") from None

    def audio(self, key: str = "audio") -> np.ndarray:
        """(n,) float32 mono in [-1, 1] at 16 kHz."""
        return read_wav(self._file(key), SAMPLE_RATE)

    def mel(self, key: str = "mel") -> np.ndarray:
        """(80, L) float32 log-mel, 80 columns per second; all numbers are finite."""
        return read_npy(self._file(key), self._mel(key)).astype(np.float32, copy=False)

    def mel_columns(self, key: str = "mel") -> int:
        """L of `mel`, from the header of the file alone: for those who look at every clip before training."""
        return npy_header(self._file(key), self._mel(key)).shape[1]

    def _mel(self, key: str) -> Wanted:
        bands = self.record(key).get("params", {}).get("n_mels", MELS)
        return Wanted("f", (bands if isinstance(bands, int) else MELS, "columns"))

    def track(self, key: str = "landmarks") -> LandmarkTrack:
        """Landmarks of every frame, in pixels of the source."""
        from talkingface.faces.track import LandmarkTrack

        path = self._file(key)
        track = LandmarkTrack.load(path)
        self.check_rows(path, len(track))
        return track

    def faces(self, key: str = "faces") -> FaceStore:
        """Face crops of every frame."""
        path = self._file(key)
        store = FaceStore(self.path, key, path)
        self.check_rows(path, len(store))
        return store

    def features(self, key: str) -> Rows:
        """What a front end heard, rows per second and time of row 0 as recorded, and the clip's vector if there is one.

        The rows are mapped: they are read from the disk where they are looked at, and not to be written to.

        Raises:
            DataError: not there, damaged, or recorded without its rate.
        """
        rate = self.number(key, "rows_per_second", 0.0)
        if rate <= 0:
            raise DataError(f"{self.path / META_FILE}: says of {key} not how many rows a second has; {REMEDY}")
        values = mapped_npy(self._file(key), Wanted("f", ("rows", "width")))
        names = self.files(key)
        vector = read_npy(clip_file(self.path, names[1]), Wanted("f", ("width",))) if len(names) > 1 else None
        return Rows(values.astype(np.float32, copy=False), rate, self.number(key, "first_row", 0.0), vector)

    def array(self, key: str, wanted: Wanted | None = None) -> np.ndarray:
        """A plain array artefact (`<key>.npy`): numbers, truth values or text.

        Args:
            key: the artefact.
            wanted: kind and shape that it must have; None: any.
        """
        return read_npy(self._file(key), wanted or Wanted("biufU", None), finite=False)

    def array_rows(self, key: str, wanted: Wanted) -> int:
        """Length of `array`, from the header of the file alone."""
        return npy_header(self._file(key), wanted).shape[0]

    def check_rows(self, path: Path, rows: int) -> None:
        """See that a file has a row for each of the clip's frames.

        Raises:
            DataError: it has not.
        """
        if "frames" in self.meta and rows != len(self):
            raise DataError(f"{path}: has {rows} frames, the clip has {len(self)}; {REMEDY}")

    def _file(self, artefact: str) -> Path:
        name = self.files(artefact)[0]
        if not os.path.lexists(self.path / name):
            raise DataError(
                f"{self.path}: has no '{artefact}'; run `run_talkingface.py preprocess` for this model and data set"
            )
        return clip_file(self.path, name)


def usable_clips(
    clips: Iterable[ClipFolder], artefacts: Sequence[str] = ()
) -> tuple[list[ClipFolder], list[tuple[str, str]]]:
    """Split clips into those that are `ok` and have the artefacts, and (clip_id, reason) of the others."""
    kept: list[ClipFolder] = []
    dropped: list[tuple[str, str]] = []
    for clip in clips:
        missing = [name for name in artefacts if not clip.has(name)]
        if clip.status != "ok":
            unknown = clip.reason or "not preprocessed"
            dropped.append((clip.clip_id, f"{clip.status}: {clip.reason}" if clip.status else unknown))
        elif missing:
            dropped.append((clip.clip_id, f"has no {', '.join(missing)}"))
        else:
            kept.append(clip)
    return kept, dropped
