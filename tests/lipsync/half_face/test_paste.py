"""Pasting by each rule: which pixels change, what is looked at, what is said when something is not there."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from helpers.drawn_clips import HEIGHT, WIDTH, DrawnSource
from talkingface.clips.redraw import FrameBatch
from talkingface.errors import DataError
from talkingface.faces.blend import blend_weights
from talkingface.faces.crop import CropConfig, contour_mask
from talkingface.faces.detectors import Place
from talkingface.faces.parsing import parsed_weights
from talkingface.lipsync.half_face.config import HalfFaceInference
from talkingface.lipsync.half_face.paste import Paster
from talkingface.lipsync.half_face.scene import Scene

CROP = CropConfig(size=24, margin_mode="relative", margin=0.05, box="fixed", rule="mesh")
WHITE = np.full((24, 24, 3), 255, np.uint8)


def model(postprocess=None, **settings):
    config = SimpleNamespace(crop=CROP, inference=HalfFaceInference(smooth="none", **settings))
    return SimpleNamespace(config=config, postprocess=postprocess, device="cpu")


class Skin:
    """Stands for the parser: calls the left halves of light pictures skin, of dark ones the right halves."""

    def __init__(self):
        self.asked = []

    def skin(self, faces):
        self.asked += list(faces)
        found = np.zeros((len(faces), 64, 64), bool)
        for map_, face in zip(found, faces, strict=True):
            map_[:, slice(None, 32) if face.mean() > 200 else slice(32, None)] = True
        return found


def pasted(paster: Paster, source: DrawnSource) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Pixels (H, W) of the first frame that changed, and the whole box of its face."""
    before = source.pictures[0]
    part = FrameBatch(np.array([0]), np.array([0]), [before.copy()], np.array([0]))
    paster.paste(part, WHITE[None])
    box = tuple(paster.scene.boxes[0].astype(int))
    return (part.pictures[0] != before).any(axis=-1), box


def test_contour_changes_the_lower_face_inside_its_outline_alone():
    source, built = DrawnSource(3), model(paste="contour", feather=0.08)
    scene = Scene.look(built.config, source)
    changed, (x1, y1, x2, y2) = pasted(Paster.of(built, scene, source), source)
    outline = contour_mask(source.track.points_px[0], (HEIGHT, WIDTH), None)
    rows, columns = np.nonzero(changed)
    middle, soft = (y1 + y2) // 2, 0.1 * (y2 - y1)
    assert changed[middle + 4 : y2, x1:x2].mean() > 0.4 and rows.min() >= middle - soft
    assert not changed[:, :x1].any() and not changed[:, x2:].any() and not changed[y2:].any()
    near = contour_mask(source.track.points_px[0], (HEIGHT, WIDTH), (21, 11.0)) > 0  # the outline, widely softened
    assert not (changed & ~near).any()
    deep = (outline > 0) & (np.arange(HEIGHT) > middle + 6)[:, None] & (np.arange(HEIGHT) < y2 - 8)[:, None]
    inside = deep & np.roll(deep, 8, axis=1) & np.roll(deep, -8, axis=1)
    assert inside.any() and changed[inside].all()


