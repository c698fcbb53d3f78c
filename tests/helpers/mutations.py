"""Seeded damage to files: bits, lengths, values and types. The same generator gives the same damage."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator

STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 10**400, 1e308, -1e308, float("nan"), float("inf"),
    0.5, "", "x", "nan", "../../etc/passwd", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800", "é" * 200, "9" * 5000, [], {},
    [1], [[]], {"a": 1}, [0] * 1000, "2023-99-99", "~", "..", ".",
]  # fmt: skip


def damage_bytes(data: bytes, rng: Rng) -> bytes:
    """Flip bits, cut, repeat, overwrite, insert or empty."""
    data = bytearray(data)
    size = max(1, len(data))
    kind = rng.integers(8) if data else 7
    if kind == 0:
        for _ in range(int(rng.integers(1, 9))):
            data[rng.integers(size)] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[int(rng.integers(size)) :]
    elif kind == 2:
        start = int(rng.integers(size))
        data[start : start + int(rng.integers(1, 64))] = b""
    elif kind == 3:
        start = int(rng.integers(size))
        data[start : start + 8] = bytes(rng.choice([0, 255], 8).astype(np.uint8))
    elif kind == 4:
        start = int(rng.integers(size))
        data[start:start] = rng.bytes(int(rng.integers(1, 64)))
    elif kind == 5:
        start, other = (int(rng.integers(size)) for _ in range(2))
        data[start : start + 32] = data[other : other + 32]
    elif kind == 6:  # at the front, where headers are
        for _ in range(int(rng.integers(1, 5))):
            data[int(rng.integers(min(size, 128)))] = int(rng.integers(256))
    else:
        data = bytearray(rng.choice([b"", b"\0" * 64, rng.bytes(64), b"[" * 5000, b"#!/bin/sh\n", b"\xff\xfe" + data]))
    return bytes(data)


def damage_value(value: Any, rng: Rng) -> Any:
    """A copy of plain data in which one to three values, keys or entries are others."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(value))
        if not places:
            return strange(rng)
        holder, key = places[rng.integers(len(places))]
        kind = rng.integers(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(strange(rng))[:300]] = holder.pop(key)
        elif kind == 2:  # the value of another place, so of a type that occurs
            other, name = places[rng.integers(len(places))]
            holder[key] = copy.deepcopy(
                other.get(name) if isinstance(other, dict) else other[name % max(1, len(other))]
            )
        else:
            holder[key] = strange(rng)
    return strange(rng) if rng.random() < 0.02 else value


def strange(rng: Rng) -> Any:
    return copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])


def _places(value: Any) -> Any:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def damage_json(file: Path, rng: Rng) -> None:
    text = file.read_bytes()
    if rng.random() < 0.2:
        file.write_bytes(damage_bytes(text, rng))
    else:
        file.write_text(json.dumps(damage_value(json.loads(text), rng)), errors="surrogatepass")


def damage_array(array: np.ndarray, rng: Rng) -> np.ndarray:
    """Another type, shape, length, or other numbers."""
    changes: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda a: a.astype(rng.choice(["f8", "f2", ">f4", "i8", "u1", "?", "c8", "U9", "S3"])),
        lambda a: a.reshape(-1),
        lambda a: a[None],
        lambda a: a[: int(rng.integers(len(a) + 1))] if a.ndim else a,
        lambda a: np.concatenate([a, a]) if a.ndim else a,
        lambda a: a[..., :-1] if a.ndim else a,
        lambda a: a.T,
        lambda a: np.zeros((0, *a.shape[1:]), a.dtype),
        lambda a: _other_numbers(a, rng),
        lambda a: _other_numbers(a, rng),
        lambda a: np.array(strange(rng) if rng.random() < 0.5 else "text").astype(str),
        lambda a: np.zeros(3, [("a", "f4"), ("b", "i4")]),
        lambda a: np.asfortranarray(a),
    ]
    try:
        return changes[rng.integers(len(changes))](array)
    except ValueError:  # text that is no number
        return np.zeros(2)


