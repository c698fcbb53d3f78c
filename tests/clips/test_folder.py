"""Clip folders, packed faces, and how a data set draws from them."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import drawn_clips
from talkingface.clips.crop_pictures import encode_jpeg
from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.face_store import FaceStore, FaceWriter
from talkingface.clips.folder import ClipFolder, usable_clips
from talkingface.errors import DataError


def picture(size: int = 48, shift: int = 0) -> np.ndarray:
    """A smooth coloured crop."""
    y, x = np.mgrid[0:size, 0:size] / size
    rgb = np.stack([x, y, 0.5 + 0.5 * np.sin(3 * x + 2 * y + shift)], axis=-1)
    return (255 * rgb).astype(np.uint8)


def store(folder, storage="jpeg", count=6, gap=2) -> FaceStore:
    boxes = np.tile(np.array([1, 2, 50, 60], np.float32), (count, 1))
    boxes[gap] = np.nan
    writer = FaceWriter(folder, "faces", storage)
    for k in range(count):
        writer.add(None if k == gap else picture(shift=k))
    writer.close(boxes, {"size": 48, "margin": 5.0, "frame_hw": [100, 120]})
    return FaceStore(folder)


def clip(root, clip_id: str, frames: int, status: str = "ok", steps: dict | None = None) -> ClipFolder:
    folder = root / clip_id
    folder.mkdir(parents=True)
    meta = {"format": 1, "clip_id": clip_id, "status": status, "reason": "why" if status != "ok" else ""}
    meta |= {"frames": frames, "fps": 25.0, "source": {"path": "../videos/a.mp4"}, "steps": steps or {}}
    (folder / "clip.json").write_text(json.dumps(meta))
    return ClipFolder(folder)


@pytest.mark.parametrize("storage", ["jpeg", "png", "npy"])
def test_faces_come_back_in_rgb(tmp_path, storage):
    faces = store(tmp_path, storage)
    assert len(faces) == 6 and faces.size == 48 and faces.frame_hw == (100, 120)
    assert faces[3].shape == (48, 48, 3) and faces[3].dtype == np.uint8
    assert np.abs(faces[3].astype(int) - picture(shift=3)).max() <= (12 if storage == "jpeg" else 0)
    import cv2

    again = cv2.imdecode(np.frombuffer(faces.jpeg(3), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(again.astype(int) - faces[3]).max() <= (0 if storage == "jpeg" else 12)
    np.testing.assert_array_equal(faces.read([4, 0])[1], faces[0])
    np.testing.assert_array_equal(faces[-1], faces[5])
    np.testing.assert_array_equal(faces.valid, [1, 1, 0, 1, 1, 1])


def test_frame_without_a_face_and_index_outside_are_errors(tmp_path):
    faces = store(tmp_path)
    with pytest.raises(DataError, match="frame 2 has no face"):
        faces[2]
    with pytest.raises(IndexError):
        faces[6]


def test_damaged_face_names_the_file(tmp_path):
    faces = store(tmp_path)
    blob = (tmp_path / "faces.bin").read_bytes()
    (tmp_path / "faces.bin").write_bytes(blob[: int(faces.offsets[4]) + 20])
    assert faces[0].shape == (48, 48, 3)
    with pytest.raises(DataError, match=r"faces\.bin: face 4 is damaged"):
        faces[4]
    whole = (tmp_path / "faces.npz").read_bytes()
    for damaged in (b"nothing", whole[: len(whole) // 2]):
        (tmp_path / "faces.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"faces\.npz: unreadable"):
            FaceStore(tmp_path)


def test_jpeg_of_a_face_is_near_lossless():
    rng = np.random.default_rng(0)
    import cv2

    smooth = cv2.GaussianBlur(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8), (9, 9), 3)
    data = encode_jpeg(smooth)
    back = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert 10 * np.log10(255**2 / np.mean((back.astype(float) - smooth) ** 2)) > 40


def test_folder_knows_its_meta_and_names_what_is_missing(tmp_path):
    folder = clip(tmp_path, "a/1", 30)
    assert (len(folder), folder.clip_id, folder.status, folder.fps) == (30, "a/1", "ok", 25.0)
    assert folder.video == tmp_path / "a" / "videos" / "a.mp4"
    assert not folder.has("mel")
    with pytest.raises(DataError, match=r"has no 'mel'; run `run_talkingface.py preprocess`"):
        folder.mel()
    (tmp_path / "a" / "1" / "clip.json").write_text('{"format": 1, "sta')
    assert ClipFolder(tmp_path / "a" / "1").status == ""


def test_only_ok_clips_with_their_artefacts_are_usable(tmp_path):
    good = clip(tmp_path, "good", 30, steps={"mel": {"files": ["mel.npy"]}})
    np.save(good.path / "mel.npy", np.zeros((80, 96), np.float32))
    clips = [good, clip(tmp_path, "bare", 30), clip(tmp_path, "bad", 3, "rejected"), ClipFolder(tmp_path / "none")]
    kept, dropped = usable_clips(clips, ("mel",))
    assert kept == [good] and good.mel().shape == (80, 96)
    assert dropped == [("bare", "has no mel"), ("bad", "rejected: why"), ("none", "not preprocessed")]


class Draws(ClipDataset):
    """Items that show what was drawn."""

    @property
    def min_frames(self) -> int:
        return 10

    def sample(self, clip, rng):
        return {"clip": clip.clip_id, "value": float(rng.random())}


def dataset(tmp_path, split="train", clips=4, **options) -> Draws:
    root = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    root.mkdir()
    return Draws([clip(root, f"c{k}", 20) for k in range(clips)], split, options, None, seed=3)


def test_items_depend_on_seed_split_epoch_and_index_only(tmp_path):
    train, again = dataset(tmp_path, repeats=3), dataset(tmp_path, repeats=3)
    assert len(train) == 12
    first = [train[key] for key in range(24)]
    assert first == [again[key] for key in range(24)]
    assert len({item["value"] for item in first}) == 24
    assert first[:12] != first[12:]
    again.seed = 4
    assert again[0] != first[0]


def test_validation_windows_are_fixed_and_take_every_clip(tmp_path):
    val = dataset(tmp_path, "val", val_windows=2)
    items = [val[key] for key in range(8)]
    assert [item["clip"] for item in items] == ["c0", "c1", "c2", "c3"] * 2
    assert items == [val[key + 8] for key in range(8)]
    assert len({item["value"] for item in items}) == 8


def test_random_draw_is_uniform_and_ordered_draw_takes_turns(tmp_path):
    train = dataset(tmp_path, repeats=200)
    counts = np.unique([train[key]["clip"] for key in range(800)], return_counts=True)[1]
    assert len(counts) == 4 and counts.min() > 150
    ordered = dataset(tmp_path, draw="order")
    assert [ordered[key]["clip"] for key in range(8)] == ["c0", "c1", "c2", "c3"] * 2


def test_short_clips_are_left_out_with_reasons_and_none_left_is_an_error(tmp_path, caplog):
    clips = [clip(tmp_path, "long", 20), clip(tmp_path, "short", 5), clip(tmp_path, "tiny", 1)]
    data = Draws(clips, "train", None, None, 0)
    assert [c.clip_id for c in data.clips] == ["long"]
    assert data.rejected == [("short", "shorter than 10 frames"), ("tiny", "shorter than 10 frames")]
    assert "2 of 3 clips left out: 2 x shorter than 10 frames" in caplog.text
    with pytest.raises(DataError, match=r"Draws \(val\): none of 2 clips can be used: 2 x shorter than 10 frames"):
        Draws(clips[1:], "val", None, None, 0)


def test_full_cache_drops_what_was_used_least_recently(tmp_path):
    data = dataset(tmp_path, cache_mb=1)
    made = []

    def get(number, size=400_000):
        def make():
            made.append(number)
            return np.zeros(size, np.uint8)

        return data.cached(data.clips[number], "mel", make)

    first = get(0)
    get(1)
    assert get(0) is first and made == [0, 1]
    get(2)
    assert get(0) is first and made == [0, 1, 2]
    get(1)
    assert made == [0, 1, 2, 1]
    get(3, 2_000_000)  # larger than the whole cache: not kept, and nothing makes room for it
    get(0)
    get(3, 2_000_000)
    assert made == [0, 1, 2, 1, 3, 3]


@pytest.mark.parametrize("cache_mb", [64, 0])
def test_crops_are_decoded_once_where_all_fit_and_are_the_same_where_they_do_not(tmp_path, monkeypatch, cache_mb):
    clips = [drawn_clips.make_clip(tmp_path, f"d{k}", 20, gone=(4,)) for k in range(2)]
    asked = []
    read = FaceStore.read
    monkeypatch.setattr(FaceStore, "read", lambda self, frames: asked.append(list(frames)) or read(self, frames))
    data = Draws(clips, "train", {"cache_mb": cache_mb})
    faces, frames = clips[0].faces(drawn_clips.CROP.artefact), np.array([[7, 8], [8, 0]])
    first, second = (data.crops(clips[0], faces, frames) for _ in range(2))
    expected = np.stack([read(faces, row) for row in frames])
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    assert asked == ([[0, 1, 2, 3, *range(5, 20)]] if cache_mb else [[0, 7, 8]] * 2)
    whole = data.whole_crops(clips[0], faces)
    np.testing.assert_array_equal(whole[7:9], expected[0])
    assert len(whole) == 20 and not whole[4].any()
    with pytest.raises(DataError, match="frame 4 has no face"):
        data.crops(clips[0], faces, np.array([3, 4]))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
def test_crops_that_one_loader_process_has_decoded_are_there_for_all(tmp_path, monkeypatch):
    clips = [drawn_clips.make_clip(tmp_path, f"d{k}", 20, gone=(4,)) for k in range(2)]
    data = Draws(clips, "train", None, SimpleNamespace(crop=drawn_clips.CROP))
    data.share(2)
    faces = clips[1].faces(drawn_clips.CROP.artefact)
    expected = faces.whole()
    worker = multiprocessing.get_context("fork").Process(target=data.whole_crops, args=(clips[1], faces))
    worker.start()
    worker.join(20)
    monkeypatch.setattr(FaceStore, "read", lambda *_: pytest.fail("decoded a second time"))
    np.testing.assert_array_equal(data.whole_crops(clips[1], faces), expected)
    np.testing.assert_array_equal(data.crops(clips[1], faces, np.array([7, 8])), expected[7:9])


def test_the_memory_of_a_data_set_counts_for_all_its_loader_processes(tmp_path, monkeypatch):
    clips = [drawn_clips.make_clip(tmp_path, f"d{k}", 20) for k in range(12)]  # 720 kB of crops
    config, kept = SimpleNamespace(crop=drawn_clips.CROP), []
    read = FaceStore.read
    for start_method in ("spawn", "fork"):
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda method=start_method: method)
        data = Draws(clips, "train", {"cache_mb": 1}, config)
        for processes in (1, 2):
            data.share(processes)
            asked = []
            monkeypatch.setattr(FaceStore, "read", lambda *a, asked=asked: asked.append(1) or read(*a))
            for _ in range(2):
                data.crops(clips[0], clips[0].faces(drawn_clips.CROP.artefact), np.array([3]))
            kept.append(len(asked) == 1)
            data.cached(clips[0], f"large {processes}", lambda: np.zeros(600_000, np.uint8))
            assert ((clips[0].clip_id, f"large {processes}") in data._cache) == (processes == 1)
    assert kept == [True, False, True, True]  # not kept where each process would hold all of them


def test_a_kept_index_of_crops_does_not_count_their_pixels(tmp_path):
    writer = FaceWriter(tmp_path, "faces", "npy")
    for _ in range(12):
        writer.add(np.zeros((200, 200, 3), np.uint8))  # 1.4 MB
    writer.close(np.full((12, 4), 5, np.float32), {"size": 200, "frame_hw": [300, 300]})
    data = Draws([drawn_clips.make_clip(tmp_path, "d", 20)], "train", {"cache_mb": 1})
    store = data.cached(data.clips[0], "index", lambda: FaceStore(tmp_path))
    assert data.cached(data.clips[0], "index", lambda: None) is store


def test_many_clips_are_looked_at_in_threads_and_stay_in_order(tmp_path, monkeypatch):
    import threading

    seen = set()

    class Watched(Draws):
        def usable(self, clip):
            seen.add(threading.current_thread())
            return super().usable(clip)

    monkeypatch.setattr("talkingface.clips.dataset.MANY_CLIPS", 20)
    clips = [clip(tmp_path, f"c{k:02d}", 20 if k % 3 else 5) for k in range(30)]
    data = Watched(clips, "train", None, None, 0)
    assert threading.main_thread() not in seen
    assert [c.clip_id for c in data.clips] == [f"c{k:02d}" for k in range(30) if k % 3]
    assert [name for name, _ in data.rejected] == [f"c{k:02d}" for k in range(0, 30, 3)]


def test_dataset_works_in_a_loader_and_pickles(tmp_path):
    torch = pytest.importorskip("torch")
    data = pickle.loads(pickle.dumps(dataset(tmp_path)))
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=4)))
    assert batch["value"].shape == (4,) and len(batch["clip"]) == 4
    assert DatasetOptions(repeats=2).repeats == 2


def test_prepared_data_need_no_media_or_face_packages():
    code = (
        "import sys\n"
        "for name in ('mediapipe', 'librosa', 'av'): sys.modules[name] = None\n"
        "import talkingface.clips.dataset, talkingface.faces.crop, talkingface.faces.track, talkingface.clips.layouts\n"
        "import talkingface.preprocess.prepare\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
