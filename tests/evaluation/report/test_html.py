"""`report.html`: everything is in it, nothing is fetched, and whatever a clip is called stays text."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from helpers.media_files import write_video
from helpers.results import give_videos, make_result
from talkingface.errors import OutputError
from talkingface.evaluation.report import plots, showcase
from talkingface.evaluation.report.html import facts
from talkingface.evaluation.report.plots import Curve, Lane, offset_plot, strip_plot
from talkingface.evaluation.report.result import EvalResult, RowResult, safe_name
from talkingface.evaluation.report.showcase import extremes, main_figure
from talkingface.evaluation.report.views import Column, curve_sets, flatten
from talkingface.evaluation.report.write import write_report
from talkingface.media import VideoReader, VideoWriter, probe, write_image

EVIL = 'x/<script>alert("1")</script>'
NAN = float("nan")


class Page(HTMLParser):
    """The elements of a page, its text, and whether every element is closed."""

    VOID = {"meta", "img", "br", "line", "circle", "path", "rect", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A real and a generated video, 1 s of 400 x 400 pixels with sound."""
    folder = tmp_path_factory.mktemp("films")
    tone = np.sin(np.arange(16000) / 20).astype(np.float32) / 2
    for name, shade in (("real", 200), ("generated", 90)):
        with VideoWriter(folder / f"{name}.mp4", fps=25, audio=tone) as writer:
            for index in range(25):
                writer.write(np.full((400, 400, 3), shade + index, np.uint8))
    return {name: folder / f"{name}.mp4" for name in ("real", "generated")}


@pytest.fixture(scope="module")
def result(films):
    clips = [EVIL, "a/1", "a/2", "b/1", "b/2"]
    made = make_result(
        {
            "generated": {
                "ssim": dict(zip(clips, (0.9, 0.8, 0.7, 0.6, 0.5))),
                "m_lmd": dict(zip(clips, (1.0, 2.0, 3.0, 4.0, NAN))),
            },
            "real": {"ssim": dict.fromkeys(clips, 1.0), "m_lmd": dict.fromkeys(clips, 0.0)},
            "still": {"ssim": dict(zip(clips, (0.3, 0.3, 0.2, 0.2, 0.1)))},
        },
        checkpoint="some/best.pt",
        synthetic=True,
        remarks=["synthetic data, no evidence of model quality"],
        landmarks={"provider": "mesh", "version": "1"},
    )
    give_videos(made, films)
    made.figures["lse_c"] = made.figures["ssim"]
    made.metric_of["lse_c"] = "LSE"
    made.unavailable["LSE"] = "weights not found: <here>/syncnet.model"
    made.definitions["ssim"]["weights"] = {"file": "net.pth", "sha256": "ab" * 32, "published": True}
    made.skipped = [("generated", "c/9", "clip", "the file is truncated"), ("still", "a/2", "LMD", "no face found")]
    made.stage_figures = {"toy_l1": 0.125}
    for clip in made.clips:
        sharp = {"generated": 1.0, "real": 2.0, "still": 0.1}[clip.row]
        offsets = np.arange(-10, 11)
        shift = 3 if clip.clip_id == "a/2" else 0
        clip.curves = {
            "lse": list(8 - sharp * np.exp(-((offsets - shift) ** 2) / 4)),
            "expert": [*list(sharp * np.exp(-(offsets[:-1] ** 2) / 4)), NAN],
        }
    return made


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    write_image(out / "samples" / "a_1.png", np.full((40, 60, 3), 120, np.uint8))
    write_report(result, out, html=True)
    return Page((out / "report.html").read_text(encoding="utf-8"))


def test_it_shows_every_figure_row_interval_and_reason(page, result):
    for words in (
        *("Toy on toys", "some/best.pt", "2026-01-02", "mesh 1", "Synthetic data, no evidence of model quality."),
        *("generated", "real", "still", "ssim", "m_lmd", "lse_c", "px", "higher is better", "lower is better"),
        *("piq, frame", "structural similarity", "lips, Euclidean", "net.pth sha256 abababababab", "ab" * 32),
        *("n = 5 of 6 clips", "] n = 4, 1 left out"),
        *("c/9 generated all metrics the file is truncated", "a/2 still LMD no face found"),
        *("LSE lse_c: n/a, weights not found: <here>/syncnet.model", "m_lmd , generated: b/2", "toy_l1 0.125"),
    ):
        assert words in page.text, words
    low, high = result.rows["generated"].intervals["ssim"]
    assert f"0.7000 [{low:.4f}, {high:.4f}] 1.0000" in page.text, "equal digits in a line, and no count in the cells"
    assert page.open == []


def test_nothing_is_fetched_and_nothing_runs(page):
    addresses = [a[name] for _, a in page.elements for name in ("src", "href", "poster", "srcset", "data") if name in a]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "script" not in policy and "http" not in policy


def test_names_of_clips_stay_text(page):
    assert page.text.count(EVIL) >= 2  # film and offset curve
    assert any(EVIL in (attributes.get("aria-label") or "") for attributes in page.all("video"))


