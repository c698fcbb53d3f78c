"""`convert-data --kind=makeittalk`: clips of dumps, which hold sound and landmarks as training hears and sees them.

Such a clip has no video. Its rows are at 62.5 per second, and so is the clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talkingface import media
from talkingface.clips.dump_tree import READ_BY_OTHERS, Dump, DumpTree, TextClip
from talkingface.clips.folder import default_file
from talkingface.errors import DataError
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.data import HEAD
from talkingface.models.makeittalk.dumps.about import AboutDumps, about_dumps
from talkingface.models.makeittalk.dumps.reading import DumpedClip, dumped_clips, looked_through, plain_name
from talkingface.models.makeittalk.dumps.repairs import as_faces, centred, fit_faces, moving_faces
from talkingface.models.makeittalk.dumps.texts import read_track
from talkingface.models.makeittalk.motion import ROWS_PER_SECOND
from talkingface.models.makeittalk.networks.pieces import WINDOW
from talkingface.preprocess.converters.base import (
    REPAIRS,
    Converter,
    ConvertOptions,
    copy_audio,
    record,
    register_converter,
)
from talkingface.preprocess.step import Rejected

FEWEST = WINDOW + 10
"""Rows; clips of fewer were never used."""

_FARTHEST = 1000  # eye distances by which a point, or the head, may move
_UNEQUAL = 5  # rows by which sound and landmarks may differ: both are then cut to the shorter
_VERSION = 1


@register_converter("makeittalk")
class DumpConverter(Converter):
    """Dumps of a folder or of `dump/` in it, else its text trees.

    Args:
        roots: the folder, as `root`.
        options: `prefix` chooses a family of dumps where there are several.

    Raises:
        DataError: there is nothing of the kind, or no such family.
    """

    main = "root"
    holds = "dumps or raw_fl3d"

    def __init__(self, roots: Mapping[str, Path], options: ConvertOptions) -> None:
        super().__init__(roots, options)
        self.tree = DumpTree(roots[self.main])
        self.prefix = _family(self.tree, options.prefix)
        self.canonical = canonical_face()
        self.about = about_dumps(self.tree.about(self.prefix)) if self.prefix else None
        self._texts: dict[str, TextClip] = {}
        self._clips: Iterator[tuple[str, Dump, DumpedClip | DataError]] = iter(())

    def find(self) -> list[str]:
        """All clips, in the order of their files: dumps are read from front to back."""
        if not self.prefix:
            self._texts = {f"{clip.number:05d}_{plain_name(clip.name)}": clip for clip in self.tree.texts()}
            return list(self._texts)
        self._clips = self._dumped()
        return [clip_id for dump in self.tree.dumps(self.prefix) for clip_id in looked_through(dump)]

    def place(self, out: str | Path | None) -> Path:
        """Anywhere but in the old tree, which is left as it is."""
        place = super().place(out)
        if place.resolve().is_relative_to(self.tree.root.resolve()):
            raise DataError(f"{place}: lies in the old tree, which is left as it is; give another --out")
        return place

    def state(self, clip_id: str) -> str:
        """Names, sizes and times of its files, of all files where a dump is one of many clips."""
        if not self.prefix:
            return self._state_of(self._texts[clip_id][2:])
        return self.whole_state()

    def whole_state(self) -> str:
        """See `Converter.whole_state`."""
        return self._state_of(self._files())

    def _state_of(self, files: Iterable[Path]) -> str:
        digest = hashlib.sha256(f"{_VERSION} {self.prefix}".encode())
        for path in sorted(files):
            if path.is_file():
                stat = path.stat()
                digest.update(f"\n{path.name} {stat.st_size} {stat.st_mtime_ns}".encode(errors="surrogateescape"))
        return digest.hexdigest()[:20]

    @property
    def advice(self) -> str:
        """The data set that such clips are."""
        return "--dataset=audio2landmark_content"

    def convert(self, clip_id: str, target: Path) -> dict[str, Any]:
        """Write rows of sound and registered faces; of text trees sound and landmarks, of which training makes them."""
        if not self.prefix:
            return self._convert_text(self._texts[clip_id], target)
        found = next(((dump, clip) for name, dump, clip in self._clips if name == clip_id), None)
        if found is None:
            raise DataError("its dump was changed while it was read, or is damaged before this clip")
        dump, clip = found
        if isinstance(clip, DataError):
            raise Rejected(str(clip))
        return self._convert_dumped(dump, clip, target)

    def _files(self) -> Iterator[Path]:
        if not self.prefix:
            for clip in self.tree.texts():
                yield from (clip.points, clip.sound)
            return
        for dump in self.tree.dumps(self.prefix):
            yield from (dump.sound, dump.faces, dump.gaze)
        yield from (self.tree.about(self.prefix), self.tree.vectors)

    def _dumped(self) -> Iterator[tuple[str, Dump, DumpedClip | DataError]]:
        for dump in self.tree.dumps(self.prefix):
            for clip_id, clip in dumped_clips(dump, self.tree.vectors):
                yield clip_id, dump, clip

    def _convert_dumped(self, dump: Dump, clip: DumpedClip, target: Path) -> dict[str, Any]:
        rows, repairs = _common_rows(dump, clip)
        assert (about := self.about) is not None
        faces, told, moves = self._faces(clip, rows, about)
        name = about.faces_artefact
        np.save(target / default_file(name), faces)
        timed = {"rows_per_second": ROWS_PER_SECOND, "first_row": 0.0}
        steps = _sound_record(about, clip.sound[:rows], clip.vector, target)
        steps[name] = record([default_file(name)]) | {"facts": {**timed, HEAD: moves, REPAIRS: [*repairs, *told]}}
        sound = self.tree.sound(clip.names.number, clip.names.name)
        if sound.is_file():
            steps["audio"] = copy_audio(sound, target)[0]
        return {"frames": rows, "fps": ROWS_PER_SECOND, "speaker": clip.names.name, "steps": steps}

    def _faces(self, clip: DumpedClip, rows: int, about: AboutDumps) -> tuple[np.ndarray, list[str], bool]:
        """(T, 2, 68, 3) float32 registered and moving faces, repairs, and whether they move."""
        # Those of ours are fit: nothing is touched.
        ours = bool(about.canonical)
        still, repairs = (as_faces(clip.faces[:rows]), []) if ours else fit_faces(clip.faces[:rows], self.canonical)
        moving, moves = still, False
        if clip.head is not None:
            try:
                found = moving_faces(clip.head)
                if moves := len(found) >= rows:
                    moving = found[:rows] if ours else centred(found[:rows], self.canonical)
            except DataError as error:
                moving, moves = still, False
                repairs = [*repairs, f"motion of the head left out: {error}"]
        moving = np.where(np.isfinite(still), moving, np.nan)
        faces = np.stack([still, moving], axis=1)
        if np.nanmax(np.abs(faces)) > _FARTHEST:
            raise Rejected(f"points that lie more than {_FARTHEST} eye distances away")
        return faces.astype(np.float32), repairs, moves

    def _convert_text(self, clip: TextClip, target: Path) -> dict[str, Any]:
        if not clip.sound.is_file():
            raise Rejected(f"no sound: {clip.sound.name} is not there")
        steps = {"audio": copy_audio(clip.sound, target)[0]}
        samples = len(media.read_audio(target / default_file("audio")))
        track, repairs = read_track(clip, self.canonical, samples)
        if len(track) * ROWS_PER_SECOND / media.FPS < FEWEST:
            raise Rejected(f"{len(track)} frames; clips of fewer than {FEWEST} rows of sound are of no use", len(track))
        track.save(target / default_file("landmarks"))
        steps["landmarks"] = record([default_file("landmarks")]) | {"facts": {REPAIRS: repairs}}
        return {"frames": len(track), "speaker": plain_name(clip.name), "steps": steps}


def _family(tree: DumpTree, wanted: str) -> str:
    """The prefix of the dumps to read; empty: there are text trees instead.

    Raises:
        DataError: there is nothing, or nothing of that name.
    """
    known = tree.prefixes()
    if not known and not wanted and tree.has_texts:
        return ""
    if not known:
        raise DataError(f"{tree.root}: no <prefix>_train_au.pickle found here or in dump/, nor raw_fl3d")
    if wanted and wanted not in known:
        there = ", ".join(known)
        raise DataError(f"{tree.folder}: no dumps called '{wanted}_...'; there are {there}; --prefix names one of them")
    return wanted or (READ_BY_OTHERS if READ_BY_OTHERS in known else known[0])


def _common_rows(dump: Dump, clip: DumpedClip) -> tuple[int, list[str]]:
    """Rows that a clip has in both files, and what was cut off.

    Raises:
        Rejected: the files disagree on the clip, or it is too short, or its sound is none.
    """
    if clip.face_names is None:
        raise Rejected(f"{dump.faces.name} ends before this clip: it has fewer clips than {dump.sound.name}")
    if clip.face_names != clip.names:
        theirs = "{} '{}'".format(*clip.face_names)
        raise Rejected(f"clip {theirs} stands at this place in {dump.faces.name}: the files are not of one order")
    heard, seen = len(clip.sound), len(as_faces(clip.faces))
    if abs(heard - seen) > _UNEQUAL:
        raise Rejected(f"unequal lengths: {heard} rows of sound, {seen} of landmarks", seen, heard)
    rows = min(heard, seen)
    if rows < FEWEST:
        raise Rejected(f"{rows} rows; clips of fewer than {FEWEST} are of no use", rows, FEWEST)
    with np.errstate(over="ignore"):
        if not np.isfinite(clip.sound[:rows].astype(np.float32)).all():
            raise Rejected("rows of sound that are no numbers")
    return rows, [f"cut by {abs(heard - seen)} rows to the shorter of sound and landmarks"] if heard != seen else []


def _sound_record(about: AboutDumps, rows: np.ndarray, vector: np.ndarray | None, target: Path) -> dict[str, Any]:
    """Write the rows of sound and the speaker; their record by the name of the artefact."""
    choice = about.front_end if vector is not None else about.front_end.model_copy(update={"speaker": ""})
    files = [default_file(choice.artefact)]
    np.save(target / files[0], rows.astype(np.float32))
    if vector is not None:
        files.append(f"{choice.artefact}.vector.npy")
        np.save(target / files[1], vector)
    known = choice.model_dump() if choice.made_by else choice.model_dump(exclude={"made_by"})
    facts = {"rows_per_second": ROWS_PER_SECOND, "first_row": 0.0}
    return {choice.artefact: record(files, **known) | {"facts": facts}}
