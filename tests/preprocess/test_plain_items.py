"""Lists in pickles: item by item, in little memory, and nothing but plain data."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from helpers.dumps import Runs
from talkingface.errors import DataError
from talkingface.preprocess.converters.plain_items import load_pickle, pickled_items

VECTOR = np.arange(256.0)


def items(count: int) -> list:
    """Clips that share a vector, as clips of one video do."""
    return [(np.full((20 + k % 3, 80), float(k)), (k, f"v{k}.mp4", VECTOR)) for k in range(count)]


def written(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 1003])  # pickles append by the thousand
def test_items_come_back_as_they_were(tmp_path, protocol, count):
    given = items(count)
    found = [item.value for item in pickled_items(written(tmp_path / "x", given, protocol))]
    assert len(found) == count
    for (rows, about), (own, told) in zip(found, given, strict=True):
        np.testing.assert_array_equal(rows, own)
        assert about[:2] == told[:2]
        np.testing.assert_array_equal(about[2], VECTOR)


@pytest.mark.parametrize("protocol", [2, 4])
def test_lists_of_a_mapping_come_with_their_keys(tmp_path, protocol):
    given = {"turns": [np.full((9, 3, 4), k) for k in range(4)], "faces": [np.ones((9, 204)), np.zeros((2, 204))]}
    found = list(pickled_items(written(tmp_path / "x", given, protocol)))
    assert [item.key for item in found] == ["turns"] * 4 + ["faces"] * 2
    for item, own in zip(found, [*given["turns"], *given["faces"]], strict=True):
        np.testing.assert_array_equal(item.value, own)


def test_memory_is_that_of_an_item_not_of_the_list(tmp_path):
    path = written(tmp_path / "x", [(np.random.default_rng(k).random((400, 80)), (k, "v")) for k in range(60)])
    tracemalloc.start()
    for _ in pickled_items(path):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 15e6 and peak < 3e6


def test_code_is_named_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "x", [*items(2), (Runs(), (2, "v.mp4"))])
    read = pickled_items(path)
    assert next(read).value[1][0] == 0
    with pytest.raises(DataError, match=r"x: refused: the file holds code \((posix|nt)\.system\)"):
        list(read)
    with pytest.raises(DataError, match="holds code"):
        load_pickle(path)
    assert not (tmp_path / "harm.txt").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[: len(data) // 2], "not a readable pickle"),
        (lambda data: b"", "not a readable pickle"),
        (lambda data: b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".", "of no size that arrays have"),
        (lambda data: pickle.dumps(3), "neither a list nor a mapping"),
    ],
)
def test_what_is_damaged_is_told_in_a_line(tmp_path, change, told):
    path = tmp_path / "x"
    path.write_bytes(change(pickle.dumps(items(3))))
    with pytest.raises(DataError, match=told) as caught:
        list(pickled_items(path))
    assert "\n" not in str(caught.value)


def test_a_small_pickle_is_read_as_a_whole(tmp_path):
    content = load_pickle(written(tmp_path / "x", {"a": VECTOR, "b": [1, "two"]}))
    np.testing.assert_array_equal(content["a"], VECTOR)
    assert content["b"] == [1, "two"]
