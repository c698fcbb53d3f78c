"""Puppets: their files, what is computed where one is missing or wrong, and how they are drawn."""

from __future__ import annotations

import logging
import shutil

import cv2
import numpy as np
import pytest
from scipy.spatial import Delaunay

from talkingface.errors import DataError, NoFaceError, OutputError
from talkingface.faces.warp import signed_areas
from talkingface.media import read_image, write_image
from talkingface.models.makeittalk.puppet.cartoon import draw_cartoon
from talkingface.models.makeittalk.puppet.check import check_puppet
from talkingface.models.makeittalk.puppet.mesh import LAYOUTS, border, mouth_gap, triangulated, vertices
from talkingface.models.makeittalk.puppet.new import new_puppet
from talkingface.models.makeittalk.puppet.puppet import PuppetFiles, find_puppet, load_puppet
from talkingface.models.makeittalk.puppet.text import read_points, write_points, write_rows
from talkingface.models.makeittalk.puppet.warp import PuppetWarp
from talkingface.models.makeittalk.space import Placement

LOWER = [55, 56, 57, 58, 59, 65, 66, 67]
SIZE = (171, 128)  # a quarter of the 683 x 512 of a published one


def make(folder, size=SIZE, mouth=0.12, name="toon"):
    """A puppet as `puppet new` writes it."""
    picture, points = draw_cartoon(size, mouth)
    write_image(folder / f"{name}.png", picture)
    write_rows(folder / "points.txt", points, ".4f")
    return new_puppet(folder / f"{name}.png", folder / "points.txt")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("toon"))


@pytest.fixture
def files(made, tmp_path):
    """A puppet of the test's own."""
    shutil.copytree(made.picture.parent, tmp_path, dirs_exist_ok=True)
    return PuppetFiles.beside(tmp_path / made.picture.name)


def published(files, count):
    """The same puppet as an old one with so many vertices: no editable file, another mesh."""
    points, layout = read_points(files.open_mouth), LAYOUTS[count]
    placed = vertices(points, read_image(files.picture).shape[:2], layout)
    triangles = Delaunay(placed).simplices
    back = signed_areas(placed, triangles) < 0
    triangles[back] = triangles[back][:, ::-1]
    write_rows(files.triangles, triangles, "d")
    files.edited.unlink()
    return load_puppet(files.picture)


def distance(first, second):
    return int(np.abs(first.astype(int) - second).max())


# -- the mesh and the warp ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", ["far", "border"])
@pytest.mark.parametrize(("count", "points", "along"), [(80, 68, 12), (76, 68, 8), (68, 56, 12), (64, 56, 8)])
def test_a_puppet_that_does_not_move_is_its_drawing(files, count, points, along, anchor):
    puppet = published(files, count)
    assert (len(puppet.layout.points), puppet.layout.border) == (points, along)
    shown, opacity = PuppetWarp(puppet, anchor)(puppet.points)
    assert distance(shown, puppet.shown) <= 1 and distance(opacity, puppet.opacity) <= 1


@pytest.mark.parametrize("anchor", ["far", "border"])
@pytest.mark.parametrize("count", [80, 76, 68, 64])
def test_a_puppet_that_moves_has_neither_holes_nor_stray_parts(files, count, anchor):
    puppet = published(files, count)
    opaque = np.full_like(puppet.opacity, 255)
    object.__setattr__(puppet, "opacity", opaque)
    object.__setattr__(puppet, "shown", np.full_like(puppet.shown, 90))
    moved = puppet.points + [9, -7]
    moved[LOWER, 1] += 6
    shown, opacity = PuppetWarp(puppet, anchor, "drawn")(moved)
    assert (opacity == 255).all() and distance(shown, np.full_like(shown, 90)) == 0


