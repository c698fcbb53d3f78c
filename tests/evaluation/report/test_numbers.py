"""How figures are named and numbers written."""

from __future__ import annotations

from talkingface.evaluation.metric import Figure
from talkingface.evaluation.report.numbers import (
    decimals,
    decimals_of_line,
    depends_on,
    interval,
    label,
    number,
)


def test_a_figure_carries_what_its_number_depends_on():
    definition = {"variant": "piq", "region": "mouth", "weights": {"sha256": "1"}}
    assert label("psnr_mouth", Figure("dB", True, ""), definition) == "psnr_mouth (piq, mouth, dB, higher is better)"
    assert label("av_lag", Figure("", None, ""), {}) == "av_lag"


def test_nothing_is_said_twice():
    assert depends_on({"variant": "clip, valid padding", "protocol": "clip"}) == "clip, valid padding"
    assert depends_on({"net": "alex", "region": "frame", "protocol": None}) == "frame, alex"


def test_a_number_alone_keeps_four_digits_below_one():
    assert [number(value) for value in (0.123456, -0.5, 12.3456, 0.0, None)] == ["0.1235", "-0.5", "12.35", "0", "-"]
    assert interval((0.1, 20.0)) == "[0.1, 20.00]"
    assert interval(None) == ""


def test_numbers_of_one_line_have_equal_digits():
    values = {"generated": 0.9706, "shuffled": 0.5, "real": 1.0, "still": -0.00001}
    places = decimals_of_line(values)
    assert [number(value, places) for value in values.values()] == ["0.9706", "0.5000", "1.0000", "0.0000"]
    assert interval((-0.5, 0.25), places) == "[-0.5000, 0.2500]"


def test_the_largest_number_of_a_line_has_four_digits_and_the_real_row_no_say():
    assert decimals([37.39, 0.5]) == 2 and decimals([0.0182, 0.004]) == 5 and decimals([9.9996]) == 2
    assert decimals([12345.6]) == 0 and decimals([1e-9]) == 6 and decimals([0.0, None]) == 3
    assert decimals_of_line({"generated": 0.5, "real": 80.0}) == 4
    assert decimals_of_line({"generated": 0.0, "real": 80.0}) == decimals_of_line({"real": 80.0}) == 2
