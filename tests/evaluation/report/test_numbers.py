"""How figures are named and numbers written."""

from __future__ import annotations

from talkingface.evaluation.metric import Figure
from talkingface.evaluation.report.numbers import depends_on, interval, label, number


def test_a_figure_carries_what_its_number_depends_on():
    definition = {"variant": "piq", "region": "mouth", "weights": {"sha256": "1"}}
    assert label("psnr_mouth", Figure("dB", True, ""), definition) == "psnr_mouth (piq, mouth, dB, higher is better)"
    assert label("av_lag", Figure("", None, ""), {}) == "av_lag"


def test_nothing_is_said_twice():
    assert depends_on({"variant": "clip, valid padding", "protocol": "clip"}) == "clip, valid padding"
    assert depends_on({"net": "alex", "region": "frame", "protocol": None}) == "frame, alex"


def test_numbers_keep_four_digits_below_one():
    assert [number(value) for value in (0.123456, -0.5, 12.3456, 0.0, None)] == ["0.1235", "-0.5", "12.35", "0", "-"]
    assert interval((0.1, 20.0)) == "[0.1, 20.00]"
    assert interval(None) == ""
