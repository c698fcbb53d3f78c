"""What a converter is, and what converters share. A layout is one module: a class with `@register_converter(kind)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from talkingface import media
from talkingface.clips.face_store import FaceWriter, Storage
from talkingface.clips.folder import default_file
from talkingface.errors import DataError, unknown
from talkingface.faces.crop import CropConfig
from talkingface.preprocess.imported import IMPORTED
from talkingface.preprocess.report import Report
from talkingface.stored.pictures import jpeg_size, png_size
from talkingface.stored.regular import read_bytes

PICTURES = (".png", ".jpg", ".jpeg")
REPAIRS = "repairs"
"""Fact of an artefact: what had to be done to the old data, a list of words that the report counts."""

_SPARSE_FRAMES = 1000
_MOST_PER_FILE = 10  # frames for every file, beyond those
_LONGEST_SIDE = 4096  # pixels, of a face
_MOST_BYTES = 2**26


@dataclass(frozen=True)
class ConvertOptions:
    """What a user may choose.

    Attributes:
        size: side of face crops in pixels, where the old ones have no fixed size.
        max_gap: longest run of frames without landmarks that is bridged.
        hr_size: side of the faces that HyperLipsHR learns to draw; None: what is nearest to the old ones.
        prefix: what the names of the files begin with, where one folder has several families of them; empty: the one
            that the published code reads.
        width: of the crops of DINet and LawDNet in pixels.
        features: front end that gave the features which the old tree does not name.
        further: trees beside the first that are converted with it.
    """

    size: int = 96
    max_gap: int = 12
    hr_size: int | None = None
    prefix: str = ""
    width: int = 360
    features: str = "deepspeech_onnx"
    further: tuple[Path, ...] = ()


class Converter(ABC):
    """Turns the clips of one old layout into clip folders.

    Args:
        roots: the old folders, by name.
        options: see `ConvertOptions`.

    Attributes:
        kind: name on the command line.
        main: name of the folder that holds the clips; it must be given.
        holds: what lies in it, for messages; empty: what its name says.
        several: whether it may be given more than once; the others are `options.further`.
    """

    kind: ClassVar[str] = ""
    main: ClassVar[str] = "faces"
    holds: ClassVar[str] = ""
    several: ClassVar[bool] = False

    def __init__(self, roots: Mapping[str, Path], options: ConvertOptions):
        self.roots, self.options = roots, options

    def find(self) -> list[str]:
        """Names of all clips, sorted; by default the folders `<speaker>/<clip>` below the main one."""
        main = self.roots[self.main]
        return sorted(path.relative_to(main).as_posix() for path in main.glob("*/*") if path.is_dir())

    def place(self, out: str | Path | None) -> Path:
        """Where the clip folders go.

        Raises:
            DataError: nobody has said it, or they cannot go there.
        """
        if out is None:
            raise DataError(f"'{self.kind}' needs --out=FOLDER: the new preprocessed_root")
        return Path(out)

    def state(self, clip_id: str) -> str:
        """What a clip is made from and of, in one word; a clip that was made from the same is not made again.

        Empty: it always is.
        """
        return ""

    def whole_state(self) -> str:
        """The same of all clips together, told without reading them: a run then knows that nothing is to be done.

        Empty: it looks at every clip.
        """
        return ""

    @property
    def advice(self) -> str:
        """How to train on the result: options of the command line that differ from the models' defaults."""
        return ""

    @abstractmethod
    def convert(self, clip_id: str, target: Path) -> dict[str, Any]:
        """Write the artefacts of one clip into the folder `target`.

        Artefacts have the names and parameters that models ask for: `faces@...` of another crop is no use to them.

        Returns:
            `frames`, the number of frames, and `steps`, a `record` of every artefact, for `clip.json`. With `source`,
            see `original.describe_source`, the clip has a video of its own: what is still to be made comes from it.

        Raises:
            Rejected: the clip cannot be used.
            DataError: it is damaged.
        """


CONVERTERS: dict[str, type[Converter]] = {}


def register_converter(kind: str) -> Callable[[type[Converter]], type[Converter]]:
    """Class decorator: makes a converter known as `convert-data --kind=kind`."""

    def register(converter: type[Converter]) -> type[Converter]:
        converter.kind = kind
        CONVERTERS[kind] = converter
        return converter

    return register


Exporter = Callable[[Path, Path, bool], Report]
"""Writes prepared clips as an old layout: their folder, that of the old layout, whether a progress bar is shown."""

EXPORTERS: dict[str, Exporter] = {}


