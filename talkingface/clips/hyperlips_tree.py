"""The tree of files that HyperLips' own code and earlier ports of it leave below `preprocessed_data`.

Y. Chen et al., "HyperLips", arXiv:2310.05720, published code. Everything lies at `<set>/<clip>` below a folder for each
kind of file; a frame without a face has no picture, and the others keep their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FACES = "imgs"
VIDEOS = "video_clips"
HIGH_RESOLUTION = "HR_Train_Dateset"  # so it is spelt
TRUTH, MASKS, DRAWN, SKETCHES = (
    f"{HIGH_RESOLUTION}/{name}" for name in ("GT_IMG", "GT_MASK", "HYPER_IMG", "HYPER_SKETCH")
)
FOLDERS = (FACES, VIDEOS, HIGH_RESOLUTION)
PICTURES = (FACES, TRUTH, MASKS, DRAWN, SKETCHES)
"""Folders of pictures, `<set>/<clip>/<frame>.jpg` below each."""

SOUND = "audio.wav"
_LOOKED_AT = 20  # clips, of which the first may be empty


@dataclass(frozen=True)
class HyperLipsTree:
    """Places in such a tree.

    Attributes:
        root: the folder that holds `imgs`.
    """

    root: Path

    @classmethod
    def near(cls, folder: str | Path) -> HyperLipsTree | None:
        """The tree in a folder, or in the one around it (earlier settings named `imgs` itself); None without any."""
        folder = Path(folder)
        return next((tree for tree in (cls(folder), cls(folder.parent)) if tree.has_faces()), None)

    def has_faces(self) -> bool:
        """Whether pictures of faces are there."""
        folders = self.root.glob(f"{FACES}/*/*/")
        return any(_has_number(folder) for folder, _ in zip(folders, range(_LOOKED_AT), strict=False))

    def folder(self, kind: str, clip_id: str) -> Path:
        """Where the pictures of a clip lie; `kind` is one of `PICTURES`."""
        return self.root / kind / clip_id

    def sound(self, clip_id: str) -> Path:
        """The sound track of a clip."""
        return self.folder(FACES, clip_id) / SOUND

    def video(self, clip_id: str) -> Path:
        """The video that a clip was cut from."""
        return self.root / VIDEOS / f"{clip_id}.mp4"

    def clips(self) -> list[str]:
        """Names `<set>/<clip>` of all clips in any of the folders of pictures, sorted."""
        kinds = [self.root / kind for kind in PICTURES]
        folders = ((kind, folder) for kind in kinds for folder in kind.glob("*/*") if folder.is_dir())
        return sorted({folder.relative_to(kind).as_posix() for kind, folder in folders})

    def files(self, clip_id: str) -> Iterator[Path]:
        """Every file of a clip."""
        yield self.video(clip_id)
        for kind in PICTURES:
            folder = self.folder(kind, clip_id)
            yield from folder.iterdir() if folder.is_dir() else ()

    def contains(self, path: Path) -> bool:
        """Whether a path lies in one of the tree's folders, whatever the case of their names."""
        root, path = (Path(str(place.resolve()).casefold()) for place in (self.root, path))
        own = {name.casefold() for name in FOLDERS}
        return path.is_relative_to(root) and bool(own.intersection(path.relative_to(root).parts[:1]))


def _has_number(folder: Path) -> bool:
    return any(path.stem.isdecimal() and path.suffix.lower() == ".jpg" for path in folder.glob("*.*"))
