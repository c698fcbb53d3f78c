"""Training data of all three stages: what belongs together, what is refused."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest

from helpers.canonical_faces import make_clip, small_config
from talkingface.clips.folder import ClipFolder
from talkingface.errors import DataError
from talkingface.models.makeittalk.data import ContentWindows, SpeakerSequences, padded
from talkingface.models.makeittalk.pairs import TranslatePairs
from talkingface.sound.choice import FrontEndConfig


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    speakers = {"a": "anna", "b": "anna", "c": "carl"}
    return [
        make_clip(root, name, phase=0.3 * k, speaker=who, gone=tuple(range(20, 28)) if name == "c" else ())
        for k, (name, who) in enumerate(speakers.items())
    ]


def test_a_window_begins_with_the_row_of_its_face_and_no_face_is_missing(clips):
    data = ContentWindows(clips, "train", {"windows": 64}, small_config())
    motion = data.motion(clips[2])
    assert 0 < motion.valid.sum() < len(motion.valid)
    item = data.sample(clips[2], np.random.default_rng(0))
    assert item["windows"].shape == (64, 18, 80) and item["target"].shape == (64, 204)
    rows = [int(np.flatnonzero((motion.still == target).all(axis=1))[0]) for target in item["target"]]
    assert motion.valid[rows].all()
    for row, window in zip(rows, item["windows"], strict=True):
        np.testing.assert_array_equal(window, padded(motion.sound)[row : row + 18])


def test_rows_stand_for_the_time_of_the_sound(clips):
    motion = ContentWindows(clips, "train", {}, small_config()).motion(clips[0])
    faces = clips[0].array("faces68")[:, 0].reshape(40, 204)
    assert len(motion.still) == int(39 / 25 * 62.5) + 1
    np.testing.assert_allclose(motion.still[5], faces[2], atol=1e-6)  # 0.08 s
    np.testing.assert_allclose(motion.still[4], 0.4 * faces[1] + 0.6 * faces[2], atol=1e-6)


def test_the_resting_face_has_the_most_closed_lips_of_those_looked_at(clips):
    motion = ContentWindows(clips, "train", {}, small_config(content={"resting": 1})).motion(clips[0])
    gaps = motion.still.reshape(-1, 68, 3)[::10, 66, 1] - motion.still.reshape(-1, 68, 3)[::10, 62, 1]
    rest = motion.rest.reshape(68, 3)
    assert rest[66, 1] - rest[62, 1] == pytest.approx(gaps.min(), abs=1e-4)


def test_published_windows_follow_each_other(clips):
    data = ContentWindows(clips, "train", {"sampling": "published"}, small_config())
    item = data.sample(clips[0], np.random.default_rng(3))
    np.testing.assert_array_equal(item["windows"][:-1, 1:], item["windows"][1:, :-1])
    assert 0.8 * 98 <= len(item["target"]) <= 98


@pytest.mark.parametrize("split", ["train", "val"])
def test_published_windows_come_from_all_of_a_long_clip(tmp_path, split):
    data = ContentWindows([make_clip(tmp_path, "long", 400)], split, {"sampling": "published"}, small_config())
    motion, seen = data.motion(data.clips[0]), set()
    places = {row.tobytes(): k for k, row in enumerate(motion.still)}
    for seed in range(20):
        item = data.sample(data.clips[0], np.random.default_rng(seed))
        assert 10 <= len(item["target"]) <= 512
        seen |= {places[row.tobytes()] for row in item["target"]}
    assert {600, len(motion.still) - 1} <= seen and (split == "train" or len(seen) == len(motion.still) > 900)


@pytest.mark.parametrize(("count", "starts"), [(512 + 9, {0}), (512 + 10, {0, 512}), (60, {0})])
def test_a_published_segment_has_ten_windows_at_least(clips, count, starts):
    data = ContentWindows(clips, "val", {"sampling": "published"}, small_config())
    assert {int(data._consecutive(np.arange(count), np.random.default_rng(k))[0]) for k in range(20)} == starts


@pytest.mark.parametrize(("kind", "options"), [(ContentWindows, {"windows": 8}), (SpeakerSequences, {"rows": 128})])
def test_an_item_reads_its_own_rows_of_a_long_sound_alone(clips, monkeypatch, kind, options):
    data = kind(clips, "train", options, small_config())
    motion = data.motion(clips[0])
    sound = np.broadcast_to(motion.sound[:1], (10**6, 80))  # 320 MB, if it were copied
    monkeypatch.setattr(data, "motion", lambda clip: motion._replace(sound=sound))
    tracemalloc.start()
    data.sample(clips[0], np.random.default_rng(0))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10**7


def test_a_sequence_is_filled_up_and_says_what_is_there(clips):
    data = SpeakerSequences(clips, "train", {"rows": 128}, small_config())
    item = data.sample(clips[2], np.random.default_rng(0))
    motion = data.motion(clips[2])
    assert item["rows"].shape == (128 + 17, 80) and item["target"].shape == (128, 204)
    np.testing.assert_array_equal(item["mask"][: len(motion.valid)], motion.valid)
    assert not item["mask"][len(motion.valid) :].any() and item["speaker"].shape == (256,)
    sound = padded(motion.sound)
    np.testing.assert_array_equal(item["rows"], np.pad(sound, ((0, 145 - len(sound)), (0, 0)), mode="edge"))


def test_a_sequence_shows_a_face_also_where_most_of_its_clip_has_none(tmp_path):
    clip = make_clip(tmp_path, "turned", 120, gone=tuple(range(20, 100)))
    data = SpeakerSequences([clip], "train", {"rows": 48}, small_config())
    seen = [data.sample(clip, np.random.default_rng(seed))["mask"] for seed in range(30)]
    assert min(mask.sum() for mask in seen) > 0


def test_mean_and_deviation_are_those_of_the_sound(clips):
    data = ContentWindows(clips, "train", {}, small_config())
    mean, deviation = data.scale()
    rows = np.concatenate([data.motion(clip).sound for clip in clips])
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(deviation, np.maximum(rows.std(axis=0), 1e-3), atol=1e-5)


def test_the_sound_of_one_clip_at_a_time_is_held_for_mean_and_deviation(clips, monkeypatch):
    data = ContentWindows(clips * 4, "train", {"cache_mb": 0}, small_config())
    read, held, most = type(clips[0]).features, [], []

    def noted(clip, key):
        rows = read(clip, key)
        held.append(weakref.ref(rows.values))
        most.append(sum(each() is not None for each in held))
        return rows

    monkeypatch.setattr(type(clips[0]), "features", noted)
    data.scale()
    assert len(most) == 12 and max(most) == 1


def test_whether_a_clip_serves_is_told_from_one_look_at_its_files(clips, monkeypatch):
    looks = []
    for name in ("features", "array"):
        read = getattr(type(clips[0]), name)
        monkeypatch.setattr(
            type(clips[0]), name, lambda clip, *args, read=read: looks.append(args[0]) or read(clip, *args)
        )
    config = small_config()
    SpeakerSequences(clips[:1], "train", {}, config)
    assert sorted(looks) == sorted([config.sound.artefact, config.faces_artefact])


def test_rows_of_another_front_end_are_refused_and_both_are_named(clips):
    other = FrontEndConfig(name="vc_mel", speaker="statistics", made_by={"name": "autovc", "version": 1})
    with pytest.raises(DataError, match=r"made with the front end vc_mel.*but autovc is in use"):
        ContentWindows(clips, "train", {}, small_config().model_copy(update={"sound": other}))


def test_a_clip_without_a_speaker_trains_content_and_not_the_speaker_stage(tmp_path, clips):
    import json

    clip = make_clip(tmp_path, "mute")
    meta = json.loads((clip.path / "clip.json").read_text())
    meta["steps"]["features@vc_mel+statistics"]["files"].pop()
    (clip.path / "clip.json").write_text(json.dumps(meta))
    clip = type(clip)(clip.path)
    assert len(ContentWindows([clip], "train", {}, small_config()).clips) == 1
    with pytest.raises(DataError, match="no vector of its speaker"):
        SpeakerSequences([clip], "train", {}, small_config())


def test_the_earlier_frame_of_a_pair_is_wanted_and_drawn(clips):
    data = TranslatePairs(clips, "train", {}, small_config())
    heads = clips[0].faces("heads@32").whole()
    for seed in range(5):
        item = data.sample(clips[0], np.random.default_rng(seed))
        wanted, shown = (
            int(np.abs(heads.astype(int) - item[name]).sum(axis=(1, 2, 3)).argmin()) for name in ("target", "portrait")
        )
        assert wanted <= shown
        assert item["drawing"].shape == item["moved"].shape == (32, 32, 3) and item["inside"].shape == (32, 32)
        assert (item["drawing"] < 255).any()


def test_pairs_of_a_speaker_come_from_another_clip_of_the_same(clips):
    data = TranslatePairs(clips, "train", {"pairs": "speaker"}, small_config())
    for seed in range(4):
        assert data._lender(clips[0], np.random.default_rng(seed)) is clips[1]
        assert data._lender(clips[2], np.random.default_rng(seed)) is clips[2], "there is no other"


def test_indexes_of_head_crops_and_of_speakers_are_made_once_for_all_items(clips, monkeypatch):
    data, opened, walks = TranslatePairs(clips, "train", {"pairs": "speaker"}, small_config()), [], []

    class Walked(list):
        def __iter__(self):
            walks.append(1)
            return super().__iter__()

    read = type(clips[0]).faces
    monkeypatch.setattr(type(clips[0]), "faces", lambda clip, key: opened.append(clip.clip_id) or read(clip, key))
    assert data._frames == 120  # as many frames as there are are counted once, before the first item
    data.clips = Walked(data.clips)
    for key in range(9):
        data[key]
    assert sorted(opened) == sorted(set(opened)) and len(walks) == 1


def test_every_other_clip_of_a_speaker_lends_and_never_the_clip_itself(clips):
    four = [ClipFolder(clips[0].path, clip_id=name, speaker="a" if name != "c" else "") for name in "abcde"]
    data = TranslatePairs(four, "train", {"pairs": "speaker"}, small_config())
    lenders = {data._lender(four[1], np.random.default_rng(seed)).clip_id for seed in range(40)}
    assert lenders == {"a", "d", "e"}
    assert data._lender(four[2], np.random.default_rng(0)) is four[2], "who it is is not known"


def test_the_moved_portrait_lies_nearer_to_the_wanted_picture_than_the_portrait(clips):
    config = small_config(translate={"size": 64})
    data = TranslatePairs([make_clip(clips[0].path.parent, "large", config=config)], "train", {}, config)
    item = data.pair(data.clips[0], 6, data.clips[0], 24)
    face = (slice(16, 52), slice(16, 48))
    far = [np.abs(item[name].astype(int) - item["target"])[face].mean() for name in ("moved", "portrait")]
    assert far[0] < 0.7 * far[1]


def test_the_resting_face_of_an_item_is_one_of_the_clips_closed_ones_and_not_always_the_same(clips):
    single = small_config(content={"resting": 1})
    data = ContentWindows(clips, "train", {"faces": 3}, single)
    motion = data.motion(clips[0])
    faces = [data.sample(clips[0], np.random.default_rng(seed))["face"] for seed in range(12)]
    assert len({face.tobytes() for face in faces}) > 3
    assert all((motion.still == face).all(axis=1).any() for face in faces)
    gap = lambda rows: (rows.reshape(-1, 68, 3)[:, 66, 1] - rows.reshape(-1, 68, 3)[:, 62, 1]).mean()  # noqa: E731
    assert gap(np.stack(faces)) < 0.6 * gap(motion.still)
    held_out = ContentWindows(clips, "val", {"faces": 3}, single)
    np.testing.assert_array_equal(held_out.sample(clips[0], np.random.default_rng(0))["face"], motion.rest)


def test_the_mean_of_a_few_closed_faces_is_less_off_than_a_single_one(tmp_path):
    clip = make_clip(tmp_path, "shaky", count=120)
    path = clip.path / "faces68.npy"
    faces = np.load(path)
    np.save(path, (faces + np.random.default_rng(0).normal(0, 0.02, faces.shape)).astype(np.float32))
    off = {}
    for count in (1, 5):
        data = ContentWindows([clip], "train", {"faces": 3}, small_config(content={"resting": count}))
        nose = slice(27, 36)  # it does not speak
        rests = [data.sample(clip, np.random.default_rng(seed))["face"] for seed in range(8)] + [data.motion(clip).rest]
        off[count] = np.mean([np.abs(rest.reshape(68, 3) - faces[0, 0])[nose].mean() for rest in rests])
    assert off[5] < 0.6 * off[1]
