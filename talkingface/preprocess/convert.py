"""Converting what people have preprocessed with older code, so that training can start without the source videos.

Each old layout is a module of `converters/`, imported here; a plug-in registers its own with `register_converter`.
"""

from __future__ import annotations

import importlib
import json
import logging
import pkgutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from talkingface.clips.layouts import LRS2Layout
from talkingface.clips.meta import FORMAT, META_FILE, read_meta
from talkingface.clips.prepared import CONVERTED_FILE, converted_ids
from talkingface.errors import DataError, OutputError, RegistryError, TalkingFaceError
from talkingface.files import is_unwritable, output_error, writable_folder, write_text
from talkingface.media import FPS
from talkingface.plugin.registry import get_spec, load_plugins
from talkingface.preprocess import (
    converters,
    export_dubbing,  # registers itself
    export_hyperlips,  # the same
)
from talkingface.preprocess.artefacts import has_files, write_meta
from talkingface.preprocess.converters.base import CONVERTERS, Converter, ConvertOptions, converter_for, exporter_for
from talkingface.preprocess.imported import IMPORTED
from talkingface.preprocess.outcome import FAILED, OK, REJECTED, Outcome, facts_of
from talkingface.preprocess.report import Report
from talkingface.preprocess.step import Rejected
from talkingface.stored.jsons import read_json

__all__ = ["convert_legacy", "export_clips", "export_dubbing", "export_hyperlips", "is_converted_whole", "noted_prefix"]

for _module in pkgutil.iter_modules(converters.__path__):
    importlib.import_module(f"{converters.__name__}.{_module.name}")  # its converter registers itself

log = logging.getLogger("talkingface")

MADE_FROM = "made_from"
"""Key in `clip.json`; its value: what a clip was made from (`Converter.state`)."""


def convert_legacy(
    kind: str,
    roots: Mapping[str, str | Path | Sequence[str | Path]],
    out: str | Path | None = None,
    *,
    size: int = 96,
    max_gap: int = 12,
    hr_size: int | None = None,
    prefix: str = "",
    width: int = 360,
    features: str = "deepspeech_onnx",
    progress: bool = True,
) -> Report:
    """Convert preprocessed data of older code to clip folders.

    Args:
        kind: a registered layout: `iplap` (IP_LAP's landmark, face and audio folders), `wav2lip` (`<set>/<clip>/{0.jpg,
            ..., audio.wav}`, also HyperLips' `imgs` alone), `hyperlips` (its whole `preprocessed_data`), `makeittalk`
            (dumps or text trees), `lawdnet` and `dinet` (what is in `asserts/training_data`), or one of your own.
        roots: for `iplap` the folders `landmarks`, `faces` and `audio` (the last two may be left out); for `wav2lip`
            the folder `faces`; for `hyperlips` and `makeittalk` the folder `root`; for `lawdnet` and `dinet` one `root`
            or several.
        out: the new `preprocessed_root`; `hyperlips` may leave it out: the clips then lie beside the old folders.
        size: side to which Wav2Lip's crops are resized; those of IP_LAP and of HyperLips' Base are 128.
        max_gap: longest run of missing frames that is bridged.
        hr_size: side of what HyperLipsHR learns to draw, 128, 256 or 512; None: what is nearest to its pictures.
        prefix: of MakeItTalk's dumps, where there are several families.
        width: of the crops of `lawdnet` and `dinet` in pixels.
        features: front end that gave their `<video>_deepspeech.txt`.
        progress: show a progress bar.

    Returns:
        One outcome per clip. A damaged clip is reported and does not stop the others. Clips that are there already,
        made from the same files, are passed over where the converter can tell.

    Raises:
        DataError: the kind is not known, a root is missing or empty, or `out` cannot be used.
        OutputError: `out` cannot be written.
    """
    options = ConvertOptions(size, max_gap, hr_size, prefix, width, features)
    converter = _open(kind, roots, options)
    ids = converter.find()
    if not ids:
        wanted = converter.holds or "<speaker>/<clip> folders"
        raise DataError(f"{converter.roots[converter.main]}: no {wanted} found here")
    place = writable_folder(converter.place(out))
    started, report = time.perf_counter(), Report()
    for clip_id in tqdm(ids, desc=f"convert {kind}", unit="clip", disable=not progress):
        state = converter.state(clip_id)
        known = _known(clip_id, place / clip_id, state)
        report.add(known or _convert_one(converter, clip_id, place / clip_id, state))
        report.worked += known is None
    report.seconds = time.perf_counter() - started
    if state := converter.whole_state():
        noted = {"kind": kind, "prefix": prefix, MADE_FROM: state, "clips": ids}
        write_text(place / CONVERTED_FILE, json.dumps(noted) + "\n")
    log.info("conversion: %s", report.table())
    if report.ok_ids:
        log.info("to train on them: %s", f"--preprocessed_root={place} {converter.advice}".rstrip())
    return report