def test_films_of_the_best_and_worst_clips_are_inside(page, tmp_path):
    films = page.all("video")
    assert [film["aria-label"].split(":")[0] for film in films] == [
        *("a/2, typical", f"{EVIL}, best 1", "a/1, best 2", "b/1, worst 2", "b/2, worst 1"),
    ]
    (tmp_path / "film.mp4").write_bytes(base64.b64decode(films[1]["src"].removeprefix("data:video/mp4;base64,")))
    info = probe(tmp_path / "film.mp4")
    assert (info.width, info.height, info.has_audio) == (640, 320 + 24, True)
    frame = next(iter(VideoReader(tmp_path / "film.mp4"))).astype(int)
    assert abs(frame[200, 100] - 200).max() < 6 and abs(frame[200, 500] - 90).max() < 6
    assert "best 1 : " + EVIL + ", ssim 0.9" in page.text
    [strip] = page.all("img")
    assert strip["src"].startswith("data:image/jpeg;base64,") and "a/1" in strip["alt"]


def test_plots_and_tables_can_be_read_without_seeing_them(page):
    labels = [a["aria-label"] for a in page.all("svg")]
    assert all(a.get("role") == "img" for a in page.all("svg"))
    assert any(label.startswith("ssim, one point per clip. generated: mean 0.7000 over 5 clips") for label in labels)
    assert any(label == "lse of a/2. generated best at +3 frames; real best at +3 frames" for label in labels)
    assert any(label == "expert of a/1. generated best at 0 frames; real best at 0 frames" for label in labels)
    assert any(label.startswith("lse, mean over clips. generated best at 0 frames") for label in labels)
    assert {a.get("scope") for a in page.all("th")} == {"col", "row", "rowgroup"}
    assert all(a.get("tabindex") == "0" for a in page.all("div") if a.get("role") == "region")


def test_a_result_without_any_value_still_makes_a_page(tmp_path):
    empty = EvalResult(rows={"generated": RowResult()}, figures={})
    write_report(empty, tmp_path / "a", html=True)
    bad = make_result({"generated": {"ssim": {"a": NAN, "b": NAN}}})
    bad.clips[0].curves = {"expert": [NAN, NAN, NAN]}
    write_report(bad, tmp_path / "b", html=True)
    text = Page((tmp_path / "b" / "report.html").read_text()).text
    assert "2 left out" in text and "ssim , generated: a, b" in text and "best at nowhere" in text
    assert json.loads((tmp_path / "b" / "metrics.json").read_text())["rows"]["generated"]["ssim"] is None


def test_rows_of_other_names_have_a_page_too(tmp_path):
    made = make_result({"seen": {"ssim": {"a": 0.5, "b": 0.6}}, "unseen": {"ssim": {"c": 0.4}}})
    made.definitions = {"expert": {"sha256": "c" * 64, "threshold": 0.5}}
    for clip in made.clips:
        clip.curves = {"expert": [0.1, 0.9, 0.2]}
    write_report(made, tmp_path, html=True)
    page = Page((tmp_path / "report.html").read_text())
    assert (
        "best at: seen 0" in page.text
        and "c best at: unseen 0" in page.text
        and "unseen: best at 0 frames" in page.text
    )
    assert f"expert sha256 {'c' * 64} , threshold 0.5" in page.text
    assert "generated" not in page.text and not page.all("video")


def test_missing_and_damaged_videos_are_named_not_fatal(tmp_path, films):
    (tmp_path / "cut.mp4").write_bytes(films["real"].read_bytes()[:300])
    made = make_result({"generated": {"ssim": {"a": 0.1, "b": 0.2, "c": 0.3}}})
    for clip, video in zip(made.clips, ("gone.mp4", "cut.mp4", films["generated"])):
        clip.video, clip.reference = tmp_path / video, tmp_path / "gone_too.mp4"
    write_report(made, tmp_path, html=True)
    page = Page((tmp_path / "report.html").read_text())
    assert len(page.all("video")) == 1
    assert "not there any more: real" in page.text
    assert "no film: the videos are not there any more" in page.text
    assert re.search(r"no film: \S*cut.mp4", page.text)


def test_a_film_over_the_limit_is_left_out_with_its_size(films, monkeypatch):
    monkeypatch.setattr(showcase, "MAX_BYTES", 1000)
    shown = showcase.show("best 1", "a", 0.5, films)
    assert shown.video == "" and "too large for the report" in shown.reason


def test_films_are_cut_to_the_stated_length(tmp_path, monkeypatch):
    monkeypatch.setattr(showcase, "MAX_SECONDS", 0.4)
    video = write_video(tmp_path / "v.mp4", [i / 25 for i in range(50)])
    film, poster = showcase.film_addresses({"real": video})
    (tmp_path / "film.mp4").write_bytes(base64.b64decode(film.split(",")[1]))
    assert len(list(VideoReader(tmp_path / "film.mp4"))) == 10
    assert poster.startswith("data:image/jpeg;base64,")


