"""Files of `torch.save` made by hand: opcodes and members as somebody who means harm would write them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping

_MAGIC = 0x1950A86A20F9469CFC6C


def archived(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of the members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def archive(
    pickled: bytes, storages: Mapping[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> bytes:
    """A file in today's format: a pickle, and storages by key."""
    members = {"archive/data.pkl": pickled, "archive/version": b"3\n", "archive/byteorder": b"little"}
    return archived({**members, **{f"archive/data/{key}": v for key, v in (storages or {}).items()}}, compression)


def stream(pickled: bytes, storage: bytes = b"") -> bytes:
    """A file in the format before torch 1.6, with the storage `0`."""
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(part, 2) for part in (_MAGIC, 1001, machine))
    return head + pickled + pickle.dumps(["0"], 2) + (len(storage) // 4).to_bytes(8, "little") + storage


def _whole(number: int) -> bytes:
    data = number.to_bytes((number.bit_length() + 8) // 8, "little")
    return b"\x8a" + bytes([len(data)]) + data


def _text(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def tensor(
    shape: tuple[int, ...], strides: tuple[int, ...], elements: int, offset: int = 0, old: bool = False
) -> bytes:
    """The pickle of `{"w": tensor}`, float32 in a storage `0` that claims to have `elements`; `old` is for `stream`."""
    storage = _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _whole(elements)
    sides = b"".join(b"(" + b"".join(map(_whole, numbers)) + b"t" for numbers in (shape, strides))
    arguments = b"(" + storage + (b"N" if old else b"") + b"tQ" + _whole(offset) + sides
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}" + _text("w") + rebuilt + b"s."
