"""JSON, JPEG headers and wave files of strangers."""

from __future__ import annotations

import wave

import cv2
import numpy as np
import pytest

from talkingface.errors import DataError
from talkingface.stored.jsons import parse_json, read_json
from talkingface.stored.pictures import jpeg_size, png_size
from talkingface.stored.waves import read_wav


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not JSON"),
        (b'{"a": 1', "is not JSON"),
        (b'{"a": "\xe9"}', "is not UTF-8 text"),
        (b"\xff\xfe{\0}\0", "is not UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 90 + b"]" * 90, "nested too deeply"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands there twice"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "is not JSON"),
        (b" " * (2**24 + 1), "more than such a file can have"),
    ],
)
def test_bad_json_is_one_line(tmp_path, data, why):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DataError, match=rf"a\.json: .*{why}") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_what_windows_programs_write_in_front_does_no_harm(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": [1, null]}')
    assert read_json(tmp_path / "a.json") == parse_json('{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_the_size_of_a_jpeg_is_read_from_its_header(options):
    data = cv2.imencode(".jpg", np.zeros((30, 50, 3), np.uint8), options)[1].tobytes()
    assert jpeg_size(data) == (30, 50)
    assert all(jpeg_size(data[:cut]) in (None, (30, 50)) for cut in range(len(data)))
    png = cv2.imencode(".png", np.zeros((30, 50, 3), np.uint8))[1].tobytes()
    assert all(png_size(png[:cut]) is None for cut in range(len(png)))
    assert png_size(png[:8] + b"\xb2" + png[9:]) is None, "a part that is longer than the file"
    assert (jpeg_size(png), png_size(png), png_size(data), png_size(png[:20])) == (None, (30, 50), None, None)


def write(path, rate=16000, channels=1, width=2, data=b"\1\0" * 100):
    with wave.open(str(path), "wb") as stream:
        stream.setparams((channels, width, rate, 0, "NONE", ""))
        stream.writeframes(data)
    return path.read_bytes()


def test_a_wave_file_is_what_its_header_says_or_one_line(tmp_path):
    file = tmp_path / "audio.wav"
    whole = write(file)
    np.testing.assert_array_equal(read_wav(file, 16000), np.full(100, 1 / 32768, np.float32))
    huge = whole[:40] + (2**32 - 2).to_bytes(4, "little") + whole[44:]
    stereo, fast, bytes8 = (write(file, **o) for o in ({"channels": 2}, {"rate": 44100}, {"width": 1}))
    for data in (b"", whole[:30], whole[:-1], whole[:-2], huge, stereo, fast, bytes8, whole[:44], b"RIFX" + whole[4:]):
        file.write_bytes(data)
        with pytest.raises(DataError, match=r"audio\.wav: .*preprocess again$"):
            read_wav(file, 16000)
