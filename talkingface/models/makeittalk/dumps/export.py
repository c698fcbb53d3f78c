"""Prepared clips written as dumps, for the published code and for ours; the same numbers come back."""

from __future__ import annotations

import json
import logging
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from talkingface.clips.dump_tree import READ_BY_OTHERS, DumpTree
from talkingface.clips.folder import ClipFolder
from talkingface.clips.held_out import hold_out
from talkingface.clips.lists import read_lines
from talkingface.clips.prepared import prepared_ids
from talkingface.errors import DataError, OutputError, TalkingFaceError
from talkingface.faces.rigid import register
from talkingface.files import atomic_output, writable_folder, writing
from talkingface.media import SAMPLE_RATE, write_wav
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.config import CANONICALS, MakeItTalkConfig, faces_artefact
from talkingface.models.makeittalk.data import HEAD, Motion, read_motion
from talkingface.models.makeittalk.dumps.about import AboutDumps
from talkingface.models.makeittalk.dumps.converter import FEWEST
from talkingface.models.makeittalk.dumps.reading import plain_name
from talkingface.models.makeittalk.motion import ROWS_PER_SECOND
from talkingface.preprocess.converters.base import register_exporter
from talkingface.preprocess.outcome import FAILED, OK, REJECTED, Outcome
from talkingface.preprocess.report import Report
from talkingface.preprocess.step import Rejected
from talkingface.sound.choice import ARTEFACT, recorded_choice
from talkingface.sound.voice_mel import BANDS

log = logging.getLogger("talkingface")
_HELD_OUT = 0.1  # share of the clips that become the test dump where no list says which
_PROTOCOL = 3  # that all versions of Python 3 read


class _Chosen(NamedTuple):
    """A clip that is exported.

    Attributes:
        clip: the clip.
        number: of it in the dumps.
        config: settings that name its artefacts.
    """

    clip: ClipFolder
    number: int
    config: MakeItTalkConfig

    @property
    def name(self) -> str:
        """As the dump has it."""
        return plain_name(self.clip.clip_id.replace("/", "_"))

    def motion(self) -> tuple[Motion, slice]:
        """All of its rows, and the longest run of those with a face."""
        motion = read_motion(self.clip, self.config)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], motion.valid, [False]]).astype(np.int8)))
        first, stop = max(edges.reshape(-1, 2), key=lambda run: run[1] - run[0], default=(0, 0))
        return motion, slice(int(first), int(stop))


@register_exporter("makeittalk")
def export_dumps(prepared: Path, out: Path, progress: bool = True) -> Report:
    """Write `dump/` with sound, landmarks and motion of heads, and `raw_wav/`.

    Clips of the test list become the test dump; the list lies in `filelist` beside the prepared clips. Where there is
    none, some clips are held out.

    Args:
        prepared: the `preprocessed_root`.
        out: folder for both; it must hold no dumps yet.
        progress: show a progress bar.

    Returns:
        One outcome per clip.

    Raises:
        DataError: there are no clips, or dumps lie in `out` already.
        OutputError: it cannot be written.
    """
    ids = prepared_ids(prepared)
    if not ids:
        raise DataError(f"{prepared}: no prepared clips found here")
    tree = DumpTree(out)
    if tree.has_dumps:
        raise DataError(f"{tree.folder}: holds dumps already, which are left as they are; name another folder")
    folder = writable_folder(Path(out) / "dump")
    parts = _parts(prepared, ids)
    started, report = time.perf_counter(), Report(worked=sum(map(len, parts.values())))
    if lacking := len(ids) - report.worked:
        log.info("%d clips stand neither in the training nor in the test list, and are left out", lacking)
    about, chosen = _choose(prepared, parts, report, progress)
    if about is not None:
        _write(folder, about, chosen)
    report.seconds = time.perf_counter() - started
    return report


