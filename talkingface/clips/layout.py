"""Where the videos of a data set lie, and which clips belong to train, val and test: what all layouts share.

A layout turns the folder of a data set into `ClipItem`s and reads its file lists. Without lists, or without one for
validation, clips are held out deterministically from what is left for training; a list that was meant to be there and
is not ends the run. Another layout derives from `Layout` and is added with `register_layout`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from talkingface.clips.held_out import hold_out_usable, warn_once
from talkingface.clips.lists import canonical, leave_out, read_lines, split_suffix
from talkingface.clips.meta import read_meta
from talkingface.clips.prepared import AnyCase, conversion_advice, prepared_ids
from talkingface.errors import DataError

if TYPE_CHECKING:
    from talkingface.config.sections import Config

SPLITS = ("train", "val", "test")
UNSEEN = "unseen"  # a list of its own: people who are in no split


@dataclass(frozen=True)
class ClipItem:
    """Source of one clip.

    Attributes:
        clip_id: path-like name, unique in the data set; also its folder under `preprocessed_root`.
        video: the source video.
        speaker: who speaks.
        audio: sound track when it is a file of its own.
        landmarks: landmark file beside the video, used instead of detection.
    """

    clip_id: str
    video: Path
    speaker: str = ""
    audio: Path | None = None
    landmarks: Path | None = None


def with_landmarks(items: Sequence[ClipItem], folder: str) -> list[ClipItem]:
    """The clips with the files `<clip>.csv` of a folder, where none lies beside the video.

    Args:
        items: the clips.
        folder: `landmarks_root`; empty: none.

    Raises:
        DataError: it is not there.
    """
    root = Path(folder)
    if not folder:
        return list(items)
    if not root.is_dir():
        raise DataError(f"{root}: the folder of landmark files (landmarks_root) does not exist")
    files = [root / f"{item.clip_id}.csv" for item in items]
    known = [item.landmarks or (file if file.is_file() else None) for item, file in zip(items, files, strict=True)]
    return [replace(item, landmarks=file) for item, file in zip(items, known, strict=True)]


class Layout(ABC):
    """Base of the layouts; `config` is the resolved configuration with `data_root` and the three file lists.

    Attributes:
        tree: expected folder structure, shown when the data are missing.
        source: where to get the data.
        held_out: share of clips held out for each list that is missing.
        by_speaker: hold out whole speakers, so that nobody is on two sides; where there are too few, clips, with a
            warning. `unlisted`: only where no training list says which clips there are.
        folders: folders of the layout between data root and clips, which are no part of the clips' names.
        converter: kind of the converter that makes the clips, where they come without videos; a run calls it where
            clips are missing. Empty: clips are prepared from videos.
    """

    name: ClassVar[str] = ""
    tree: ClassVar[str] = ""
    source: ClassVar[str] = ""
    held_out: ClassVar[float] = 0.02
    by_speaker: ClassVar[bool | Literal["unlisted"]] = False
    folders: ClassVar[tuple[str, ...]] = ()
    converter: ClassVar[str] = ""

    @abstractmethod
    def item(self, root: Path, clip_id: str) -> ClipItem:
        """The clip of a list entry; its video need not exist."""

    @abstractmethod
    def scan(self, root: Path) -> list[ClipItem]:
        """Every clip below the data root, sorted by name."""

    def speaker(self, clip_id: str) -> str:
        """Who speaks in a clip, judged by its name: its first folder; empty where that cannot be told."""
        folder, slash, _ = clip_id.partition("/")
        return folder if slash else ""

    def old_data(self, config: Config) -> Mapping[str, Path]:
        """The folders that `converter` makes clips of, by their names there; empty where they are not there."""
        return {}

    def clip_key(self, clip_id: str) -> str:
        """What two names of one clip have in common; a layout whose lists may name a clip otherwise says so here."""
        return clip_id

    def __init__(self) -> None:
        self._files: dict[str, str] = {}  # clip id -> its file below the root, where a list names it with its suffix
        self._prepared: dict[str, AnyCase] = {}
        self._parts: dict[Any, dict[str, list[str]]] = {}

    def parse_line(self, line: str) -> str:
        """What a list line names: its first word (LRS2's test list carries tags behind it)."""
        return line.split()[0]

    def listed_file(self, root: Path, clip_id: str) -> Path | None:
        """The file that a list names for a clip, suffix included; None where it leaves the suffix to the layout."""
        file = self._files.get(clip_id)
        if file is None:
            return None
        return next((path for folder in (*self.folders, "") if os.path.exists(path := root / folder / file)), None)

    def find(self, config: Config) -> list[ClipItem]:
        """Clips of all splits. Listed clips whose video is missing are included; preprocessing reports them.

        Raises:
            DataError: a file list or the data root is missing, or the root holds none of the clips.
        """
        self.check_lists(config)
        root = Path(config.data_root)
        every = (*SPLITS, UNSEEN)
        listed = list(dict.fromkeys(clip_id for split in every for clip_id in self.listed_ids(config, split) or ()))
        if not config.data_root or not root.is_dir():
            raise DataError(self.missing_message(config))
        if listed and self.listed_ids(config, "train") is not None:
            items = [self.item(root, clip_id) for clip_id in listed]
            if not any(os.path.exists(item.video) for item in items):
                raise DataError(f"none of the {len(items)} listed clips is there. {self.missing_message(config)}")
            return with_landmarks(items, config.landmarks_root)
        names = {self.clip_key(clip_id): clip_id for clip_id in listed}
        items = [
            replace(item, clip_id=names.get(self.clip_key(item.clip_id), item.clip_id)) for item in self.scan(root)
        ]
        if not items:
            raise DataError(self.missing_message(config))
        return with_landmarks(items, config.landmarks_root)

    def check_lists(self, config: Config) -> None:
        """See that the file lists are there, or that their absence asks for the automatic split.

        It does when every list that is named lies at the usual place, `<folder>/filelist/<split>.txt` of one folder,
        and none is there. Where there are others, only the validation list may be absent.

        Raises:
            DataError: a list is missing; the message names it.
        """
        names = {split: Path(name) for split in SPLITS if (name := getattr(config, f"{split}_filelist"))}
        missing = {split: path for split, path in names.items() if not path.is_file()}
        usual = {split: path.parts[-2:] == ("filelist", f"{split}.txt") for split, path in names.items()}
        places = [path.parent for path in names.values()]
        automatic = len(missing) == len(names) and len(set(places)) == 1
        # The odd one out first: it is the one that somebody mistyped.
        for split, path in sorted(missing.items(), key=lambda entry: (usual[entry[0]], places.count(entry[1].parent))):
            if usual[split] and (automatic or split == "val"):
                continue
            remedy = f"write it, correct --{split}_filelist, or hold clips out instead with --{split}_filelist=null"
            raise DataError(f"{path}: the {split} file list does not exist; {remedy}")

    def listed_ids(self, config: Config, split: str) -> list[str] | None:
        """Clip ids in the split's list file, None when there is no such file.

        A line that cannot name a clip is left out with a warning.

        Raises:
            DataError: the list cannot be read, or no line names a clip.
        """
        name = getattr(config, f"{split}_filelist", None)
        if not name or not (path := Path(name)).is_file():
            return None
        ids: dict[str, None] = {}
        without: list[tuple[int, str, str]] = []
        prepared = self._prepared.setdefault(config.preprocessed_root, AnyCase(Path(config.preprocessed_root)))
        lines = read_lines(path)
        for number, line in lines:
            try:
                written = canonical(self.parse_line(line), self.folders)
            except ValueError as reason:
                without.append((number, line, str(reason)))
                continue
            named, suffix = split_suffix(written)
            clip_id = prepared.find(named)
            ids[clip_id] = None
            if suffix:
                self._files.setdefault(clip_id, written)
        leave_out(path, without)
        if lines and not ids:
            raise DataError(f"{path}: no line names a clip below the data root; a line is <speaker>/<clip>")
        return list(ids)

    def split_ids(self, config: Config, split: str) -> list[str]:
        """Clip ids of a split: its list file, or a deterministic part of the clips that are left.

        Clips that preprocessing rejected or failed on are left out, as far as they were known when the layout was first
        asked. Which of the others belong to which part does not
        depend on them, so that a stricter filter moves no clip from training to test; only where a part would be left
        with nothing are clips held out of the usable ones instead.

        Raises:
            DataError: the split is not known, or a file list or the data are missing.
        """
        if split not in SPLITS:
            raise DataError(f"split '{split}' is not known; choose {', '.join(SPLITS)}")
        self.check_lists(config)
        listed = {name: self.listed_ids(config, name) for name in SPLITS}
        self._report_shared_speakers(listed)
        if listed[split] is not None and (split != "train" or None not in listed.values()):
            return list(listed[split] or ())
        return list(self._parts_of(config, listed)[split])

    def _parts_of(self, config: Config, listed: dict[str, list[str] | None]) -> dict[str, list[str]]:
        """`_held_out`, found once: every clip is looked at for it, and all three splits are asked for in turn."""
        key = (config.data_root, config.preprocessed_root, *(ids and tuple(ids) for ids in listed.values()))
        if key not in self._parts:
            self._parts[key] = self._held_out(config, listed)
        return self._parts[key]

    def _held_out(self, config: Config, listed: dict[str, list[str] | None]) -> dict[str, list[str]]:
        """All three splits, those without a list cut from the training clips."""
        taken = {clip_id for name in ("val", "test") for clip_id in listed[name] or ()}
        pool = listed["train"] if listed["train"] is not None else self._known_ids(config)
        pool = [clip_id for clip_id in pool if clip_id not in taken]
        if listed["train"] is None and self.by_speaker:
            pool = self._of_other_speakers(pool, taken)
        usable = [clip_id for clip_id in pool if not _given_up(Path(config.preprocessed_root) / clip_id)]
        left_out = f" ({len(pool) - len(usable)} unusable ones left out)" if len(usable) < len(pool) else ""
        missing = [name for name in ("val", "test") if listed[name] is None]
        # With no usable clip at all, the reasons are reported clip by clip.
        speaker = self.speaker if self.by_speaker is True or (self.by_speaker and listed["train"] is None) else None
        parts = hold_out_usable(pool, set(usable or pool), len(missing), self.held_out, speaker)
        pool = usable or pool
        result = {name: list(listed[name] or ()) for name in ("val", "test")} | {"train": parts[0]}
        for name, part in zip(missing, parts[1:], strict=True):
            result[name] = part
            if len(part) == len(pool):
                continue  # too few to hold any out; said already
            file = getattr(config, f"{name}_filelist")
            where = f"no {name} list at {file}" if file else f"no {name} list is named ({name}_filelist)"
            warn_once(f"{where}: holding out {len(part)} of {len(pool)} clips{left_out}")
        return result

    def _of_other_speakers(self, pool: list[str], taken: set[str]) -> list[str]:
        """Clips of `pool` whose speaker is in none of the `taken` ones; all of them where nobody else is left."""
        known = {self.speaker(clip_id) for clip_id in taken} - {""}
        others = [clip_id for clip_id in pool if self.speaker(clip_id) not in known]
        if pool and not others:
            warn_once("every speaker stands in the lists: training takes other clips of the same people")
        return others or pool

    def _report_shared_speakers(self, listed: dict[str, list[str] | None]) -> None:
        """Say which lists share people, where whole speakers should be held out: published lists may do so."""
        if not self.by_speaker:
            return
        trained = {self.speaker(clip_id) for clip_id in listed["train"] or ()} - {""}
        for name in ("val", "test"):
            people = {self.speaker(clip_id) for clip_id in listed[name] or ()} - {""}
            if shared := people & trained:
                warn_once(
                    f"{len(shared)} of {len(people)} speakers of the {name} list are in the train list, too: figures"
                    " on it do not tell how people are served that the model has not seen"
                )

    def known_ids(self, config: Config) -> list[str]:
        """Clip ids of all splits together, usable or not."""
        self.check_lists(config)
        listed = [clip_id for split in SPLITS for clip_id in self.listed_ids(config, split) or ()]
        if self.listed_ids(config, "train") is None:
            listed += self._known_ids(config)
        return list(dict.fromkeys(listed))

    def _known_ids(self, config: Config) -> list[str]:
        """Clips on disk: from the data root, or from the prepared folders when the videos are gone."""
        try:
            return [item.clip_id for item in self.find(config)]
        except DataError:
            prepared = prepared_ids(config.preprocessed_root)
            if not prepared:
                raise
            return prepared

    def missing_message(self, config: Config) -> str:
        """What to do when the data are not there."""
        tree = self.tree.format(root=config.data_root or f"dataset/{self.name}/data")
        told = f"no videos of data set '{self.name}' found. Expected: {tree}. {self.source} To try now: --dataset=demo"
        advice = conversion_advice(config.preprocessed_root)
        return f"{advice}. Otherwise: {told}" if advice else told


LAYOUTS: dict[str, type[Layout]] = {}


def register_layout(name: str) -> Callable[[type[Layout]], type[Layout]]:
    """Class decorator: makes a layout known under `layout: name`."""

    def register(layout: type[Layout]) -> type[Layout]:
        layout.name = name
        LAYOUTS[name] = layout
        return layout

    return register


def _given_up(folder: Path) -> bool:
    """Whether preprocessing found a clip unusable."""
    return read_meta(folder).get("status") in ("rejected", "failed")
