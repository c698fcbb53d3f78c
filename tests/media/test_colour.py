"""HDR and wide gamut become standard colours, by the values that the standards themselves give."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from talkingface import media
from talkingface.media.colour import HLG, PQ, to_standard

BT709, BT2020, P3 = 1, 9, 12


def grey(level):
    return np.full((2, 2, 3), level, np.uint8)


@pytest.mark.parametrize(("transfer", "signal"), [(HLG, 0.75), (PQ, 0.58)])
def test_reference_white_of_hdr_becomes_nearly_white(transfer, signal):
    """BT.2408, table 1: reference white, 203 cd/m2, is 75 % HLG and 58 % PQ."""
    shown = to_standard(grey(round(255 * signal)), transfer, BT2020)
    assert np.ptp(shown) <= 1 and 248 <= shown.min() <= shown.max() <= 255


@pytest.mark.parametrize(("transfer", "signal"), [(HLG, 0.38), (PQ, 0.38)])
def test_middle_grey_of_hdr_stays_middle_grey(transfer, signal):
    """BT.2408, table 1: a grey card of 18 % (26 cd/m2) is 38 % HLG and 38 % PQ; on a screen of BT.1886 it is 43 %."""
    shown = to_standard(grey(round(255 * signal)), transfer, BT2020)
    assert np.ptp(shown) <= 1 and abs(shown.mean() - 255 * (26 / 203) ** (1 / 2.4)) < 4


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_brighter_stays_brighter_and_black_stays_black(transfer):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    shown = to_standard(ramp, transfer, BT2020)[0, :, 0].astype(int)
    assert shown[0] == 0 and shown[-1] == 255 and (np.diff(shown) >= 0).all()


def test_red_of_a_wide_gamut_is_the_red_that_was_meant():
    """BT.709 red as BT.2020 stores it: (0.6274, 0.0691, 0.0164) of linear light (BT.2087)."""
    stored = np.rint(255 * np.array([0.6274, 0.0691, 0.0164]) ** (1 / 2.4)).astype(np.uint8)
    shown = to_standard(np.tile(stored, (1, 1, 1)), 14, BT2020)[0, 0].astype(int)
    assert shown[0] >= 252 and shown[1:].max() < 30


def test_standard_pictures_are_not_touched():
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert to_standard(picture, 1, BT709) is picture and to_standard(picture, 2, 2) is picture


def test_a_film_in_hlg_is_read_in_standard_colours(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, BT2020, HLG, 1
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), round(255 * 0.38), np.uint8), format="rgb24")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (shown,) = media.VideoReader(path)
    assert abs(shown.mean() - 109) < 6


@pytest.mark.parametrize("colour", [(142, 112, 88), (176, 198, 156), (60, 90, 150)])
def test_colours_of_a_standard_film_come_back_from_hlg(colour):
    """Forward as a converter goes: BT.1886, BT.2087 primaries, 203 of 1000 cd/m2, system gamma 1.2, ARIB STD-B67."""
    light = (np.array(colour) / 255) ** 2.4
    wide = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]) @ light
    scene = (wide * 0.203) ** (1 / 1.2)
    signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073)
    stored = np.tile(np.rint(255 * signal).astype(np.uint8), (1, 1, 1))
    assert np.abs(to_standard(stored, HLG, BT2020)[0, 0].astype(int) - colour).max() <= 3