def test_a_large_drawing_of_odd_size_keeps_its_edges(tmp_path):
    puppet = load_puppet(make(tmp_path, (683, 513)).picture)
    outline = (puppet.opacity > 128).sum()
    for anchor in ("far", "border"):
        draw = PuppetWarp(puppet, anchor)
        shown, opacity = draw(puppet.points)
        assert distance(shown, puppet.shown) <= 1 and distance(opacity, puppet.opacity) <= 1
        swayed = (draw(puppet.points + [6.5, -4.25])[1] > 128).astype(np.uint8)
        assert abs(int(swayed.sum()) - outline) < 0.01 * outline and not swayed[[0, -1]].any()
        closed = cv2.morphologyEx(swayed, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        assert closed.sum() - swayed.sum() < 0.002 * outline, "no hairline between triangles"


def test_what_surrounds_the_face_follows_it_with_a_far_border_and_no_part_is_seen_twice(files):
    puppet = load_puppet(files.picture)
    _, opacity = PuppetWarp(puppet, "far")(puppet.points + [0, 30])
    top = np.flatnonzero((puppet.opacity > 128).any(axis=1))[0]
    assert abs(np.flatnonzero((opacity > 128).any(axis=1))[0] - (top + 30)) <= 1
    assert not opacity[: top + 26].any()
    _, held = PuppetWarp(puppet, "border")(puppet.points + [0, 30])
    assert np.flatnonzero((held > 128).any(axis=1))[0] < top + 28


def test_later_triangles_are_drawn_over_earlier_ones_and_hidden_colour_stays_hidden(files):
    puppet = load_puppet(files.picture)
    moved = puppet.points.copy()
    moved[[31, 32, 33, 34, 35], 1] -= 40  # the nose over the eyes: its triangles turn over
    first = PuppetWarp(puppet)(moved)[0]
    object.__setattr__(puppet, "triangles", puppet.triangles[::-1])
    assert distance(first, PuppetWarp(puppet)(moved)[0]) > 20
    shown, opacity = PuppetWarp(puppet)(puppet.points + 0.5)
    edge = (opacity > 0) & (opacity < 255)
    assert edge.any() and (shown[edge].astype(int) >= 255 - opacity[edge][:, None].astype(int) - 1).all()


def test_a_closed_mouth_opens_dark_and_an_open_one_to_what_is_drawn_in_it(tmp_path):
    insides = {}
    for name, mouth in (("open", 0.12), ("shut", 0.0)):
        puppet = load_puppet(make(tmp_path, (256, 256), mouth, name).picture)
        wide = puppet.points.copy()
        wide[LOWER, 1] += 14
        centre = np.rint(wide[60:68].mean(axis=0)).astype(int)
        part = (slice(centre[1] - 2, centre[1] + 3), slice(centre[0] - 4, centre[0] + 5))
        for interior in ("auto", "drawn", "dark"):
            insides[name, interior] = PuppetWarp(puppet, interior=interior)(wide)[0][part].mean()
    assert insides["open", "auto"] == insides["open", "drawn"]
    assert insides["shut", "auto"] == insides["shut", "dark"] < insides["shut", "drawn"] - 30


def test_a_new_mesh_keeps_the_lines_of_the_face_and_survives_points_that_are_equal():
    for mouth in (0.12, 0.0):
        _, points = draw_cartoon(SIZE, mouth)
        points[49] = points[48]
        triangles = triangulated(points, SIZE)
        assert len(np.unique(triangles)) == 80
        areas = signed_areas(vertices(points, SIZE, LAYOUTS[80]), triangles)
        assert areas.min() > -2 and areas.sum() / 2 == pytest.approx((SIZE[0] - 1) * (SIZE[1] - 1), rel=1e-3)
        inner = [set(triangle) & set(range(60, 68)) for triangle in triangles.tolist()]
        across = [t for t, lips in zip(triangles.tolist(), inner, strict=True) if {62, 66} <= lips]
        assert all(set(triangle) <= set(range(60, 68)) for triangle in across), "lips hang on what is between them"


def test_the_border_has_the_published_order_and_is_pushed_outwards_alone():
    twelve = border((401, 201), 12)
    assert twelve[[0, 1, 4, 5, 7, 9]].tolist() == [[0, 0], [0, 100], [0, 400], [100, 400], [200, 200], [50, 0]]
    assert border((401, 201), 8)[[1, 3, 7]].tolist() == [[0, 200], [100, 400], [100, 0]]
    far = border((401, 201), 12, "far")
    assert far[[0, 1, 5, 7]].tolist() == [[-5000, -5000], [-5000, 100], [100, 5400], [5200, 200]]


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_puppet_is_found_by_its_picture_or_its_folder(files, tmp_path):
    assert find_puppet(files.picture) == find_puppet(tmp_path) == files
    write_image(tmp_path / "other.png", np.zeros((8, 8, 3), np.uint8))
    assert find_puppet(tmp_path / "other.png") is None and find_puppet(tmp_path) == files
    make(tmp_path, name="second")
    with pytest.raises(DataError, match="holds 2 puppets"):
        find_puppet(tmp_path)
    write_image(tmp_path / "toon_bg.jpg", np.zeros((8, 8, 3), np.uint8))
    assert find_puppet(files.picture).background == tmp_path / "toon_bg.jpg"


@pytest.mark.parametrize("gone", ["scale_shift", "closed_mouth", "triangles", "normalised"])
def test_a_file_that_is_missing_is_computed(files, caplog, gone):
    whole = load_puppet(files.picture)
    getattr(files, gone).unlink()
    with caplog.at_level(logging.WARNING, "talkingface"):
        found = load_puppet(files.picture)
    np.testing.assert_allclose(found.closed, whole.closed, atol=1e-3)
    np.testing.assert_allclose(found.placement.scale, whole.placement.scale, rtol=1e-6)
    np.testing.assert_array_equal(found.triangles, whole.triangles)
    assert not caplog.text
    assert any("is not there, and is computed" in line for line in check_puppet(files.picture))


def test_a_closed_face_that_lies_elsewhere_is_made_anew_and_told_of(files, caplog):
    whole = load_puppet(files.picture)
    shifted = np.loadtxt(files.closed_mouth) + [0.3, 0, 0]
    write_rows(files.closed_mouth, shifted, ".4f")
    with caplog.at_level(logging.WARNING, "talkingface"):
        found = load_puppet(files.picture)
    assert "the closed mouth is made from that one" in caplog.text and caplog.text.count("\n") == 1
    np.testing.assert_allclose(found.closed, whole.closed, atol=1e-3)
    assert any("pixels beside the face" in line for line in check_puppet(files.picture))


def test_points_that_were_edited_count_from_then_on(files, caplog):
    moved = read_points(files.edited)
    text = files.edited.read_text()
    first = f"[{moved[8, 0]}, {moved[8, 1]}]"
    assert first in text
    files.edited.write_text(text.replace(first, f"[{moved[8, 0]}, {moved[8, 1] + 5}]"))
    with caplog.at_level(logging.WARNING, "talkingface"):
        assert load_puppet(files.picture).points[8, 1] == pytest.approx(moved[8, 1] + 5)
    assert "was edited" in caplog.text and f"`puppet new {files.picture}`" in caplog.text
    assert any(f"`puppet new {files.picture}`" in line for line in check_puppet(files.picture))
    new_puppet(files.picture)
    caplog.clear()
    assert load_puppet(files.picture).points[8, 1] == pytest.approx(moved[8, 1] + 5)
    assert not caplog.text and not check_puppet(files.picture)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("open_mouth", "1 2 3\n" * 67, "has 67 lines of 3 numbers, expected 68 lines of 2 or 3"),
        ("open_mouth", "1 x 3\n" * 68, "could not convert"),
        ("open_mouth", "1 nan 3\n" * 68, "not finite"),
        ("open_mouth", "7 7 1\n" * 68, "both ends of the jaw have the same x"),
        ("closed_mouth", "", "has 0 lines of no numbers"),
        ("scale_shift", "0\n1\n2\n", "0 is no scale of a face"),
        ("triangles", "0 1 2\n3 4 77\n", r"has 78 vertices; puppets have 80 \(68 \+ 12\), 76"),
        ("triangles", "0 1 2.5\n", "vertices"),
    ],
)
def test_a_damaged_file_is_told_of_in_one_line(files, name, text, reason):
    files.edited.unlink()
    getattr(files, name).write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        load_puppet(files.picture)
    assert str(caught.value).startswith(str(getattr(files, name))) and "\n" not in str(caught.value)
    if "jaw" not in reason:
        assert any(
            reason[:12].replace("\\", "") in fault or "expected" in fault for fault in check_puppet(files.picture)
        )


