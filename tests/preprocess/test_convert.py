"""Reading what older code prepared."""

from __future__ import annotations

import io
import os
import tracemalloc

import numpy as np
import pytest

from talkingface import media
from talkingface.clips.folder import ClipFolder
from talkingface.errors import DataError
from talkingface.faces import mesh as facemesh
from talkingface.faces.crop import relative_landmarks
from talkingface.preprocess.convert import convert_legacy
from talkingface.preprocess.converters import base
from talkingface.preprocess.converters.base import read_face
from talkingface.preprocess.converters.iplap import read_iplap_landmarks
from talkingface.preprocess.converters.plain import load_plain

cv2 = pytest.importorskip("cv2")


def write_landmarks(path, seed=0, drop=0):
    """A landmark file as IP_LAP writes it, points in ascending mesh index."""
    values = np.random.default_rng(seed).uniform(0, 1, (facemesh.N_POINTS, 2))
    rows = {
        "pose_landmarks": [(i, float(values[i, 0]), float(values[i, 1])) for i in sorted(facemesh.IPLAP_POSE)],
        "content_landmarks": [(i, *values[i]) for i in sorted(facemesh.IPLAP_CONTENT)[drop:]],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rows)
    return values


def iplap_tree(root, clip="s1/001", frames=(0, 1, 2, 4, 5)):
    values = {k: write_landmarks(root / "landmarks" / clip / f"{k}.npy", k) for k in frames}
    face = np.zeros((128, 128, 3), np.uint8)
    face[:, :64] = (0, 0, 200)  # red on the left, in OpenCV's order
    for k in frames:
        (root / "face" / clip).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(os.fspath(root / "face" / clip / f"{k}.png"), face)
    (root / "audio" / clip).mkdir(parents=True)
    np.save(root / "audio" / clip / "audio.npy", np.random.default_rng(0).normal(size=(30, 80)))
    return values


def roots(root):
    return {"landmarks": root / "landmarks", "faces": root / "face", "audio": root / "audio"}


def test_iplap_clip_becomes_a_clip_folder(tmp_path):
    values = iplap_tree(tmp_path)
    report = convert_legacy("iplap", roots(tmp_path), tmp_path / "out", progress=False)
    assert report.ok_ids == ["s1/001"]
    clip = ClipFolder(tmp_path / "out" / "s1/001")
    assert (clip.status, len(clip), clip.speaker) == ("ok", 6, "s1")
    assert clip.mel().shape == (80, 30) and clip.mel().dtype == np.float32
    track, faces = clip.track(), clip.faces("faces@128-frame-iplap-px-5")
    np.testing.assert_array_equal(track.found, [1, 1, 1, 0, 1, 1])
    assert track.valid.all() and not faces.valid[3]
    order = list(facemesh.IPLAP_ORDER)
    relative = relative_landmarks(track.points_px[:, order], np.tile([0.0, 0, 128, 128], (6, 1)))
    np.testing.assert_allclose(relative[4], values[4][order].T, atol=1e-5)
    left, right = faces[0][64, 10], faces[0][64, 120]
    assert left[0] > 190 and left[2] < 10 and right.max() < 10


def test_damaged_clip_does_not_stop_the_others(tmp_path):
    iplap_tree(tmp_path)
    iplap_tree(tmp_path, "s1/002")
    (tmp_path / "landmarks/s1/002/1.npy").write_bytes(b"broken")
    (tmp_path / "landmarks/s2/003").mkdir(parents=True)
    report = convert_legacy("iplap", roots(tmp_path), tmp_path / "out", progress=False)
    assert report.ok_ids == ["s1/001"] and list(report.rejected) == ["s2/003"]
    assert "1.npy: not a readable .npy file" in report.failed["s1/002"]
    assert ClipFolder(tmp_path / "out/s1/002").status == "failed"
    assert "1 rejected, 1 failed" in report.table()


def test_landmark_file_that_lacks_points_is_named(tmp_path):
    write_landmarks(tmp_path / "1.npy", drop=3)
    with pytest.raises(DataError, match=r"1\.npy: has 128 points, but not all 131"):
        read_iplap_landmarks(tmp_path / "1.npy")
    np.save(tmp_path / "2.npy", {"other": 1})
    with pytest.raises(DataError, match=r"2\.npy: not a landmark file of IP_LAP"):
        read_iplap_landmarks(tmp_path / "2.npy")