def _parts(prepared: Path, ids: list[str]) -> dict[str, list[str]]:
    """Which clips go into which dump."""
    lists = Path(prepared).parent / "filelist"
    if not (lists / "test.txt").is_file():
        train, test = hold_out(ids, 1, _HELD_OUT)
        return {"train": train, "test": test}
    named = {
        split: [line.split()[0] for _, line in read_lines(lists / f"{split}.txt")]
        for split in ("train", "val", "test")
        if (lists / f"{split}.txt").is_file()
    }
    test = [clip_id for clip_id in named["test"] if clip_id in ids]
    rest = [*named.get("train", ()), *named.get("val", ())] if "train" in named else ids
    return {"train": [clip_id for clip_id in rest if clip_id in ids and clip_id not in test], "test": test}


def _choose(
    prepared: Path, parts: Mapping[str, list[str]], report: Report, progress: bool
) -> tuple[AboutDumps | None, dict[str, list[_Chosen]]]:
    """The clips of all parts that can be exported, and what is noted beside them; None where there are none."""
    about: AboutDumps | None = None
    chosen: dict[str, list[_Chosen]] = {}
    number = 0
    for status, ids in parts.items():
        for clip_id in tqdm(ids, desc=f"export {status}", unit="clip", disable=not progress):
            clip = ClipFolder(Path(prepared) / clip_id, clip_id=clip_id)
            outcome, told = _look(clip, about)
            if told is not None:
                about = told
                config = MakeItTalkConfig(sound=told.front_end, canonical=told.canonical or "own")
                chosen.setdefault(status, []).append(_Chosen(clip, number, config))
                number += 1
            report.add(outcome)
    return about, chosen


def _look(clip: ClipFolder, known: AboutDumps | None) -> tuple[Outcome, AboutDumps | None]:
    """Whether a clip can be exported beside others, and what it is made with."""
    try:
        if clip.status != "ok":
            raise Rejected(f"{clip.status or 'not prepared'}: {clip.reason}")
        about = _made_with(clip)
        if known is not None and about != known:
            raise Rejected("its sound or faces are made otherwise than those of the clips before it")
        config = MakeItTalkConfig(sound=about.front_end, canonical=about.canonical or "own")
        motion, run = _Chosen(clip, 0, config).motion()
        if run.stop - run.start < FEWEST:
            raise Rejected(f"{run.stop - run.start} rows in a row have a face, fewer than {FEWEST}")
    except Rejected as reason:
        return Outcome(clip.clip_id, REJECTED, str(reason)), None
    except OutputError:
        raise
    except TalkingFaceError as error:
        return Outcome(clip.clip_id, FAILED, str(error)), None
    cut = len(motion.valid) - (run.stop - run.start)
    facts = {"export": {"repairs": [f"{cut} rows beside the longest run with a face left out"]}} if cut else {}
    return Outcome(clip.clip_id, OK, frames=run.stop - run.start, facts=facts), about


def _made_with(clip: ClipFolder) -> AboutDumps:
    """Front end and canonical face of a clip.

    Raises:
        Rejected: it lacks sound of 80 values 62.5 times per second, or registered faces.
    """
    names = [name for name in clip.meta.get("steps", {}) if name.startswith(ARTEFACT) and clip.has(name)]
    fitting = [name for name in names if clip.number(name, "rows_per_second", 0) == ROWS_PER_SECOND]
    heard = next((name for name in fitting if clip.features(name).values.shape[1] == BANDS), None)
    canonical = next((kind for kind in CANONICALS if clip.has(faces_artefact(kind))), None)
    if heard is None or canonical is None:
        lacking = "faces68" if heard else f"rows of sound, {BANDS} values {ROWS_PER_SECOND:g} times a second"
        raise Rejected(f"has no {lacking}")
    return AboutDumps(front_end=recorded_choice(heard, clip.record(heard)), canonical=canonical)