# -- new and check -----------------------------------------------------------------------------------------------------


def test_a_new_puppet_has_all_files_in_the_published_form(files):
    assert all(path.is_file() for path in files) and not check_puppet(files.picture)
    points, normal = np.loadtxt(files.open_mouth), np.loadtxt(files.normalised)
    closed, (scale, *shift) = np.loadtxt(files.closed_mouth), np.loadtxt(files.scale_shift)
    assert points.shape == normal.shape == closed.shape == (68, 3) and (points[:, 2] == 1).all()
    np.testing.assert_allclose(Placement(scale, tuple(shift)).denormalise(normal)[:, :2], points[:, :2], atol=0.05)
    np.testing.assert_allclose(closed[:48], normal[:48], atol=1e-9)
    assert mouth_gap(normal) > 0.1 and mouth_gap(closed) < 1e-3
    assert max(read_image(files.mesh).shape) >= 1000


def test_landmarks_may_come_in_four_forms(files, tmp_path):
    points = read_points(files.open_mouth)
    body = "\n".join(f"{x} {y}" for x, y in points)
    (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{body}\n}}\n")
    (tmp_path / "b.txt").write_text(body)
    (tmp_path / "c.json").write_text(str(points.tolist()))
    for path in (tmp_path / "a.pts", tmp_path / "b.txt", tmp_path / "c.json", files.edited):
        np.testing.assert_allclose(read_points(path), points, atol=0.01)
    (tmp_path / "d.json").write_text('{"landmarks": {"jaw": [[1, 2]]}}')
    with pytest.raises(DataError, match=r"d\.json: landmarks\.jaw must be a list of 17 points"):
        read_points(tmp_path / "d.json")