@pytest.mark.parametrize(
    "row",
    [
        [999, 0.5, 0.5],
        [-1, 0.5, 0.5],
        ["1", 0.5, 0.5],
        [1, "a", 0.5],
        [1, 1e9, 0.5],
        [1, float("inf"), 0.5],
        [1],
        7,
        {},
    ],
)
def test_landmarks_that_are_none_are_named(tmp_path, row):
    np.save(tmp_path / "1.npy", {"pose_landmarks": [row], "content_landmarks": []})
    with pytest.raises(DataError, match=r"1\.npy: not a landmark file of IP_LAP") as caught:
        read_iplap_landmarks(tmp_path / "1.npy")
    assert "\n" not in str(caught.value)


def test_a_number_far_beyond_the_files_makes_no_room_for_what_is_between(tmp_path):
    iplap_tree(tmp_path)
    iplap_tree(tmp_path, "s1/002")
    folder = tmp_path / "landmarks/s1/002"
    (folder / "1.npy").rename(folder / "99999999999.npy")
    report = convert_legacy("iplap", roots(tmp_path), tmp_path / "out", progress=False)
    assert "99999999999.npy: is number 99999999999 of only" in report.failed["s1/002"]


def test_a_picture_that_would_unfold_is_not_decoded(tmp_path, monkeypatch):
    data = cv2.imencode(".png", np.zeros((8, 5000), np.uint8))[1].tobytes()
    (tmp_path / "0.png").write_bytes(data)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"0\.png: 5000 x 8 pixels are no crop of a face"):
        read_face(tmp_path / "0.png")


def pickled(data: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue() + data


NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
TEXT = b"X" + (20_000).to_bytes(4, "little") + b"a" * 20_000
BYTES = b"B" + (20_000).to_bytes(4, "little") + b"a\0\0\0" * 5000


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b".", id="a byte array of a terabyte"),
        pytest.param(b"\x80\x03Nr" + (2**31 - 1).to_bytes(4, "little") + b".N.", id="two thousand million objects"),
        pytest.param(b"(" * 10 + b"cnumpy\nndarray\n(I999999999999\ntR.", id="an array of terabytes"),
        pytest.param(b"cnumpy\ndtype\n(S'V8'\ntR.", id="a structure"),
        pytest.param(
            b"cnumpy\ndtype\n(S'f8'\ntR(I3\nS'|'\nN(S'a'\nt}S'a'\n(cnumpy\ndtype\n(S'O8'\ntRI0\ntsI8\nI1\nI0\ntb.",
            id="numbers that are pointers",
        ),
        pytest.param(NDARRAY + b"(I1\n(I9\ntcnumpy\ndtype\n(S'f8'\ntRI00\nS'short'\ntb.", id="too few bytes"),
        pytest.param(NDARRAY + b"(I1\n(I-1\ntcnumpy\ndtype\n(S'f8'\ntRI00\nS'12345678'\ntb.", id="negative"),
        pytest.param(b"c_codecs\nencode\n}S'__doc__'\nS'x'\nsb.", id="the state of a function"),
        pytest.param(b"]" * 10_000 + b"a" * 9999 + b".", id="nested without end"),
        pytest.param(b"I" + b"9" * 10_000 + b"\n.", id="a number without end"),
        pytest.param(
            b"c_codecs\nencode\np0\n(" + TEXT + b"S'latin1'\ntp1\n0](" + b"g0\ng1\nR" * 1000 + b"e.",
            id="text, again and again",
        ),
        pytest.param(
            b"cnumpy.core.multiarray\nscalar\np0\n(cnumpy\ndtype\n(S'U5000'\ntR"
            + BYTES
            + b"tp1\n0]("
            + b"g0\ng1\nR" * 1000
            + b"e.",
            id="scalars, again and again",
        ),
        pytest.param(
            b"(I1\n(I20000\ntcnumpy\ndtype\n(S'S1'\ntRI00\n"
            + BYTES
            + b"tp1\n0]("
            + (NDARRAY + b"g1\nb") * 2000
            + b"e.",
            id="arrays, again and again",
        ),
        pytest.param(
            b"(I1\n(I5000\ntcnumpy\ndtype\n(S'O8'\ntRI00\n]("
            + b"N" * 5000
            + b"etp1\n0]("
            + (NDARRAY + b"g1\nb") * 1000
            + b"e.",
            id="arrays of objects, again and again",
        ),
    ],
)
def test_a_pickle_made_to_do_harm_does_none(tmp_path, data):
    (tmp_path / "1.npy").write_bytes(pickled(data))
    tracemalloc.start()
    try:
        assert load_plain(tmp_path / "1.npy") is None
    except DataError as error:
        assert str(error).startswith(f"{tmp_path / '1.npy'}: ") and "\n" not in str(error)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


class Code:
    """Runs a command when unpickled the ordinary way."""

    def __reduce__(self):
        return os.system, ("touch should_not_exist",)