def test_a_curve_of_a_row_that_is_no_column_is_not_drawn():
    made = make_result({"generated": {"ssim": {"a": 0.1}}, "shuffled": {"ssim": {"a": 0.1}}})
    made.clips[1].curves = {"lse": [1.0, 2.0, 3.0]}
    assert curve_sets([Column("generated", "", "m0", made, "generated")]) == []


def test_where_the_references_come_from_is_not_said_where_nobody_knows():
    known = {"policy": "other_clip", "from_another_clip": 1, "from_the_same_clip": 0}
    made = make_result({}, references=known)
    assert dict(facts(made))["reference frames"] == "from another clip of the speaker for 1 of 1 clips"
    made.provenance["references"] = {"policy": None}
    assert "reference frames" not in dict(facts(made))


NAMES = ["x/y", "x_y", "x_/y", "x/_y", "c 1", "c+1", "c_1", "a" * 300, "a" * 300 + "b", "\u00e9" * 90, "\udce9"]


def test_every_clip_has_a_file_name_of_its_own():
    names = [safe_name(name) for name in NAMES]
    assert len(set(names)) == len(NAMES) and max(len(name.encode()) for name in names) < 120
    assert safe_name("id00/00006") == "id00_00006" and safe_name("M003-a.b") == "M003-a.b"
    assert all(re.fullmatch(r"[\w.~-]+", name) for name in names)
    assert safe_name(names[1]) not in names, "nor does a name look like that of another clip"


def test_an_older_page_is_gone_before_new_numbers_are_there(tmp_path):
    made = make_result({"generated": {"ssim": {"a": 0.1}}})
    write_report(made, tmp_path, html=True)
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(OutputError):
        write_report(made, tmp_path, html=True)
    assert not (tmp_path / "report.html").exists()


def test_an_older_page_does_not_stay_beside_new_numbers(tmp_path):
    made = make_result({"generated": {"ssim": {"a": 0.1}}})
    write_report(made, tmp_path, html=True)
    assert (tmp_path / "report.html").exists()
    write_report(made, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_best_and_worst_follow_the_direction_and_never_repeat_a_clip():
    values = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 5.0}
    up = [("best 1", "e"), ("best 2", "d"), ("worst 2", "b"), ("worst 1", "a")]
    assert extremes(values, True) == up
    assert [clip for _, clip in extremes(values, False)] == [clip for _, clip in reversed(up)]
    assert extremes({"a": 1.0, "b": 2.0, "c": 0.0}, True) == [("best 1", "b"), ("best 2", "a"), ("worst 1", "c")]
    assert extremes({"a": 1.0}, True) == [("best 1", "a")]
    assert extremes({}, True) == []


def test_the_main_figure_is_the_first_that_clips_have():
    made = make_result({"generated": {"m_lmd": {"a": 1.0}, "av_lag": {"a": 2.0}}})
    assert main_figure([made]) == "m_lmd", "a figure without direction has no best"
    other = make_result({"generated": {"ssim": {"a": 1.0}, "m_lmd": {"a": 1.0}}})
    assert main_figure([other]) == "ssim"
    assert main_figure([other, made]) == "m_lmd"
    assert main_figure([make_result({"generated": {"av_lag": {"a": 2.0}}})]) is None
    assert main_figure([make_result({"real": {"ssim": {"a": 2.0}}})]) is None


def positions(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]


def test_points_stand_in_order_of_their_values_and_many_clips_keep_both_ends(monkeypatch):
    values = {f"c{i}": float(v) for i, v in enumerate(np.random.default_rng(0).normal(size=400))}
    svg = strip_plot("ssim", [Lane("generated", "s-generated", values, 0.0, (-0.1, 0.1)), Lane("still", "s-still")])
    drawn = positions(svg)
    assert len(drawn) == plots.MAX_POINTS
    assert drawn == sorted(drawn)
    ends = {min(values, key=values.get), max(values, key=values.get)}
    assert all(f"<title>{clip}:" in svg for clip in ends)
    assert 'aria-label="ssim, one point per clip. generated: mean 0.000 over 400 clips"' in svg


def test_the_mark_of_a_curve_stands_at_its_extreme():
    values = [3.0, 2.0, 5.0, 4.0, 3.5, NAN, 3.0]
    similar, distant = (offset_plot("t", [Curve("c", "m0", values)], low) for low in (False, True))
    assert "c: best at -1 frames" in similar
    assert "c: best at -2 frames" in distant
    both = offset_plot("t", [Curve("c", "m0", values)], True, [Curve("thin", "m0", values)])
    assert both.count('class="m0 faint"') == 1 and both.count("peak") == 1
    assert "M" in re.search(r'd="[^"]*L[^"]*(M)[^"]*"', similar)[0], "a gap is not drawn over"


def test_nested_facts_become_pairs():
    facts = {"a": {"b": 1, "c": True, "d": [1, 2.5]}, "e": None, "f": "x"}
    assert flatten(facts) == [("a.b", "1"), ("a.c", "yes"), ("a.d", "1, 2.5"), ("e", "unknown"), ("f", "x")]
