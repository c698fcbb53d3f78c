"""What a file of weights asks for is known before it is loaded: no code, and no memory beyond what it holds."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import zipfile
import zlib
from collections import Counter, OrderedDict

import pytest
import torch

from helpers.weight_files import archive, archived, stream, tensor
from talkingface.errors import CheckpointError
from talkingface.weights import checkpoint, pickled

TERABYTE = b"\x8a\x06" + (10**12).to_bytes(6, "little")
BYTEARRAY = b"\x80\x02c__builtin__\nbytearray\n" + TERABYTE + b"\x85R."
STORAGE = b"\x80\x02ctorch.storage\nUntypedStorage\n" + TERABYTE + b"\x85R."
TENSOR = b"\x80\x02ctorch\nFloatTensor\n" + TERABYTE + b"\x85R."


def repeated(times: int) -> bytes:
    """Lists of nine times the list before."""
    body = b"\x80\x02](K\x00K\x00eq\x00"
    for index in range(times):
        body += b"](" + b"h" + bytes([index]) + (b"h" + bytes([index])) * 8 + b"eq" + bytes([index + 1])
    return body + b"."


def two_archives() -> bytes:
    """A file that torch reads as its first half and zipfile as its second."""
    harm = b"\x80\x02c__builtin__\nbytearray\n" + b"\x8a\x05" + (300 << 20).to_bytes(5, "little") + b"\x85R."
    return archive(harm) + archive(b"\x80\x02" + b"N" * (len(harm) - 4) + b"}.")


def renamed() -> bytes:
    """A part that zipfile knows by the name in its extra field (Info-ZIP's), and torch by the other."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, shown, content in (
            ("a/data.pkl", "a/hidden", BYTEARRAY),
            ("a/harmless", "a/data.pkl", b"\x80\x02}."),
        ):
            info = zipfile.ZipInfo(name)
            body = b"\x01" + struct.pack("<L", zlib.crc32(name.encode())) + shown.encode()
            info.extra = struct.pack("<2H", 0x7075, len(body)) + body
            written.writestr(info, content)
    return buffer.getvalue()


def copied(function: bytes, argument: bytes, times: int = 2000) -> bytes:
    """A list of what a function makes of one argument, again and again."""
    return b"\x80\x02c" + function + b"\nq\x00" + argument + b"\x85q\x01](" + b"h\x00h\x01R" * times + b"e."


TEXT = b"X" + (50_000).to_bytes(4, "little") + b"a" * 50_000
ENCODED = b"\x80\x02c_codecs\nencode\nq\x00" + TEXT + b"X\x06\0\0\0latin1\x86q\x01](" + b"h\x00h\x01R" * 4000 + b"e."
NUMBERS = b"](" + b"".join(b"M" + struct.pack("<H", n) for n in range(5000)) + b"e"
PAIRS = b"](" + b"".join(b"M" + struct.pack("<H", n) + b"K\x00\x86" for n in range(5000)) + b"e"
TUPLE = b"(" + b"K\x01" * 5000 + b"t"
STATE = b"}q\x00(" + b"".join(b"X\x04\0\0\0%04dK\x00" % n for n in range(5000)) + b"u"
ATTRIBUTES = b"\x80\x02" + STATE + b"](" + b"ccollections\nOrderedDict\n)Rh\x00b" * 2000 + b"e."