def is_converted_whole(kind: str, roots: Mapping[str, Path], place: Path) -> bool:
    """Whether all clips of old data were converted to `place`, told without looking at them; see `whole_state`.

    Raises:
        DataError: the kind is not known, or the old data are not there, or not the family that was converted.
    """
    try:
        noted = read_json(place / CONVERTED_FILE)
        known, names = {key: noted[key] for key in ("kind", MADE_FROM)}, sorted(noted["clips"])
    except (DataError, KeyError, TypeError):  # there is none, or none that could be believed
        return False
    state = _open(kind, roots, ConvertOptions(prefix=noted_prefix(kind, place))).whole_state()
    return bool(state) and known == {"kind": kind, MADE_FROM: state} and names == converted_ids(place)


def noted_prefix(kind: str, place: Path) -> str:
    """The family of dumps that the last conversion to `place` was asked for; empty: for none by name."""
    try:
        noted = read_json(place / CONVERTED_FILE)
        return str(noted.get("prefix", "")) if noted["kind"] == kind else ""
    except (DataError, AttributeError, KeyError, TypeError):
        return ""


def export_clips(kind: str, prepared: str | Path, out: str | Path, *, progress: bool = True) -> Report:
    """Write prepared clips in the layout of older code.

    Args:
        kind: `hyperlips`, `makeittalk`, `lawdnet`, `dinet`, or one of your own.
        prepared: the `preprocessed_root`.
        out: folder for them.
        progress: show a progress bar.

    Returns:
        One outcome per clip.

    Raises:
        DataError: the kind has no such layout, there are no clips, or others lie in `out`.
        OutputError: it cannot be written.
    """
    _load_bringer(kind)
    return exporter_for(kind)(Path(prepared), Path(out), progress)


def _load_bringer(kind: str) -> None:
    """Import what may bring a converter: plug-ins, and the model whose name it has."""
    load_plugins()
    if kind not in CONVERTERS:
        with suppress(RegistryError):
            get_spec(kind)


def _open(kind: str, roots: Mapping[str, str | Path | Sequence[str | Path]], options: ConvertOptions) -> Converter:
    _load_bringer(kind)
    cls = converter_for(kind)
    folders = {
        name: [Path(each) for each in ([root] if isinstance(root, (str, Path)) else root)]
        for name, root in roots.items()
    }
    if not folders.get(cls.main):
        raise DataError(f"'{kind}' needs --{cls.main}=FOLDER: the folder with its {cls.holds or cls.main}")
    for folder in folders[cls.main]:
        if not folder.is_dir():
            raise DataError(f"{folder}: the folder with the {kind} {cls.holds or cls.main} does not exist")
    if twice := [name for name, found in folders.items() if len(found) > 1 and not (cls.several and name == cls.main)]:
        raise DataError(f"'{kind}' takes one --{twice[0]}")
    further = tuple(folders[cls.main][1:])
    return cls({name: found[0] for name, found in folders.items()}, replace(options, further=further))


def _known(clip_id: str, target: Path, state: str) -> Outcome | None:
    """What is known of a clip that need not be converted, or must not be; None for all others."""
    meta = read_meta(target)
    if meta.get("status") in (OK, REJECTED) and not meta.get(IMPORTED):
        return Outcome(clip_id, REJECTED, "is prepared from its video already; give another --out to convert it")
    whole = all(has_files(target, record) for record in meta.get("steps", {}).values())
    if not state or meta.get(MADE_FROM) != state or meta.get("status") not in (OK, REJECTED) or not whole:
        return None
    frames = int(meta.get("frames", 0))
    return Outcome(clip_id, meta["status"], meta.get("reason", ""), frames=frames, facts=facts_of(meta))


def _convert_one(converter: Converter, clip_id: str, target: Path, state: str) -> Outcome:
    target.mkdir(parents=True, exist_ok=True)
    (target / META_FILE).unlink(missing_ok=True)  # an old record must not vouch for half-replaced files
    meta = {
        "format": FORMAT,
        "clip_id": clip_id,
        "speaker": LRS2Layout().speaker(clip_id),  # the data set's own layout has the last word when clips are read
        "fps": FPS,
        IMPORTED: converter.kind,
        MADE_FROM: state,
    }
    try:
        meta |= converter.convert(clip_id, target) | {"status": OK, "reason": ""}
    except Rejected as reason:
        meta |= {"status": REJECTED, "reason": str(reason)}
    except OutputError:
        raise
    except (TalkingFaceError, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and is_unwritable(error):
            raise output_error(target, error) from error
        meta |= {"status": FAILED, "reason": " ".join(f"{error}".split()) or type(error).__name__}
    write_meta(target, meta)
    made, frames = tuple(meta.get("steps", ())), int(meta.get("frames", 0))
    return Outcome(clip_id, str(meta["status"]), str(meta["reason"]), made, frames=frames, facts=facts_of(meta))