@pytest.mark.parametrize("wrap", [lambda code: {"pose_landmarks": code}, lambda code: [code], lambda code: code])
def test_pickle_with_code_is_refused(tmp_path, monkeypatch, wrap):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "evil.npy", np.array(wrap(Code()), dtype=object))
    with pytest.raises(DataError, match=r"evil\.npy: refused: the file holds code \((posix|nt)\.system\)"):
        load_plain(tmp_path / "evil.npy")
    assert not (tmp_path / "should_not_exist").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile", "_codecs.decode"])
def test_only_array_constructors_are_known(tmp_path, name):
    module, _, function = name.rpartition(".")
    with (tmp_path / "evil.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        stream.write(f"c{module}\n{function}\n(S'x'\ntR.".encode())
    with pytest.raises(DataError, match="refused"):
        load_plain(tmp_path / "evil.npy")


def test_plain_values_load(tmp_path):
    value = {"a": [(1, 0.5, np.float64(2.5))], "b": np.arange(3), "c": "text"}
    np.save(tmp_path / "plain.npy", value)
    loaded = load_plain(tmp_path / "plain.npy")
    assert loaded["a"] == value["a"] and loaded["c"] == "text"
    np.testing.assert_array_equal(loaded["b"], value["b"])
    np.save(tmp_path / "array.npy", np.eye(2))
    np.testing.assert_array_equal(load_plain(tmp_path / "array.npy"), np.eye(2))


def test_wav2lip_folder_becomes_a_clip_folder(tmp_path):
    folder = tmp_path / "old" / "s1" / "001"
    folder.mkdir(parents=True)
    for k in (0, 1, 3):
        cv2.imwrite(os.fspath(folder / f"{k}.jpg"), np.full((70 + k, 60, 3), (200, 30, 30), np.uint8))
    sound = (0.2 * np.sin(np.arange(16000) / 20)).astype(np.float32)
    media.write_wav(folder / "audio.wav", sound)
    report = convert_legacy("wav2lip", {"faces": tmp_path / "old"}, tmp_path / "out", size=96, progress=False)
    assert report.ok_ids == ["s1/001"], report.table()
    clip = ClipFolder(tmp_path / "out/s1/001")
    faces = clip.faces("faces@96-frame-mesh-relative-0")
    assert len(faces) == 4 and faces[3].shape == (96, 96, 3) and not faces.valid[2]
    assert faces[0][40, 40, 2] > 180 and faces[0][40, 40, 0] < 60
    np.testing.assert_allclose(clip.audio(), sound, atol=1e-4)
    assert clip.mel("mel@reflect").shape == (80, 81)


def test_pictures_of_a_faster_video_are_refused(tmp_path):
    folder = tmp_path / "old/s1/001"
    folder.mkdir(parents=True)
    for k in range(30):
        cv2.imwrite(os.fspath(folder / f"{k}.jpg"), np.full((60, 60, 3), 90, np.uint8))
    media.write_wav(folder / "audio.wav", (0.2 * np.sin(np.arange(16000) / 20)).astype(np.float32))
    report = convert_legacy("wav2lip", {"faces": tmp_path / "old"}, tmp_path / "out", progress=False)
    assert "30 pictures for 1.00 s of sound are more than 25 per second" in report.rejected["s1/001"]


def test_a_converter_of_a_plug_in_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_converter.py").write_text(
        "from talkingface.preprocess.converters.base import Converter, register_converter\n"
        "@register_converter('mine')\n"
        "class Mine(Converter):\n"
        "    def convert(self, clip_id, target):\n"
        "        return {'frames': 3, 'steps': {}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "my_converter")
    monkeypatch.setattr(base, "CONVERTERS", dict(base.CONVERTERS))
    (tmp_path / "old/s1/001").mkdir(parents=True)
    report = convert_legacy("mine", {"faces": tmp_path / "old"}, tmp_path / "out", progress=False)
    assert report.ok_ids == ["s1/001"] and ClipFolder(tmp_path / "out/s1/001").imported == "mine"
    with pytest.raises(DataError, match="unknown old layout 'wav2lips', did you mean 'wav2lip'"):
        convert_legacy("wav2lips", {}, tmp_path / "out")


def test_missing_and_empty_roots_are_named(tmp_path):
    with pytest.raises(DataError, match="nothing: the folder with the iplap landmarks does not exist"):
        convert_legacy("iplap", {"landmarks": tmp_path / "nothing"}, tmp_path / "out")
    with pytest.raises(DataError, match="'wav2lip' needs --faces=FOLDER: the folder with its faces"):
        convert_legacy("wav2lip", {}, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no <speaker>/<clip> folders"):
        convert_legacy("wav2lip", {"faces": tmp_path / "empty"}, tmp_path / "out")