def test_check_names_what_is_wrong(files):
    points = read_points(files.open_mouth)
    points[0] = [-4, 50]
    points[38] = points[37]
    points[33] = points[27]  # turns triangles over
    write_rows(files.open_mouth, [(x, y, 1) for x, y in points], ".4f")
    files.edited.unlink()
    for path in (files.closed_mouth, files.scale_shift, files.normalised):
        path.unlink()
    faults = "\n".join(check_puppet(files.picture))
    assert "point 0 (-4.0, 50.0) lies outside the picture of 128 x 171 pixels" in faults
    assert "points 37 and 38 are equal" in faults and "is crossed in the drawing" in faults


def test_check_finds_a_closed_face_with_an_open_mouth_and_a_mesh_with_a_hole(files):
    write_rows(files.closed_mouth, np.loadtxt(files.normalised), ".4f")
    write_rows(files.triangles, np.loadtxt(files.triangles, int)[5:], "d")
    faults = "\n".join(check_puppet(files.picture))
    assert "its mouth is open, by" in faults and "% of the picture" in faults


def test_a_face_that_nobody_finds_gets_a_file_to_place_its_points_in(tmp_path):
    pytest.importorskip("mediapipe")
    write_image(tmp_path / "blank.png", np.full((120, 160, 3), 200, np.uint8))
    with pytest.raises(NoFaceError, match=r"blank_puppet\.json has the points of a mean face") as caught:
        new_puppet(tmp_path / "blank.png")
    assert f"`puppet new {tmp_path / 'blank.png'}`" in str(caught.value) and "\n" not in str(caught.value)
    files = new_puppet(tmp_path / "blank.png", tmp_path / "blank_puppet.json")
    assert not check_puppet(files.picture)


def test_points_that_were_placed_by_hand_survive_further_calls(tmp_path, caplog):
    pytest.importorskip("mediapipe")
    write_image(tmp_path / "blank.png", np.full((120, 160, 3), 200, np.uint8))
    files = PuppetFiles.beside(tmp_path / "blank.png")
    for _ in range(2):  # as long as nobody has moved them, nothing is made of the points of the mean face
        with pytest.raises(NoFaceError):
            new_puppet(files.picture)
    placed = read_points(files.edited)
    placed[:, 1] -= 7
    write_points(files.edited, files.picture.name, (120, 160), placed)
    for _ in range(2):  # also where the other files agree with them
        with caplog.at_level(logging.INFO, "talkingface"):
            new_puppet(files.picture)
        assert "blank_puppet.json: its points are used; --overwrite looks for others" in caplog.text
        for file in (files.edited, files.open_mouth):
            np.testing.assert_allclose(read_points(file), placed, atol=0.01)
    assert not check_puppet(files.picture)
    files.edited.write_text(files.edited.read_text().replace("]", "", 1))
    damaged = files.edited.read_text()
    with pytest.raises(DataError, match=r"blank_puppet\.json"):
        new_puppet(files.picture)
    assert files.edited.read_text() == damaged
    with pytest.raises(NoFaceError):
        new_puppet(files.picture, overwrite=True)


def test_files_of_somebody_else_are_not_written_over_and_an_own_folder_gets_the_picture(files, tmp_path):
    files.edited.unlink()
    with pytest.raises(OutputError, match="--overwrite"):
        new_puppet(files.picture, tmp_path / "points.txt")
    other = new_puppet(files.picture, tmp_path / "points.txt", tmp_path / "own")
    assert other == PuppetFiles.beside(tmp_path / "own" / "toon.png") and not check_puppet(tmp_path / "own")
    assert not check_puppet(new_puppet(files.picture, tmp_path / "points.txt", overwrite=True).picture)
    with pytest.raises(DataError, match="outside the picture"):
        write_rows(tmp_path / "far.txt", read_points(files.open_mouth) + 100, ".4f")
        new_puppet(files.picture, tmp_path / "far.txt")


def test_the_command_makes_and_checks_puppets(tmp_path, capsys):
    from talkingface import cli

    picture, points = draw_cartoon(SIZE)
    write_image(tmp_path / "toon.png", picture)
    write_rows(tmp_path / "points.txt", points, ".4f")
    main = cli.main
    assert main(["puppet", "new", str(tmp_path / "toon.png"), f"--landmarks={tmp_path / 'points.txt'}"]) == 0
    assert "toon_mesh.png" in capsys.readouterr().out
    assert main(["puppet", "check", str(tmp_path)]) == 0 and "nothing is wrong" in capsys.readouterr().out
    (tmp_path / "toon_scale_shift.txt").unlink()
    assert main(["puppet", "check", str(tmp_path / "toon.png")]) == 1
    assert main(["puppet", "old", "x"]) == 2 and "puppet new PICTURE" in capsys.readouterr().err