def register_exporter(kind: str) -> Callable[[Exporter], Exporter]:
    """Decorator: makes a function known as `convert-data --kind=kind --export=FOLDER`."""

    def register(exporter: Exporter) -> Exporter:
        EXPORTERS[kind] = exporter
        return exporter

    return register


def exporter_for(kind: str) -> Exporter:
    """A registered exporter.

    Raises:
        DataError: there is none of that name.
    """
    if kind not in EXPORTERS:
        raise DataError(unknown("layout to export to:", kind, EXPORTERS))
    return EXPORTERS[kind]


def converter_for(kind: str) -> type[Converter]:
    """A registered converter.

    Raises:
        DataError: there is none of that name.
    """
    if kind not in CONVERTERS:
        raise DataError(unknown("old layout", kind, CONVERTERS))
    return CONVERTERS[kind]


def record(files: Iterable[str], **params: Any) -> dict[str, Any]:
    """An entry of `steps` in `clip.json`: files, and the parameters known of them."""
    return {"version": 0, "params": params, "fingerprint": IMPORTED, "files": list(files)}


def numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files named by a frame number, in order."""
    paths = folder.iterdir() if folder.is_dir() else ()
    named = {int(p.stem): p for p in paths if p.suffix.lower() in suffixes and p.stem.isdecimal()}
    return dict(sorted(named.items()))


def frame_total(files: Mapping[int, Path]) -> int:
    """Number of frames of a clip with these numbered files; a missing one is a frame without a face.

    Raises:
        DataError: the numbers run far beyond the files: room is made for every frame.
    """
    count = max(files) + 1
    if count > _SPARSE_FRAMES + _MOST_PER_FILE * len(files):
        raise DataError(f"{files[count - 1]}: is number {count - 1} of only {len(files)} files; it belongs to none")
    return count


def copy_audio(path: Path, target: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The sound track as artefact `audio`: its record, and the samples as they read back."""
    return store_audio(media.read_audio(path), target), media.read_audio(target / default_file("audio"))


def store_audio(samples: np.ndarray, target: Path) -> dict[str, Any]:
    """Write the artefact `audio` from (n,) float32 mono at 16 kHz; returns its record."""
    media.write_wav(target / default_file("audio"), samples)
    return record([default_file("audio")])


def pack_faces(pictures: Mapping[int, Path], count: int, target: Path, crop: CropConfig) -> dict[str, Any]:
    """Pack numbered pictures as the artefact `crop.artefact`; a missing number is a frame without a face.

    Returns:
        The artefact's record.

    Raises:
        DataError: a picture is damaged.
    """
    params = crop.model_dump()
    return record(pack_pictures(pictures, count, target, crop.artefact, crop.size, params), **params)


def pack_pictures(
    pictures: Mapping[int, Path],
    count: int,
    target: Path,
    artefact: str,
    side: int,
    described: Mapping[str, Any] | None = None,
    storage: Storage = "jpeg",
) -> tuple[str, ...]:
    """Pack numbered pictures as a `FaceStore`; a missing number is a frame without one.

    The crop itself is the picture: every box is the whole of it.

    Args:
        pictures: by frame number; those beyond the last frame are left out.
        count: number of frames.
        target: the clip's folder.
        artefact: name of the store.
        side: to which the pictures are resized (bilinear), in pixels.
        described: what else the index says of them.
        storage: how they are kept.

    Returns:
        Names of the files.

    Raises:
        DataError: a picture is damaged.
    """
    writer = FaceWriter(target, artefact, storage)
    boxes = np.full((count, 4), np.nan, dtype=np.float32)
    for index in range(count):
        if index not in pictures:
            writer.add(None)
            continue
        boxes[index] = (0, 0, side, side)
        picture = read_face(pictures[index])
        resized = cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)
        writer.add(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB))
    return writer.close(boxes, {**(described or {}), "size": side, "frame_hw": [side, side]})


def read_face(path: Path) -> np.ndarray:
    """A face picture, (H, W, 3) uint8 BGR.

    Raises:
        DataError: it is damaged, or of no size that faces have: it may unfold into any number of pixels.
    """
    data = read_bytes(path, _MOST_BYTES)
    size = jpeg_size(data) or png_size(data)
    if size is not None and max(size) > _LONGEST_SIDE:
        raise DataError(f"{path}: {size[1]} x {size[0]} pixels are no crop of a face")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if size else None
    if picture is None:
        raise DataError(f"{path}: not a readable picture")
    return picture


def crop_options(crop: CropConfig) -> str:
    """The options with which a model asks for crops of this kind."""
    return " ".join(f"--model.crop.{name}={value}" for name, value in crop.model_dump().items())