@pytest.mark.parametrize(
    ("parse", "seen", "left", "right"),
    [("original", 1, False, True), ("generated", 1, True, False), ("union", 2, True, True)],
)
def test_parsing_looks_at_the_face_that_is_asked_for(parse, seen, left, right):
    source, built, skin = DrawnSource(3), model(paste="parsing", parse=parse), Skin()
    scene = Scene.look(built.config, source)
    changed, (x1, y1, x2, y2) = pasted(Paster(built, scene, "parsing", skin), source)
    assert len(skin.asked) == seen and all(face.shape[:2] == (y2 - y1, x2 - x1) for face in skin.asked)
    third = (x2 - x1) // 3
    lower = changed[y1 + 3 * (y2 - y1) // 4]
    assert lower[x1 + third] == left and lower[x2 - third] == right
    assert not changed[: y1 + (y2 - y1) // 3].any() and not changed[:, x2:].any()


def test_auto_takes_the_best_rule_that_is_possible(tmp_path):
    source, built = DrawnSource(3), model(paste="auto")
    source.place = Place(str(tmp_path))
    assert Paster.of(built, Scene.look(built.config, source), source).rule == "contour"
    boxes = model(paste="auto", box=(10, 110, 20, 108))
    assert Paster.of(boxes, Scene.look(boxes.config, source, (10, 110, 20, 108)), source).rule == "lower"


def test_a_rule_that_lacks_something_says_what_and_how_to_do_without(tmp_path):
    source = DrawnSource(3)
    source.place = Place(str(tmp_path))
    built = model(paste="parsing")
    with pytest.raises(DataError, match=r"face_segmentation.*--model.inference.paste=contour"):
        Paster.of(built, Scene.look(built.config, source), source)
    built = model(paste="contour", box=(10, 110, 20, 108))
    with pytest.raises(DataError, match=r"paste=contour needs the landmarks.*--model.inference.paste=lower"):
        Paster.of(built, Scene.look(built.config, source, (10, 110, 20, 108)), source)


@pytest.mark.parametrize("rule", ["contour", "lower"])
def test_nothing_shows_above_what_the_drawer_is_told_to_draw(rule):
    source, built = DrawnSource(3), model(paste=rule, feather=0.12)
    paster = Paster.of(built, Scene.look(built.config, source), source)
    changed, (_, y1, _, y2) = pasted(paster, source)
    assert np.nonzero(changed)[0].min() >= (y1 + y2) / 2 - paster.above * (y2 - y1)
    assert paster.above < 0.5


@pytest.mark.parametrize("rule", ["lower", "parsing"])
def test_of_a_wide_box_more_is_drawn_above_the_middle(rule):
    height, width, size = 60, 240, (200, 300)  # a face that the frame's border cuts off
    scene = Scene(np.array([[20, 40, 20 + width, 40 + height], [np.nan] * 4]), np.array([True, False]), None, None)
    paster = Paster(model(paste=rule, feather=0.08), scene, rule)
    weights = {
        "lower": lambda: blend_weights(scene.boxes[0], size, "lower", 0.08),
        "parsing": lambda: parsed_weights(np.ones((64, 64), bool), height, width),
    }[rule]()
    first = np.flatnonzero(weights.any(axis=1))[0]
    assert 0.1 * height < height / 2 - first <= paster.above * height < height / 2


def test_of_a_face_that_is_parsed_all_is_drawn():
    scene = Scene(np.array([[20.0, 40, 120, 140]]), np.array([True]), None, None)
    above = {parse: Paster(model(parse=parse), scene, "parsing").above for parse in ("original", "generated", "union")}
    assert above["original"] < 0.2 and above["generated"] == above["union"] == 0.5


def test_an_enhancer_gets_every_face_before_it_is_pasted():
    seen = []
    source, built = DrawnSource(3), model(postprocess=lambda face: seen.append(face.shape) or face // 2, paste="box")
    part = FrameBatch(np.array([0]), np.array([0]), [source.pictures[0].copy()], np.array([0]))
    paster = Paster.of(built, Scene.look(built.config, source), source)
    paster.paste(part, WHITE[None])
    x1, y1, x2, y2 = paster.scene.boxes[0].astype(int)
    assert seen == [(24, 24, 3)] and (part.pictures[0][(y1 + y2) // 2, (x1 + x2) // 2] == 127).all()


def test_the_tone_follows_a_change_as_fast_at_any_frame_rate():
    """After 0.2 s as much of a change has passed at 50 frames per second as at 25."""
    scene = Scene(np.array([[20.0, 20, 84, 84]]), np.array([True]), None, None)
    dark, light = (np.full((100, 100, 3), tone, np.uint8) for tone in (60, 160))
    box, after = scene.boxes[0], {}
    weight = blend_weights(box, dark.shape[:2], "lower", 0.2)
    for fps in (25.0, 50.0):
        paster = Paster(model(paste="lower"), scene, "lower", fps=fps)
        paster._matched(dark, dark[:64, :64], box, weight, False)
        for _ in range(round(fps / 5)):
            face = paster._matched(light, dark[:64, :64], box, weight, True)
        after[fps] = int(face[0, 0, 0])
    assert 60 < after[25.0] < 160 and abs(after[25.0] - after[50.0]) <= 1


def test_a_wrong_tone_is_matched_along_the_edge_and_a_right_one_stays():
    source = DrawnSource(3)
    scene = Scene.look(model().config, source)
    x1, y1, x2, y2 = scene.boxes[0].astype(int)
    truth = cv2.resize(source.pictures[0][y1:y2, x1:x2], (96, 96))
    tinted = np.clip(truth.astype(int) + [30, -20, 0], 0, 255).astype(np.uint8)
    errors = {}
    for colour in ("keep", "match"):
        for name, face in (("truth", truth), ("tinted", tinted)):
            paster = Paster.of(model(paste="lower", colour=colour), scene, source)
            part = FrameBatch(np.array([0]), np.array([0]), [source.pictures[0].copy()], np.array([0]))
            paster.paste(part, face[None])
            errors[colour, name] = np.abs(part.pictures[0].astype(int) - source.pictures[0]).mean()
    assert errors["match", "tinted"] < 0.3 * errors["keep", "tinted"]
    assert errors["match", "truth"] <= errors["keep", "truth"] + 0.05


def test_the_tone_is_followed_from_batch_to_batch_and_begins_anew_after_a_jump():
    source, built = DrawnSource(9), model(paste="lower", colour="match")
    scene = Scene.look(built.config, source)

    def pasted_in(sizes, frames):
        paster, made, start = Paster.of(built, scene, source), [], 0
        for size in sizes:
            numbers = np.array(frames[start : start + size])
            pictures = [source.pictures[k].copy() for k in numbers]
            part = FrameBatch(np.arange(len(numbers)), numbers, pictures, np.arange(len(numbers)))
            levels = [np.full((24, 24, 3), 40 + 20 * k, np.uint8) for k in numbers]
            paster.paste(part, np.stack(levels))
            made += part.pictures
            start += size
        return made

    whole = pasted_in([6], [0, 1, 2, 3, 4, 5])
    for other in (pasted_in([1] * 6, [0, 1, 2, 3, 4, 5]), pasted_in([4, 2], [0, 1, 2, 3, 4, 5])):
        np.testing.assert_array_equal(whole, other)
    np.testing.assert_array_equal(pasted_in([2], [0, 5])[1], pasted_in([1], [5])[0])
    assert (whole[5] != pasted_in([1], [5])[0]).any()


def frame_of(level: int) -> np.ndarray:
    return np.full((100, 100, 3), level, np.uint8)


@pytest.mark.parametrize("edge", [True, False])
def test_a_tone_ends_with_its_shot_and_serves_where_no_edge_is_seen(edge):
    built = model(paste="lower", colour="match")
    scene = Scene(np.array([[10.0, 10, 90, 90]] * 2), np.ones(2, bool), None, None)
    weight = blend_weights(scene.boxes[0], (100, 100), "lower", 0.08)
    blank = np.where(weight > 127, 255, 0).astype(np.uint8)  # hard
    second = 220 if edge else 130  # a cut, or the same shot
    paster = Paster(built, scene, "lower")
    paster._weights = lambda part, faces, boxes: [weight, weight if edge else blank]
    part = FrameBatch(np.arange(2), np.arange(2), [frame_of(130), frame_of(second)], np.arange(2))
    paster.paste(part, np.full((2, 24, 24, 3), 100, np.uint8))
    assert [picture[70, 50, 0] for picture in part.pictures] == [130, second]