ASKS_TOO_MUCH = {
    "another archive before": two_archives(),
    "anything before": b"PK\x03\x04" + archive(b"\x80\x02}."),
    "two names": renamed(),
    "text, encoded again and again": archive(ENCODED),
    "sets of one list": archive(copied(b"__builtin__\nset", NUMBERS)),
    "counters of one list": archive(copied(b"collections\nCounter", NUMBERS)),
    "mappings of one list": archive(copied(b"collections\nOrderedDict", PAIRS)),
    "sizes of one tuple": archive(copied(b"torch\nSize", TUPLE)),
    "sizes in the old format": stream(copied(b"torch\nSize", TUPLE)),
    "attributes from one mapping": archive(ATTRIBUTES),
    "a bytearray": archive(BYTEARRAY),
    "a bytearray, compressed": archive(BYTEARRAY, compression=zipfile.ZIP_DEFLATED),
    "a bytearray, alone": BYTEARRAY,
    "a storage": archive(STORAGE),
    "a tensor": archive(TENSOR),
    "a member that is none": archive(tensor((4,), (1,), 4), {"0": b""}),
    "more than its member": archive(tensor((10**6,), (1,), 10**6), {"0": bytes(4)}),
    "elements beyond": archive(tensor((10**9,), (1,), 1), {"0": bytes(4)}),
    "elements beyond an offset": archive(tensor((1,), (1,), 1, offset=5), {"0": bytes(4)}),
    "one element, repeated": archive(tensor((10**6, 10**6), (0, 0), 1), {"0": bytes(4)}),
    "no element, of great width": archive(tensor((10**12, 0), (0, 1), 1), {"0": bytes(4)}),
    "a storage in the old format": stream(tensor((1,), (1,), 10**12, old=True)),
    "elements beyond in the old format": stream(tensor((10**9,), (1,), 1, old=True), bytes(4)),
    "a compressed member": archive(b"\x80\x02}.", {"0": bytes(10**8)}, zipfile.ZIP_DEFLATED),
    "names that differ in case": archive(b"\x80\x02}.", {"a": b"1", "A": b"2"}),
    "lists in lists": archive(repeated(12)),
    "a list in itself": archive(b"\x80\x02]q\x00h\x00a."),
    "a mapping in itself": archive(b"\x80\x02}q\x00X\x01\0\0\0ah\x00s."),
    "a tensor of many axes": archive(tensor((1,) * 100, (1,) * 100, 1), {"0": bytes(4)}),
    "depth": archive(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."),
}


@pytest.mark.parametrize("name", ASKS_TOO_MUCH)
def test_a_small_file_that_asks_for_much_is_refused_at_once_and_without_it(tmp_path, name):
    path = tmp_path / "small.pt"
    path.write_bytes(ASKS_TOO_MUCH[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"small\.pt") as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("name", list(ASKS_TOO_MUCH)[:10])
def test_it_is_refused_before_torch_reads_it(tmp_path, name):
    path = tmp_path / "small.pt"
    path.write_bytes(ASKS_TOO_MUCH[name])
    with pytest.raises(CheckpointError, match="refused: .*(again and again$|in two ways$|pickled code)"):
        pickled.check(path)


def test_values_are_counted_before_they_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, "MOST_OPCODES", 1000)
    (tmp_path / "many.pt").write_bytes(archive(b"\x80\x02](" + b"}" * 2000 + b"e."))
    with pytest.raises(CheckpointError, match="more than 1000 values in one file"):
        checkpoint.read(tmp_path / "many.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_writes_is_read_as_it_was(tmp_path, legacy):
    base = torch.arange(12.0).reshape(3, 4)
    data = {
        "plain": [1, -70000, 2**40, 1.5, "text", None, True, (1, 2), {3}, b"bytes", complex(1, 2), torch.Size([2])],
        "views": {"whole": base, "row": base[1], "column": base[:, 1], "turned": base.T, "scalar": base[0, 0]},
        "kinds": {str(t): torch.ones(2, dtype=t) for t in (torch.half, torch.bfloat16, torch.uint8, torch.bool)},
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "ordered": OrderedDict(a=torch.ones(1)),
        "counter": Counter({3: 1}),
        "module": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).state_dict(),
        "type": torch.float32,
        "device": torch.device("cpu"),
    }
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    data["optimizer"] = optimizer.state_dict()
    torch.save(data, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    read = checkpoint.read(tmp_path / "x.pt")
    assert read["plain"] == data["plain"] and read["counter"] == data["counter"] and read["type"] is torch.float32
    for name, value in data["views"].items():
        assert torch.equal(read["views"][name], value)
    assert read["none"].shape == (0, 3) and read["optimizer"]["param_groups"] == data["optimizer"]["param_groups"]
    assert read["module"].keys() == data["module"].keys() and isinstance(read["parameter"], torch.nn.Parameter)


def test_the_files_made_by_hand_are_read_where_they_ask_for_what_they_hold(tmp_path):
    one = struct.pack("<f", 2.5)
    (tmp_path / "new.pt").write_bytes(archive(tensor((1,), (1,), 1), {"0": one}))
    (tmp_path / "old.pt").write_bytes(stream(tensor((1,), (1,), 1, old=True), one))
    for name in ("new.pt", "old.pt"):
        assert checkpoint.read(tmp_path / name)["w"].tolist() == [2.5]


def test_a_file_that_was_packed_again_is_read(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.randn(1000)}, buffer)
    with zipfile.ZipFile(buffer) as written:
        members = {name: written.read(name) for name in written.namelist()}
    (tmp_path / "again.pt").write_bytes(archived(members, zipfile.ZIP_DEFLATED))
    assert checkpoint.read(tmp_path / "again.pt")["w"].shape == (1000,)


def test_an_archive_with_a_list_of_parts_in_64_bits_is_read(tmp_path):
    written = archive(tensor((1,), (1,), 1), {"0": struct.pack("<f", 2.5)})
    body, (*_, count, listed, place, _) = written[:-22], struct.unpack("<4s4H2LH", written[-22:])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, listed, place)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body), 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0)
    (tmp_path / "large.pt").write_bytes(body + record + locator + last)
    assert checkpoint.read(tmp_path / "large.pt")["w"].tolist() == [2.5]
    (tmp_path / "large.pt").write_bytes(written + body + record + locator + last)
    with pytest.raises(CheckpointError, match="can be read in two ways"):
        checkpoint.read(tmp_path / "large.pt")


def test_code_in_any_disguise_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("pwned",)

    for protocol in range(6):
        (tmp_path / "x.pt").write_bytes(archive(pickle.dumps(Evil(), protocol)))
        with pytest.raises(CheckpointError, match="refused|not a readable"):
            checkpoint.read(tmp_path / "x.pt")