def _other_numbers(array: np.ndarray, rng: Rng) -> np.ndarray:
    array = array.copy()
    if array.size and array.dtype.kind in "fiub":
        flat = array.reshape(-1)
        count = int(rng.integers(1, 1 + min(flat.size, 50)))
        values = np.array([0, -1, 1, 1e9, -1e9, 127, 2**31 - 1])
        if array.dtype.kind == "f":
            values = np.array([*values, np.nan, np.inf, -np.inf, 1e38])
        with np.errstate(all="ignore"):
            flat[rng.integers(flat.size, size=count)] = rng.choice(values, count).astype(array.dtype)
        if rng.random() < 0.3:
            flat[:] = flat[0]
    return array


def damage_npy(file: Path, rng: Rng) -> None:
    if rng.random() < 0.4:
        file.write_bytes(damage_bytes(file.read_bytes(), rng))
    elif rng.random() < 0.3:
        file.write_bytes(_with_header(file.read_bytes(), rng))
    else:
        np.save(file, damage_array(np.load(file), rng))


def damage_npz(file: Path, rng: Rng) -> None:
    kind = rng.random()
    if kind < 0.35:
        file.write_bytes(damage_bytes(file.read_bytes(), rng))
        return
    with np.load(file) as stored:
        arrays = dict(stored)
    name = sorted(arrays)[rng.integers(len(arrays))]
    if kind < 0.5:
        parts = {f"{key}.npy": _npy(array) for key, array in arrays.items()}
        change = damage_bytes if rng.random() < 0.5 else _with_header
        parts[f"{name}.npy"] = change(parts[f"{name}.npy"], rng)
        with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for part, data in parts.items():
                archive.writestr(part, data)
        return
    if arrays[name].dtype.kind == "U" and arrays[name].ndim == 0 and str(arrays[name]).startswith("{"):
        arrays[name] = np.array(json.dumps(damage_value(json.loads(str(arrays[name])), rng)))
    elif kind < 0.55:
        del arrays[name]
    else:
        arrays[name] = damage_array(arrays[name], rng)
    np.savez(file, **arrays)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _with_header(data: bytes, rng: Rng) -> bytes:
    """The file with a header that declares something else."""
    shapes = ["(10000000000, 80)", "(80, 10000000000)", "(-1,)", "()", "(0,)", "(2, 2, 2)", "'a'", "(1e9,)", "(True,)"]
    kinds = ["'<f4'", "'|O'", "'<U1000000000'", "[('a', '<f4')]", "'<c16'", "'V8'", "5", "('<f4', (1000000000,))"]
    header = f"{{'descr': {rng.choice(kinds)}, 'fortran_order': {rng.choice(['True', '1'])}, 'shape': "
    text = f"{header}{rng.choice(shapes)}, }}\n".encode()
    end = 10 + int.from_bytes(data[8:10], "little")
    return data[:8] + len(text).to_bytes(2, "little") + text + data[end:]


def damage_file(file: Path, rng: Rng) -> None:
    """Damage of the kind that fits a file by its suffix; sometimes it is gone, a folder, or another file altogether."""
    if rng.random() < 0.04:
        file.unlink()
        if rng.random() < 0.5:
            file.mkdir()
        return
    damage = {".json": damage_json, ".npy": damage_npy, ".npz": damage_npz}.get(file.suffix)
    if damage is None:
        file.write_bytes(damage_bytes(file.read_bytes(), rng))
    else:
        damage(file, rng)


_LINES = ["/", ".", "..", "a/../b", "\0", "x" * 9000, "\t"]


def damage_lines(text: str, rng: Rng) -> bytes:
    """Lines of a list or table in another order, doubled, cut, with strange cells."""
    lines = text.splitlines()
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(len(lines)))
        cells = lines[place].split(",")
        kind = rng.integers(6)
        if kind == 0:
            cells[rng.integers(len(cells))] = str(strange(rng)).replace("\n", " ")
        elif kind == 1:
            cells = cells[: rng.integers(len(cells) + 1)]
        elif kind == 2:
            cells = cells * 2
        elif kind == 3:
            lines.insert(
                int(rng.integers(len(lines) + 1)), rng.choice(["/", ".", "..", "a/../b", "\0", "x" * 9000, "\t"])
            )
            continue
        elif kind == 4:
            lines[place], lines[0] = lines[0], lines[place]
            continue
        else:
            cells = [str(strange(rng)).replace("\n", " ")]
        lines[place] = ",".join(cells)
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return damage_bytes(data, rng) if rng.random() < 0.3 else data
