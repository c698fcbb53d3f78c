"""The layouts that come along; another one derives from `Layout` and is added with `register_layout`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from talkingface.clips import dump_layout  # registers itself
from talkingface.clips.held_out import warn_once
from talkingface.clips.layout import LAYOUTS, SPLITS, UNSEEN, ClipItem, Layout, register_layout
from talkingface.clips.lists import VIDEO_SUFFIXES
from talkingface.errors import ConfigError
from talkingface.faces.landmark_file import landmarks_beside

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.config.sections import Config

__all__ = [
    "AUDIO_SUFFIXES",
    "LAYOUTS",
    "SPLITS",
    "UNSEEN",
    "VIDEO_SUFFIXES",
    "ClipItem",
    "Layout",
    "dump_layout",
    "make_layout",
    "of_split",
    "printable",
    "register_layout",
    "sound_beside",
]

AUDIO_SUFFIXES = (".wav", ".m4a", ".flac", ".mp3", ".aac", ".ogg", ".opus")


def make_layout(config: Config) -> Layout:
    """The layout that the configuration names."""
    if config.layout not in LAYOUTS:
        raise ConfigError(f"layout: '{config.layout}' is not known; choose {', '.join(LAYOUTS)}")
    return LAYOUTS[config.layout]()


def of_split(config: Config, split: str, clips: Sequence[ClipFolder]) -> list[ClipFolder]:
    """Those of the clips that stand in a list of the data set, `train` or `unseen` say.

    The clips of a run know that (`workflow.data.prepared_clips`). For others the lists are read, which with many clips
    takes a while: every clip may have to be looked at.

    Raises:
        DataError: a file list or the data are missing.
    """
    if all(clip.split for clip in clips):
        return [clip for clip in clips if clip.split == split]
    layout = make_layout(config)
    ids = set(layout.split_ids(config, split) if split in SPLITS else layout.listed_ids(config, split) or ())
    return [clip for clip in clips if clip.clip_id in ids]


class _SpeakerClip(Layout):
    """Layouts whose ids are `<speaker>/<clip>`."""

    folders: ClassVar[tuple[str, ...]] = ("main",)

    def item(self, root: Path, clip_id: str) -> ClipItem:
        """The clip of a list entry, in the first of `folders` that has it, else below the root itself."""
        candidates = [root / folder / f"{clip_id}.mp4" for folder in (*self.folders, "")]
        return _clip_item(self, clip_id, self.listed_file(root, clip_id) or _first_there(candidates))

    def scan(self, root: Path) -> list[ClipItem]:
        """All `<speaker>/<clip>.mp4`."""
        base = next((root / folder for folder in self.folders if (root / folder).is_dir()), root)
        videos = sorted(path for path in base.glob("*/*") if path.suffix.lower() in VIDEO_SUFFIXES)
        return [_clip_item(self, _name(path, base), path) for path in videos]


@register_layout("lrs2")
class LRS2Layout(_SpeakerClip):
    """LRS2: `main/<speaker>/<clip>.mp4`; what is called the speaker is the film that the clips were cut from."""

    by_speaker = "unlisted"
    tree = "{root}/main/<speaker>/<clip>.mp4 and its lists train.txt, val.txt, test.txt in the filelist folder"
    source = (
        "Apply for LRS2 at https://www.robots.ox.ac.uk/~vgg/data/lip_reading/lrs2.html (signed agreement with the BBC)."
    )


@register_layout("demo")
class DemoLayout(_SpeakerClip):
    """The synthetic corpus, in LRS2's layout."""

    tree = "{root}/main/<identity>/<clip>.mp4"
    source = "Make it with `python run_talkingface.py demo-data`."


