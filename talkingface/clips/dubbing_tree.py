"""The folders that DINet's and LawDNet's own data processing leaves, `asserts/training_data` as published.

Crops lie in `<crops>/<video>/<clip>/<frame>.jpg`, nine frames to a clip, clips and frames numbered with six digits.
Folders are known by the ends of their names, which options of the old scripts could change in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VIDEOS = "split_video_25fps"
CROPS, SOUND, LANDMARKS = "crop_face", "audio", "landmark_openface"
FEATURES = {
    "deepspeech": ("deepspeech", "_deepspeech.txt"),
    "deepspeech2": ("deepspeech_2", "_deepspeech_dp2.txt"),
}
"""Folder and end of the file's name of each recogniser's rows."""

_PLACES = (".", "asserts/training_data", "training_data", "asserts")


@dataclass(frozen=True)
class DubbingTree:
    """Places in such a tree.

    Attributes:
        root: what paths in its JSON begin in.
        base: the folder of all others.
    """

    root: Path
    base: Path

    @classmethod
    def near(cls, root: str | Path) -> DubbingTree | None:
        """The tree in a folder, or in the usual place below it; None without crops or a list."""
        root = Path(root)
        trees = (cls(root, root / place) for place in _PLACES)
        return next((tree for tree in trees if tree.folder(CROPS) or any(tree.base.glob("training_json*.json"))), None)

    def folder(self, end: str) -> Path | None:
        """The folder whose name ends so, None where there is none."""
        found = (path for path in sorted(self.base.glob(f"*{end}")) if path.is_dir())
        return next(found, None)

    def clips(self, video: str) -> dict[int, Path]:
        """Folders of a video's clips, by number."""
        crops = self.folder(CROPS)
        places = (crops / video).iterdir() if crops and (crops / video).is_dir() else ()
        return {int(path.name): path for path in sorted(places) if path.name.isdecimal() and path.is_dir()}

    def videos(self) -> list[str]:
        """Names of the videos that have crops, sorted."""
        crops = self.folder(CROPS)
        return sorted(path.name for path in crops.iterdir() if path.is_dir()) if crops else []

    def video(self, name: str) -> Path | None:
        """The video itself, where it is there."""
        return _file(self.base / VIDEOS, f"{name}.mp4")

    def sound(self, name: str) -> Path | None:
        """Its sound track."""
        return _file(self.folder(SOUND), f"{name}.wav")

    def landmarks(self, name: str) -> Path | None:
        """What OpenFace found in it."""
        return _file(self.folder(LANDMARKS), f"{name}.csv")

    def features(self, name: str, recogniser: str) -> Path | None:
        """The rows of a recogniser."""
        folder, end = FEATURES[recogniser]
        return _file(self.folder(folder), f"{name}{end}")

    def lists(self) -> list[Path]:
        """JSON files beside the folders."""
        return sorted(self.base.glob("*.json"))

    def landmark_files(self) -> list[Path]:
        """`landmark_crop_dic.npy`, beside the folders or among the crops."""
        crops = self.folder(CROPS)
        places = [self.base, *([crops] if crops else [])]
        return sorted(path for place in places for path in place.glob("landmark_crop_dic*.npy"))

    def files(self, name: str) -> list[Path]:
        """Every file of a video, and those of all videos."""
        own = [self.video(name), self.sound(name), self.landmarks(name)]
        own += [self.features(name, recogniser) for recogniser in FEATURES]
        pictures = [path for folder in self.clips(name).values() for path in folder.iterdir()]
        return sorted(path for path in (*own, *self.lists(), *self.landmark_files(), *pictures) if path is not None)

    def contains(self, path: Path) -> bool:
        """Whether a path lies in the tree."""
        return path.resolve().is_relative_to(self.base.resolve())


def _file(folder: Path | None, name: str) -> Path | None:
    path = folder / name if folder else None
    return path if path is not None and path.is_file() else None
