"""What is fuzzed: each subject makes one small valid sample, damages a copy by a seed, and uses it as commands do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from helpers.fuzz_subject import Subject
from helpers.fuzz_trees import Dumps, HyperLipsData, OldData
from helpers.mutations import Rng, damage_bytes, damage_file, damage_lines, damage_value
from talkingface.errors import TalkingFaceError
from talkingface.faces.crop import CropConfig

CROP = CropConfig(size=48, margin_mode="relative", margin=0.05)  # which all models take


def check_items(items: Iterable[dict[str, Any]]) -> None:
    """Items of a data set are usable numbers."""
    for item in items:
        for name, value in item.items():
            assert np.isfinite(value).all(), f"{name} of an item is not finite"


class PreparedClip(Subject):
    """A damaged clip beside an intact one: data sets leave it out, or draw from it what is right."""

    name = "clip"

    def make(self, folder: Path) -> None:
        from helpers.drawn_clips import make_clip
        from talkingface.lipsync.expert.inputs import MEL
        from talkingface.media import write_wav
        from talkingface.models.iplap.points import stored_points

        for name, storage in (("a", "npy"), ("b", "jpeg")):
            clip = make_clip(folder, name, 32, CROP)
            shutil.copy(clip.path / "mel.npy", clip.path / f"{MEL}.npy")
            write_wav(clip.path / "audio.wav", np.sin(np.arange(32 * 640) / 9) * 0.3)
            stored_points(clip)
            meta = json.loads((clip.path / "clip.json").read_text())
            meta["steps"] |= {MEL: {"files": [f"{MEL}.npy"]}, "audio": {"files": ["audio.wav"], "facts": {}}}
            meta["steps"]["audio"]["facts"] = {"moved_frames": 1}
            if storage == "jpeg":
                self._as_jpeg(clip, CROP.artefact)
                meta["steps"][CROP.artefact]["files"] = [f"{CROP.artefact}.npz", f"{CROP.artefact}.bin"]
            (clip.path / "clip.json").write_text(json.dumps(meta))

    @staticmethod
    def _as_jpeg(clip: Any, key: str) -> None:
        from talkingface.clips.face_store import FaceWriter

        faces = clip.faces(key)
        writer = FaceWriter(clip.path, key)
        for face in faces.whole():
            writer.add(face)
        writer.close(faces.boxes, {name: value for name, value in faces.meta.items() if name != "storage"})
        (clip.path / f"{key}.npy").unlink()

    def damage(self, folder: Path, rng: Rng) -> None:
        clip = folder / rng.choice(["a", "b"])
        files = sorted(clip.iterdir())
        damage_file(files[rng.integers(len(files))], rng)

    def use(self, folder: Path) -> None:
        from talkingface.clips.folder import ClipFolder, usable_clips
        from talkingface.lipsync.expert.data import SyncWindows
        from talkingface.lipsync.half_face.data import FaceWindows
        from talkingface.models.iplap.config import IPLAPConfig
        from talkingface.models.iplap.data import LandmarkWindows, RenderWindows
        from talkingface.models.syncnet.model import SyncNetConfig
        from talkingface.models.wav2lip.config import Wav2LipConfig

        clips = [ClipFolder(folder / name, clip_id=name) for name in "ab"]
        kept, dropped = usable_clips(clips, ("mel", "landmarks", CROP.artefact, "audio"))
        assert kept, f"the other clip is intact, but: {dropped}"
        for dataset, config in (
            (LandmarkWindows, IPLAPConfig(crop=CROP)),
            (RenderWindows, IPLAPConfig(crop=CROP)),
            (FaceWindows, Wav2LipConfig(crop=CROP)),
            (SyncWindows, SyncNetConfig(crop=CROP)),
        ):
            data = dataset(kept, "train", {}, config, 0)
            check_items(data[key] for key in range(2))
        for clip in kept:
            self._score(clip)

    @staticmethod
    def _score(clip: Any) -> None:
        """What an evaluation reads; it leaves out clips one by one."""
        from talkingface.evaluation.rows import median_frame
        from talkingface.faces.regions import region_boxes

        try:
            track = clip.track()
            region_boxes(track, "mouth"), median_frame(track), track.opening()
            assert np.isfinite(clip.audio()).all()
            assert isinstance(clip.video, Path)
        except TalkingFaceError:
            pass


class Lists(Subject):
    """File lists of every layout."""

    name = "list"
    TEXT = "spk1/00001\nspk1/00002 tag\nmain/spk2/00001\n./spk2/00002.mp4\n# comment\nM003/front_angry_level_1_001\n"

    def make(self, folder: Path) -> None:
        for name in ("main/spk1/00001.mp4", "main/spk1/00002.mp4", "main/spk2/00001.mp4"):
            (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "data" / name).write_bytes(b"x")
        (folder / "train.txt").write_text(self.TEXT)

    def damage(self, folder: Path, rng: Rng) -> None:
        (folder / "train.txt").write_bytes(damage_lines(self.TEXT, rng))

    def use(self, folder: Path) -> None:
        from talkingface.clips.layouts import LAYOUTS, make_layout

        root = (folder / "prepared").resolve()
        for kind in LAYOUTS:
            settings = SimpleNamespace(
                layout=kind,
                data_root=str(folder / "data"),
                preprocessed_root=str(root),
                train_filelist=str(folder / "train.txt"),
                val_filelist=None,
                test_filelist=None,
                weights_dir=str(folder / "weights"),
                landmarks_root="",
            )
            layout = make_layout(settings)
            try:
                items = layout.find(settings)
                [layout.split_ids(settings, split) for split in ("train", "val", "test")]
            except TalkingFaceError:
                continue
            for item in items:
                below = (root / item.clip_id).resolve()
                assert root in below.parents, f"{item.clip_id!r} is not below the root"


class LandmarkTable(Subject):
    """Landmarks that people bring along, as a table or as arrays."""

    name = "landmarks"

    def make(self, folder: Path) -> None:
        from talkingface.faces.landmark_file import write_landmarks
        from talkingface.faces.track import LandmarkTrack

        points = np.random.default_rng(0).uniform(20, 90, (6, 68, 2)).astype(np.float32)
        found = np.ones(6, bool)
        track = LandmarkTrack(points, found, found, (100, 120), layout="ibug68")
        for suffix in ("csv", "npz"):
            write_landmarks(track, folder / f"a.landmarks.{suffix}")

    def damage(self, folder: Path, rng: Rng) -> None:
        if rng.random() < 0.5:
            damage_file(folder / "a.landmarks.npz", rng)
        else:
            table = folder / "a.landmarks.csv"
            table.write_bytes(damage_lines(table.read_text(), rng))

    def use(self, folder: Path) -> None:
        from talkingface.faces.landmark_file import read_landmarks

        for suffix in ("csv", "npz"):
            try:
                track = read_landmarks(folder / f"a.landmarks.{suffix}", 6, (100, 120))
            except TalkingFaceError:
                continue
            assert len(track) == 6 and np.isfinite(track.points_px[track.valid]).all()


class Yaml(Subject):
    """Configuration files."""

    name = "yaml"
    CONTENT: ClassVar[dict[str, Any]] = {
        "seed": 3,
        "device": "cpu",
        "metrics": ["PSNR", "SSIM"],
        "model": {"crop": {"size": 96, "margin": 0.1}, "landmark": {"window": 5}},
        "stages": [
            {"name": "landmark", "kind": "landmark", "max_steps": 3, "optim": {"landmark_generator": {"lr": 1e-4}}}
        ],
        "preprocess": {"workers": 1, "landmarks": {"provider": "mediapipe"}, "filters": {"blur": 20.0}},
        "evaluation": {"rows": ["generated"], "max_clips": 3},
    }

    def make(self, folder: Path) -> None:
        import yaml

        (folder / "mine.yaml").write_text(yaml.safe_dump(self.CONTENT))

    def damage(self, folder: Path, rng: Rng) -> None:
        import yaml

        file = folder / "mine.yaml"
        if rng.random() < 0.5:
            file.write_bytes(damage_bytes(file.read_bytes(), rng))
        else:
            text = yaml.safe_dump(damage_value(self.CONTENT, rng), allow_unicode=True)
            file.write_text(text, errors="surrogatepass")

    def use(self, folder: Path) -> None:
        from talkingface.plugin.configuration import load_config

        load_config("IPLAP", "demo", [str(folder / "mine.yaml")], {})


class Checkpoint(Subject):
    """Checkpoints of a small network."""

    name = "checkpoint"
    native = True

    def make(self, folder: Path) -> None:
        from talkingface.config.layers import to_plain
        from talkingface.plugin.configuration import load_config
        from talkingface.plugin.registry import get_spec
        from talkingface.weights import checkpoint

        loaded = load_config("SyncNet", "demo", (), {"profile": "tiny"})
        model = get_spec("SyncNet").model(loaded.config.model)
        content = checkpoint.CheckpointContent(
            model="SyncNet",
            config=to_plain(loaded.config),
            networks={"sync_expert": model.sync_expert.state_dict()},
            stage="expert",
            trained=["sync_expert"],
            ready=["sync_expert"],
            best={"val/loss": 0.5},
            step=3,
        )
        checkpoint.save(folder / "last.pt", content)

    def damage(self, folder: Path, rng: Rng) -> None:
        import torch

        file = folder / "last.pt"
        if rng.random() < 0.4:
            file.write_bytes(damage_bytes(file.read_bytes(), rng))
            return
        content = torch.load(file, weights_only=True)
        tensors = content["networks"]["sync_expert"]
        if rng.random() < 0.4:
            name = sorted(tensors)[rng.integers(len(tensors))]
            changes = (
                lambda t: t * float("nan"),
                lambda t: t.to(torch.complex64),
                lambda t: t[None],
                lambda t: t.long(),
                lambda t: t.reshape(-1)[:1].expand(t.shape),
                lambda t: strange_tensor(rng),
            )
            tensors[name] = changes[rng.integers(len(changes))](tensors[name])
        else:
            content = damage_value(content, rng)
        torch.save(content, file)

    def use(self, folder: Path) -> None:
        from talkingface.pipeline import Pipeline

        Pipeline.from_checkpoint("SyncNet", folder / "last.pt", device="cpu")


def strange_tensor(rng: Rng) -> Any:
    from helpers.mutations import strange

    return strange(rng)


class Media(Subject):
    """Films, pictures and sound."""

    name = "media"
    native = True

    def make(self, folder: Path) -> None:
        from helpers.clips import tone
        from talkingface.media import VideoWriter, write_image, write_wav

        picture = np.kron(
            np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), "u1")
        )
        for suffix in ("mp4", "mkv"):
            with VideoWriter(folder / f"a.{suffix}", fps=25.0, audio=tone(0.24)) as writer:
                for shift in range(6):
                    writer.write(np.roll(picture, shift, axis=1))
        write_wav(folder / "a.wav", tone(0.3))
        for suffix in ("png", "jpg"):
            write_image(folder / f"b.{suffix}", picture)

    def damage(self, folder: Path, rng: Rng) -> None:
        files = sorted(folder.iterdir())
        file = files[rng.integers(len(files))]
        for other in files:
            if other != file:
                other.unlink()
        for _ in range(int(rng.integers(1, 4))):
            file.write_bytes(damage_bytes(file.read_bytes(), rng))

    def use(self, folder: Path) -> None:
        from talkingface.media import VideoReader, count_frames, probe, read_audio, read_image

        for file in sorted(folder.iterdir()):
            for read in (probe, read_audio, read_image, count_frames, lambda f: [None for _ in VideoReader(f, 25.0)]):
                try:
                    read(file)
                except TalkingFaceError as error:
                    assert "\n" not in str(error)


class PuppetTables(Subject):
    """The text files and the json of a cartoon puppet."""

    name = "puppet"

    def make(self, folder: Path) -> None:
        from talkingface.media import write_image
        from talkingface.models.makeittalk.puppet.cartoon import draw_cartoon
        from talkingface.models.makeittalk.puppet.new import write_puppet
        from talkingface.models.makeittalk.puppet.puppet import PuppetFiles

        picture, points = draw_cartoon((64, 48))
        write_image(folder / "toon.png", picture)
        files = PuppetFiles.beside(folder / "toon.png")
        write_puppet(files, points, picture[..., :3])
        files.mesh.unlink()

    def damage(self, folder: Path, rng: Rng) -> None:
        files = sorted(file for file in folder.iterdir() if file.suffix != ".png")
        file = files[rng.integers(len(files))]
        if file.suffix == ".txt" and rng.random() < 0.6:
            rows = file.read_text().replace(" ", ",")
            file.write_bytes(damage_lines(rows, rng).replace(b",", b" "))
        else:
            damage_file(file, rng)
        if rng.random() < 0.5:
            shutil.rmtree(folder / "toon_puppet.json", ignore_errors=True)
            (folder / "toon_puppet.json").unlink(missing_ok=True)

    def use(self, folder: Path) -> None:
        from talkingface.models.makeittalk.puppet.check import check_puppet
        from talkingface.models.makeittalk.puppet.puppet import load_puppet
        from talkingface.models.makeittalk.puppet.warp import PuppetWarp

        assert all("\n" not in fault for fault in check_puppet(folder / "toon.png"))
        puppet = load_puppet(folder / "toon.png")
        assert np.isfinite(puppet.closed).all()
        shown, opacity = PuppetWarp(puppet)(puppet.points + 1)
        assert shown.shape == (64, 48, 3) and opacity.shape == (64, 48)


SUBJECTS: dict[str, Subject] = {
    subject.name: subject()
    for subject in (
        PreparedClip,
        Lists,
        LandmarkTable,
        OldData,
        HyperLipsData,
        Dumps,
        Yaml,
        Checkpoint,
        Media,
        PuppetTables,
    )
}