@register_layout("mead")
class MEADLayout(Layout):
    """MEAD: `<id>/video/<view>/<emotion>/<level>/<nnn>.mp4`, front view; ids are `<id>/<view>_<emotion>_<level>_<nnn>`.

    Clips that are cut already are accepted too: `<set>/<clip>.mp4`, or `<clip>.mp4` alone, where the clip begins with
    who speaks. HyperLips' lists name them so, `mead/M005-025`, whatever the case of the folder on disk.
    """

    tree = (
        "{root}/<id>/video/front/<emotion>/<level>/<nnn>.mp4 and {root}/<id>/audio/<emotion>/<level>/<nnn>.m4a "
        "(unpack each person's video.tar and audio.tar), or {root}/<set>/<clip>.mp4, or {root}/<clip>.mp4"
    )
    source = "Get MEAD at https://wywu.github.io/projects/MEAD/MEAD.html."
    held_out = 0.05
    by_speaker = True
    views: ClassVar[tuple[str, ...]] = ("front",)

    # An actor (M or W and three digits) that a clip's name begins with: M005-025, W011_front_angry_level_2_001.
    _actor: ClassVar[re.Pattern[str]] = re.compile(r"([MW]\d{3})(?![0-9A-Za-z])", re.IGNORECASE)

    def __init__(self) -> None:
        super().__init__()
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def speaker(self, clip_id: str) -> str:
        """The actor: what the name of a cut clip begins with, else the first folder, `<id>` of MEAD's own tree."""
        if found := self._actor.match(clip_id.rpartition("/")[2]):
            return found[1].upper()
        return super().speaker(clip_id)

    def clip_key(self, clip_id: str) -> str:
        """The name of a cut clip without its set folder, which lists write in any case or leave out."""
        clip = clip_id.rpartition("/")[2]
        return clip if self._actor.match(clip) else clip_id

    def item(self, root: Path, clip_id: str) -> ClipItem:
        """The clip of a list entry."""
        cut = next((path for path in self._cut_places(root, clip_id) if os.path.exists(path)), None)
        person, _, rest = clip_id.partition("/")
        view, _, rest = rest.partition("_")
        emotion, _, rest = rest.partition("_")
        level, _, number = rest.rpartition("_")
        in_tree = all((person, view, emotion, level, number)) and "/" not in f"{view}{emotion}{level}{number}"
        if in_tree and cut is None:
            below = Path(view, emotion, level, f"{number}.mp4")
            places = [root / person / folder / below for folder in ("video", f"{person}/video", "video/video")]
            return self._from_tree(_first_there(places), root)
        # A name of neither form is a clip that is not there, which preprocessing reports like any other.
        return _clip_item(self, clip_id, cut or root / f"{clip_id}.mp4")

    def scan(self, root: Path) -> list[ClipItem]:
        """All clips of the chosen views, or the clips cut already when there is no such tree."""
        # Archives that were unpacked into a folder of their own name lie a level deeper.
        items: dict[str, ClipItem] = {}
        for depth in ("*/video", "*/*/video"):
            for path in sorted(path for view in self.views for path in root.glob(f"{depth}/{view}/*/*/*.mp4")):
                item = self._from_tree(path, root)
                items.setdefault(item.clip_id, item)
        if items:
            return list(items.values())
        cut = sorted([*root.glob("*.mp4"), *root.glob("*/*.mp4")])
        return [_clip_item(self, _name(path, root), path) for path in cut]

    def _cut_places(self, root: Path, clip_id: str) -> Iterator[Path]:
        """Where the file of a cut clip may lie: as named, in a set folder of another case, or in no folder."""
        yield root / f"{clip_id}.mp4"
        folder, slash, clip = clip_id.partition("/")
        if slash:
            yield from (root / name / f"{clip}.mp4" for name in self._set_folders(root).get(folder.lower(), ()))
            yield root / f"{clip}.mp4"

    def _set_folders(self, root: Path) -> dict[str, list[str]]:
        """Folders below the data root by their name in lower case; read once, for lists name many clips of each."""
        if root not in self._folders:
            names: dict[str, list[str]] = {}
            for path in sorted(root.iterdir()) if root.is_dir() else ():
                if path.is_dir():
                    names.setdefault(path.name.lower(), []).append(path.name)
            self._folders[root] = names
        return self._folders[root]

    def _from_tree(self, video: Path, root: Path) -> ClipItem:
        person, *_, view, emotion, level, _ = video.relative_to(root).parts
        below = Path(emotion, level, video.with_suffix(".m4a").name)
        sound = _first_there([root / person / folder / below for folder in ("audio", f"{person}/audio", "audio/audio")])
        clip_id = printable(f"{person}/{view}_{emotion}_{level}_{video.stem}")
        sound = sound if os.path.exists(sound) else sound_beside(video)
        return ClipItem(clip_id, video, self.speaker(clip_id), sound, landmarks_beside(video))


@register_layout("folder")
class FolderLayout(Layout):
    """Any tree of videos; ids are the paths without suffix, the speaker is the first folder."""

    tree = "{root}/**/<clip>.mp4 (or .mov, .mkv, .avi, .webm ...)"
    source = "Put talking-face videos there, or give --data_root=FOLDER."
    held_out = 0.05

    def item(self, root: Path, clip_id: str) -> ClipItem:
        """The clip of a list entry."""
        candidates = [root / f"{clip_id}{suffix}" for suffix in VIDEO_SUFFIXES]
        return _clip_item(self, clip_id, self.listed_file(root, clip_id) or _first_there(candidates))

    def scan(self, root: Path) -> list[ClipItem]:
        """All videos of the tree."""
        items: dict[str, ClipItem] = {}
        for path in sorted(_files_below(root)):
            if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."):
                if not path.is_file():
                    warn_once(f"{path}: left out, a link to a file that is not there")
                    continue
                item = _clip_item(self, _name(path, root), path)
                if item.clip_id in items:
                    warn_once(f"{path}: left out, {items[item.clip_id].video} has the same name")
                items.setdefault(item.clip_id, item)
        return list(items.values())

    def parse_line(self, line: str) -> str:
        """The line up to the first tab, since names of people's own files contain spaces."""
        return line.partition("\t")[0].strip()


def _files_below(root: Path) -> Iterator[Path]:
    """All files of a tree, also behind links to folders; a folder that links lead to again is entered once."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        # In the order of names, so that it does not depend on the file system which of several ways is taken.
        folders[:] = sorted(name for name in folders if _new(os.path.join(folder, name), seen))
        yield from (Path(folder) / name for name in files)


def _new(folder: str, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    if real in seen:
        return False
    seen.add(real)
    return True


def _clip_item(layout: Layout, clip_id: str, video: Path) -> ClipItem:
    return ClipItem(clip_id, video, layout.speaker(clip_id), sound_beside(video), landmarks_beside(video))


def _name(video: Path, base: Path) -> str:
    """A clip's id: the path of its video below `base`, without suffix."""
    return printable(video.relative_to(base).with_suffix("").as_posix())


def _first_there(candidates: list[Path]) -> Path:
    return next((path for path in candidates if os.path.exists(path)), candidates[0])


def printable(name: str) -> str:
    """A file name as text that can be written anywhere: bytes that are no UTF-8 become `%E9`."""
    return "".join(f"%{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char for char in name)


def sound_beside(video: Path) -> Path | None:
    """A sound file of the same name next to the video, when there is one."""
    places = (video.with_suffix(suffix) for suffix in AUDIO_SUFFIXES)
    return next((path for path in places if os.path.exists(path)), None)
