"""numpy files of strangers: what is wrong with them is one line, and nothing is made room for that is not there."""

from __future__ import annotations

import errno
import io
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from talkingface.errors import DataError
from talkingface.stored.arrays import Wanted, map_npy, npy_header, read_npy, read_npz

MEL = Wanted("f", (80, "columns"))
PAIR = {"points": Wanted("f", ("frames", 2)), "found": Wanted("b", ("frames",))}


def npy(header: str, data: bytes = b"\0" * 64) -> bytes:
    """A `.npy` file with a header of one's own."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def saved(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def described(shape: str, descr: str = "'<f4'", **more: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {more or ''}}}"


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


BAD = {
    "terabytes": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (80, 10000000000), }"),
    "more than an integer holds": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (80, 1" + "0" * 40 + "), }"),
    "text of terabytes": npy("{'descr': '<U999999999', 'fortran_order': False, 'shape': (80, 1), }"),
    "negative": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (80, -1), }"),
    "a truth value as length": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 1), }"),
    "nested without end": npy("{'descr': " + "(" * 3000 + ")" * 3000 + "}"),
    "minus without end": npy("{'shape': " + "-" * 9000 + "1}"),
    "no header": npy("import os"),
    "unfinished text": npy("{'descr': '<f4"),
    "objects": saved(np.array([Evil()], object), allow_pickle=True),
    "pickle": pickle.dumps(Evil()),
    "text": saved(np.array(["a"] * 80)),
    "complex": saved(np.zeros((80, 3), np.complex64)),
    "whole numbers": saved(np.zeros((80, 3), np.int64)),
    "structured": saved(np.zeros(80, [("a", "<f4")])),
    "one axis": saved(np.zeros(80, np.float32)),
    "other bands": saved(np.zeros((79, 3), np.float32)),
    "cut": saved(np.zeros((80, 30), np.float32))[:2000],
    "cut header": saved(np.zeros((80, 30), np.float32))[:20],
    "empty": b"",
    "something else": b"PK\3\4 nothing",
    "not a number": saved(np.full((80, 3), np.nan, np.float32)),
    "infinite": saved(np.full((80, 3), np.inf, np.float32)),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_array_is_one_line_with_its_file_and_takes_no_memory(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mel.npy"
    file.write_bytes(BAD[kind])
    tracemalloc.start()
    with pytest.raises(DataError, match=r"mel\.npy: .*preprocess again$") as caught:
        read_npy(file, MEL)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["mel.npy"], "nothing was run"


def test_good_arrays_come_as_they_are(tmp_path):
    array = np.random.default_rng(0).normal(size=(80, 7)).astype(np.float32)
    for stored in (array, np.asfortranarray(array), array.astype(">f4"), array.astype(np.float64)):
        np.save(tmp_path / "a.npy", stored)
        read = read_npy(tmp_path / "a.npy", MEL)
        np.testing.assert_array_equal(read, array)
        assert read.dtype.isnative and read.flags.writeable
        np.testing.assert_array_equal(map_npy(tmp_path / "a.npy", npy_header(tmp_path / "a.npy", MEL)), array)
    np.save(tmp_path / "a.npy", array[:, :0])
    header = npy_header(tmp_path / "a.npy", MEL)
    assert read_npy(tmp_path / "a.npy", MEL).shape == map_npy(tmp_path / "a.npy", header).shape == (80, 0)


def test_pipes_devices_and_folders_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for path in (tmp_path / "pipe.npy", "/dev/zero", tmp_path, tmp_path / "gone.npy"):
        for read in (lambda path=path: read_npy(path, MEL), lambda path=path: read_npz(path, PAIR)):
            with pytest.raises(DataError, match="is not a file|cannot be read"):
                read()


def zipped(path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_axes_of_one_name_have_one_length(tmp_path):
    np.savez(tmp_path / "a.npz", points=np.zeros((4, 2), np.float32), found=np.ones(4, bool), more=np.array("x"))
    assert set(read_npz(tmp_path / "a.npz", PAIR)) == {"points", "found"}
    np.savez(tmp_path / "a.npz", points=np.zeros((4, 2), np.float32), found=np.ones(5, bool))
    with pytest.raises(DataError, match=r"'found': it holds bool \(5,\), expected truth values \(4\)"):
        read_npz(tmp_path / "a.npz", PAIR)
    np.savez(tmp_path / "a.npz", points=np.zeros((4, 2), np.float32))
    with pytest.raises(DataError, match="it has no array 'found'"):
        read_npz(tmp_path / "a.npz", PAIR)
    assert set(read_npz(tmp_path / "a.npz", PAIR, optional=("found",))) == {"points"}


def test_compressed_landmarks_are_read_and_a_bomb_is_not(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", points=np.ones((1000, 2), np.float32), found=np.ones(1000, bool))
    assert read_npz(tmp_path / "a.npz", PAIR)["points"].shape == (1000, 2)
    many = 5_000_000
    bomb = saved(np.zeros((1, 2), np.float32)).replace(b"(1, 2)", f"({many}, 2)".encode()) + b"\0" * 8 * many
    zipped(tmp_path / "bomb.npz", {"points.npy": bomb, "found.npy": saved(np.ones(1, bool))}, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.npz").stat().st_size < 50_000
    with pytest.raises(DataError, match="declares 40,.* more than a file of"):
        read_npz(tmp_path / "bomb.npz", PAIR)


def test_damaged_and_strange_archives_are_one_line(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, points=np.zeros((50, 2), np.float32), found=np.ones(50, bool))
    whole = file.read_bytes()
    found = saved(np.ones(1, bool))
    zipped(tmp_path / "xz.npz", {"points.npy": BAD["one axis"], "found.npy": found}, zipfile.ZIP_LZMA)
    zipped(tmp_path / "objects.npz", {"points.npy": BAD["objects"], "found.npy": found})
    zipped(tmp_path / "short.npz", {"points.npy": BAD["terabytes"], "found.npy": found})
    for name in ("xz.npz", "objects.npz", "short.npz"):
        with pytest.raises(DataError, match=rf"{name}: unreadable \(.*preprocess again$"):
            read_npz(tmp_path / name, PAIR)
    for damaged in (whole[:-30], whole[: len(whole) // 2], whole[100:], whole[:150] + b"\xff" * 9 + whole[159:]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.npz: unreadable \("):
            read_npz(file, PAIR)


def test_a_disk_that_fails_makes_no_file_damaged(tmp_path, monkeypatch):
    """The advice for a damaged file is to delete it."""
    np.save(tmp_path / "mel.npy", np.zeros((80, 3), np.float32))
    np.savez(tmp_path / "a.npz", points=np.zeros((4, 2), np.float32), found=np.ones(4, bool))

    def fails(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    header = npy_header(tmp_path / "mel.npy", MEL)
    monkeypatch.setattr("builtins.open", fails)
    monkeypatch.setattr("zipfile.io.open", fails)
    monkeypatch.setattr(np, "memmap", fails)
    reads = (
        lambda: read_npy(tmp_path / "mel.npy", MEL),
        lambda: npy_header(tmp_path / "mel.npy", MEL),
        lambda: map_npy(tmp_path / "mel.npy", header),
        lambda: read_npz(tmp_path / "a.npz", PAIR),
    )
    for read in reads:
        with pytest.raises(DataError, match=r"cannot be read \(Input/output error\)$"):
            read()


def test_too_little_memory_for_a_good_file_is_not_its_fault(tmp_path, monkeypatch):
    np.save(tmp_path / "mel.npy", np.zeros((80, 3), np.float32))
    np.savez(tmp_path / "a.npz", points=np.zeros((4, 2), np.float32), found=np.ones(4, bool))

    def full(*_, **__):
        raise MemoryError("Unable to allocate 1.00 TiB")

    monkeypatch.setattr(np, "empty", full)
    for read in (lambda: read_npy(tmp_path / "mel.npy", MEL), lambda: read_npz(tmp_path / "a.npz", PAIR)):
        with pytest.raises(MemoryError):
            read()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_an_array_is_held_once_while_it_is_read(tmp_path, suffix):
    array, path = np.zeros((2**20, 2), np.float32), tmp_path / f"a.{suffix}"  # 8 MiB
    np.save(path, array) if suffix == "npy" else np.savez(path, points=array)
    wanted = Wanted("f", ("frames", 2))
    tracemalloc.start()
    read_npy(path, wanted) if suffix == "npy" else read_npz(path, {"points": wanted})
    assert array.nbytes <= tracemalloc.get_traced_memory()[1] < 1.5 * array.nbytes
    tracemalloc.stop()