def _write(folder: Path, about: AboutDumps, parts: Mapping[str, Sequence[_Chosen]]) -> None:
    """Write the files of all parts; each is written clip by clip, and none has its name before all are written.

    They get their names in the reverse of the order in which they are begun here: sounds of clips, then the note,
    without which dumps would be taken for published ones, and at last the dumps' own sound, by which they are found.

    Raises:
        OutputError: one of them cannot be written.
    """
    with ExitStack() as named:

        def begun(path: Path) -> Path:
            return named.enter_context(atomic_output(path))

        for kind, write in (("au", _write_rows), ("fl", _write_faces), ("gaze", _write_gaze)):
            for status, chosen in parts.items():
                if kind == "gaze" and not all(map(_moves, chosen)):
                    continue
                path = folder / f"{READ_BY_OTHERS}_{status}_{kind}.pickle"
                with writing(path), begun(path).open("wb") as file:
                    write(file, chosen)
        note = DumpTree(folder).about(READ_BY_OTHERS)
        with writing(note):
            begun(note).write_text(json.dumps(about.model_dump(), indent=1) + "\n", encoding="utf-8")
        for each in (each for chosen in parts.values() for each in chosen if each.clip.has("audio")):
            path = DumpTree(folder.parent).sound(each.number, each.name)
            write_wav(begun(path), _sound(each))


def _moves(chosen: _Chosen) -> bool:
    """Whether it is known how the head of a clip moves."""
    return bool(chosen.clip.facts(chosen.config.faces_artefact).get(HEAD, True))


def _write_rows(file: BinaryIO, chosen: Sequence[_Chosen]) -> None:
    _write_list(file, map(_sound_item, chosen))
    file.write(pickle.STOP)


def _write_faces(file: BinaryIO, chosen: Sequence[_Chosen]) -> None:
    _write_list(file, map(_faces_item, chosen))
    file.write(pickle.STOP)


def _sound_item(chosen: _Chosen) -> tuple[Any, ...]:
    motion, run = chosen.motion()
    names: tuple[Any, ...] = (chosen.number, f"{chosen.name}.mp4")
    return motion.sound[run], names if motion.speaker.size < 2 else (*names, motion.speaker)


def _faces_item(chosen: _Chosen) -> tuple[Any, ...]:
    motion, run = chosen.motion()
    return motion.still[run], (chosen.number, f"{chosen.name}.mp4")


def _write_gaze(file: BinaryIO, chosen: Sequence[_Chosen]) -> None:
    """A mapping of three lists: turns and shifts, the turns as quaternions x, y, z, w, and the registered faces."""

    def anchored(each: _Chosen) -> tuple[np.ndarray, np.ndarray]:
        motion, run = each.motion()
        return register(motion.moving[run].reshape(-1, 68, 3), canonical_face())

    lists: dict[str, Callable[[_Chosen], np.ndarray]] = {
        "rot_trans": lambda each: anchored(each)[1][:, :3],
        "rot_quat": lambda each: Rotation.from_matrix(anchored(each)[1][:, :3, :3]).as_quat(),
        "anchor_t_shape": lambda each: anchored(each)[0].reshape(-1, 204),
    }
    file.write(pickle.PROTO + bytes([_PROTOCOL]) + pickle.EMPTY_DICT + pickle.MARK)
    for key, make in lists.items():
        file.write(_body(key))
        _write_list(file, map(make, chosen), begin=b"")
    file.write(pickle.SETITEMS + pickle.STOP)


def _write_list(file: BinaryIO, items: Iterable[Any], begin: bytes = pickle.PROTO + bytes([_PROTOCOL])) -> None:
    """A pickled list, its items written one by one: the opcodes of a list around those of each."""
    file.write(begin + pickle.EMPTY_LIST + pickle.MARK)
    for item in items:
        file.write(_body(item))
    file.write(pickle.APPENDS)


def _body(value: Any) -> bytes:
    """The opcodes of a value, without the first (which protocol) and the last (stop), under numpy's older names."""
    whole = pickle.dumps(value, _PROTOCOL)[2:-1]
    return whole.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def _sound(chosen: _Chosen) -> np.ndarray:
    """The sound (n,) of the rows that are exported."""
    _, run = chosen.motion()
    first, stop = (round(row / ROWS_PER_SECOND * SAMPLE_RATE) for row in (run.start, run.stop))
    return chosen.clip.audio()[first:stop]
