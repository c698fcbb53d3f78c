"""Pictures of offset curves."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from talkingface.lipsync.expert.plots import plot_clips
from talkingface.lipsync.expert.scores import Sweep
from talkingface.media import read_image


def test_panels_without_a_clip_stay_empty(tmp_path, monkeypatch):
    empty = []
    monkeypatch.setattr(Axes, "set_axis_off", lambda axes: empty.append(axes))
    curves = {f"clip{index}": Sweep(np.linspace(0, 1, 31)) for index in range(5)}
    plot_clips({"seen": curves}, tmp_path / "clips.png")
    assert len(empty) == 3  # five clips in two rows of four
    assert read_image(tmp_path / "clips.png").ndim == 3


def test_every_group_gets_the_same_share_of_the_panels(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda axes, text, **_: titles.append(text))
    curve = Sweep(np.linspace(0, 1, 31))
    groups = {"seen": {f"s{index}": curve for index in range(9)}, "unseen": {f"u{index}": curve for index in range(3)}}
    plot_clips(groups, tmp_path / "clips.png", most=4)
    assert [title.partition(":")[0] for title in titles] == ["seen s0", "seen s1", "unseen u0", "unseen u1"]
