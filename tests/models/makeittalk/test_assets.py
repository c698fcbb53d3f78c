"""The canonical face of our own, and the constants of the official folder."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from helpers.dumps import Runs
from talkingface.errors import DataError
from talkingface.faces.ibug68 import MIRRORED, mouth_openings
from talkingface.models.makeittalk.assets import read_canonical, read_mel_scale, read_style, read_voice
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.make_canonical import make_canonical


def test_the_canonical_face_is_what_its_making_gives():
    np.testing.assert_allclose(make_canonical(), canonical_face(), atol=2e-4)


def test_the_canonical_face_is_symmetrical_upright_and_of_unit_size():
    face = canonical_face()
    np.testing.assert_array_equal(face[[36, 45]], [[-0.5, 0, 0], [0.5, 0, 0]])
    np.testing.assert_allclose(face[list(MIRRORED)] * [-1, 1, 1], face, atol=1.1e-4)
    assert face[8, 1] == face[:, 1].max() and face[30, 2] == face[:, 2].max() and face[0, 2] < 0
    assert mouth_openings(face) < 0.01
    with pytest.raises(ValueError, match="read-only"):
        face[0] = 0


def written(path, numbers, form="%.6f", between="\n"):
    path.write_text(between.join(form % number for number in np.ravel(numbers)) + "\n")
    return path


def test_constants_are_read_however_they_are_spaced(tmp_path):
    random = np.random.default_rng(0)
    face, voice, scale = random.normal(size=(68, 3)), random.random(256), random.uniform(0.1, 1, (2, 80))
    np.savetxt(tmp_path / "face.txt", face)
    np.testing.assert_allclose(read_canonical(tmp_path / "face.txt"), face)
    np.testing.assert_allclose(read_voice(written(tmp_path / "voice.txt", voice, between=", ")), voice, atol=1e-6)
    mean, deviation = read_mel_scale(written(tmp_path / "mel.txt", scale))
    np.testing.assert_allclose([mean, deviation], scale, atol=1e-6)
    rows = read_mel_scale(tmp_path / "mel.txt").normalised(np.stack([mean, mean + deviation]))
    np.testing.assert_allclose(rows, [[0] * 80, [1] * 80], atol=1e-6)
    assert rows.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "expected 256 finite numbers, found 3"),
        ("nan " * 256, "expected 256 finite numbers"),
        ("import os\n" * 256, "expected 256 numbers and nothing else"),
        ("1 " * 2**20, "too large for 256 numbers"),
        (None, "no such file; it is part of MakeItTalk's official folder"),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "obama_emb.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=rf"obama_emb\.txt: {message}"):
        read_voice(path)


def test_a_style_is_a_speaker_of_the_imported_file(tmp_path):
    path, vector = tmp_path / "emb.pickle", np.random.default_rng(0).normal(size=256)
    path.write_bytes(pickle.dumps({"iWeklsXc0H8": vector, "wrong": np.ones(3)}))
    np.testing.assert_allclose(read_style(path, "iWeklsXc0H8"), vector, atol=1e-6)
    with pytest.raises(DataError, match=r"emb.pickle: .*iWeklsXc0H9.*iWeklsXc0H8"):
        read_style(path, "iWeklsXc0H9")
    with pytest.raises(DataError, match="'wrong' has no vector of 256"):
        read_style(path, "wrong")
    path.write_bytes(pickle.dumps({"iWeklsXc0H8": Runs()}))
    with pytest.raises(DataError, match="refused: the file holds code"):
        read_style(path, "iWeklsXc0H8")


def test_deviations_of_zero_are_refused(tmp_path):
    with pytest.raises(DataError, match="deviations above zero"):
        read_mel_scale(written(tmp_path / "mel.txt", np.zeros(160)))
