"""What a page shows first: a typical clip in every version, then a few figures; all else is folded."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from helpers.results import give_videos, make_result
from talkingface.evaluation.metric import Figure
from talkingface.evaluation.report.compare import compare_runs
from talkingface.evaluation.report.evidence import typical, typical_clip
from talkingface.evaluation.report.main_figures import main_figures
from talkingface.evaluation.report.plots import WIDTH, Lane, strip_plot
from talkingface.evaluation.report.write import write_report
from talkingface.media import VideoReader, VideoWriter, write_image

SHADES = {"real": 40, "generated": 120, "shuffled": 200}
CLIPS = dict(zip("abcde", (0.1, 0.8, 0.5, 0.6, 0.9)))


class Order(HTMLParser):
    """What stands on a page, in order, with the number of folds around it: (tag or text, address, folds)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, int]] = []
        self.folds = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.folds += tag == "details" and "open" not in attributes
        self.seen.append((tag, attributes.get("id") or attributes.get("src") or "", self.folds))

    def handle_endtag(self, tag):
        self.folds -= tag == "details"

    def handle_data(self, data):
        self.seen.append((data.strip(), "", self.folds))

    def unfolded(self, tag: str) -> list[str]:
        return [address for name, address, folds in self.seen if name == tag and not folds]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """One small video per row, of a grey of its own."""
    folder = tmp_path_factory.mktemp("evidence")
    for name, shade in SHADES.items():
        with VideoWriter(folder / f"{name}.mp4", fps=25, size=(64, 64)) as writer:
            for _ in range(4):
                writer.write(np.full((64, 64, 3), shade, np.uint8))
    return {name: folder / f"{name}.mp4" for name in SHADES}


def evaluation(folder, videos, figures=2, **provenance):
    """A written evaluation of `figures` figures with a picture strip of its typical clip `d`."""
    result = make_result({row: {"ssim": CLIPS, "m_lmd": CLIPS} for row in SHADES}, **provenance)
    for index in range(figures - 2):
        result.figures[f"extra_{index}"] = Figure("", True, "more")
        for row in result.rows.values():
            row.values[f"extra_{index}"], row.scored[f"extra_{index}"] = 0.5, len(CLIPS)
    write_image(folder / "samples" / "d.png", np.full((8, 8, 3), 90, np.uint8))
    write_report(give_videos(result, videos), folder, html=True)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_strip_and_film_of_the_typical_clip_come_before_the_figures(tmp_path, videos):
    text = evaluation(tmp_path, videos)
    page = Order(text)
    tags = [entry for entry in page.seen if entry[0] in ("section", "img", "video", "table") and not entry[2]]
    order = [address if tag == "section" else tag for tag, address, _ in tags]
    assert order == ["evidence", "img", "video", "results", "table"]
    assert "The clip <b>d</b>, nearest to the median of <code>ssim</code> (0.6)" in text
    (tmp_path / "film.mp4").write_bytes(base64.b64decode(page.unfolded("video")[0].split(",")[1]))
    frame = next(iter(VideoReader(tmp_path / "film.mp4"))).astype(int)
    shown = [frame[60, column].mean() for column in (32, 96, 160)]
    assert shown == pytest.approx([SHADES["real"], SHADES["generated"], SHADES["shuffled"]], abs=6)


def test_a_comparison_shows_one_clip_by_every_run(tmp_path, videos):
    for name in ("one", "two"):
        evaluation(tmp_path / name / "eval", videos, model=name.title())
    compare_runs([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    page = Order((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert len(page.unfolded("img")) == 2 and len(page.unfolded("video")) == 1
    assert page.unfolded("section") == ["evidence", "results"]
    assert {"differences", "films", "runs"} <= {address for name, address, folds in page.seen if folds}


def test_six_figures_stand_unfolded_and_all_of_them_below(tmp_path, videos):
    text = evaluation(tmp_path, videos, figures=12)
    keys = [(name, folds) for name, _, folds in Order(text).seen if name in ("ssim", "m_lmd") or name[:5] == "extra"]
    assert [key for key, folds in keys if not folds and key != "ssim"] == ["m_lmd", *(f"extra_{i}" for i in range(4))]
    assert {"extra_9", "av_lag"} <= {name for name, _, folds in Order(text).seen if folds}
    assert "All 12 figures" in text and len(Order(text).unfolded("table")) == 1


def test_few_figures_are_not_folded_and_without_videos_the_curves_are_what_is_seen(tmp_path):
    result = make_result({"seen": {"ssim": CLIPS}})
    for clip in result.clips:
        clip.curves = {"expert": [0.1, 0.9, 0.2]}
    write_report(result, tmp_path, html=True)
    page = Order((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.unfolded("section") == ["results"] and "offsets" in page.unfolded("div")
    assert not any(name.startswith("All ") for name, *_ in page.seen)


def test_how_many_clips_there_are_is_said_once_per_table(tmp_path, videos):
    text = evaluation(tmp_path, videos, figures=12)
    assert len(re.findall(r"n = \d", text)) == len(re.findall("<caption>", text)) == 2
    assert "<caption>n = 5 clips; means over clips" in text


def test_every_link_of_the_contents_leads_to_a_place(tmp_path, videos):
    text = evaluation(tmp_path, videos, figures=12)
    wanted = re.findall(r'<a href="#([^"]+)"', text)
    assert len(wanted) > 4 and all(f'id="{address}"' in text for address in wanted)


def test_the_typical_clip_is_the_nearest_to_the_median():
    assert typical(CLIPS) == "d" and typical({"a": 1.0, "b": 2.0}) == "a" and typical({}) is None
    assert typical_clip(make_result({"generated": {"ssim": CLIPS}})) == "d"
    assert typical_clip(make_result({"seen": {"ssim": CLIPS}})) is None


def test_main_figures_begin_with_lip_sync_and_leave_out_what_has_no_direction():
    known = ["ssim", "own", "av_lag", "psnr_mouth", "lse_c", "mouth_corr"]
    directed = [key for key in known if key != "av_lag"]
    assert main_figures(known, directed, 5) == ["mouth_corr", "lse_c", "psnr_mouth", "ssim", "own"]
    assert main_figures(["x", "y"], []) == ["x", "y"]


def points(svg: str, style: str) -> list[float]:
    part = svg[svg.index(f'<g class="{style}">') :]
    return [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', part[: part.index("</g>")])]


def test_the_real_row_does_not_squeeze_the_axis():
    judged = Lane("generated", "m0", {"a": 27.0, "b": 28.0, "c": 29.0}, 28.0)
    far = Lane("real", "s-real", dict.fromkeys("abc", 80.0), 80.0, reference=True)
    svg = strip_plot("psnr", [judged, far])
    spread = points(svg, "m0")
    assert max(spread) - min(spread) > 0.8 * WIDTH
    assert "80.00" in svg and "beyond this axis" in svg and 'class="s-real beyond"' in svg
    near = Lane("real", "s-real", dict.fromkeys("abc", 30.0), 30.0, reference=True)
    svg = strip_plot("psnr", [judged, near, far])
    assert len(points(svg, "s-real")) == 3 and svg.count("beyond this axis") == 1


def test_reference_rows_alone_have_an_axis_too():
    svg = strip_plot("psnr", [Lane("real", "s-real", {"a": 80.0, "b": 79.0}, 79.5, reference=True)])
    assert len(points(svg, "s-real")) == 2 and "beyond" not in svg
