"""Fuzzed folders that older code has prepared: IP_LAP's, HyperLips' and MakeItTalk's."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from helpers.fuzz_subject import Subject
from helpers.mutations import Rng, damage_bytes, damage_value


class OldData(Subject):
    """IP_LAP's folders, with pickled landmarks."""

    name = "old"

    def make(self, folder: Path) -> None:
        import cv2

        from talkingface.faces import mesh

        values = np.random.default_rng(0).uniform(0, 1, (mesh.N_POINTS, 2))
        for part in ("landmarks", "faces", "audio"):
            (folder / part / "s/1").mkdir(parents=True)
        for frame in range(2):
            rows = {
                "pose_landmarks": [(i, float(values[i, 0]), float(values[i, 1])) for i in mesh.IPLAP_POSE],
                "content_landmarks": [[i, *values[i]] for i in mesh.IPLAP_CONTENT],
            }
            np.save(folder / f"landmarks/s/1/{frame}.npy", rows, allow_pickle=True)
            cv2.imwrite(str(folder / f"faces/s/1/{frame}.png"), np.zeros((128, 128, 3), np.uint8))
        np.save(folder / "audio/s/1/audio.npy", np.zeros((8, 80), np.float32))

    def damage(self, folder: Path, rng: Rng) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        file = files[rng.integers(len(files))]
        if file.parent.parent.parent.name == "landmarks" and rng.random() < 0.5:
            rows = np.load(file, allow_pickle=True).item()  # made above
            np.save(file, np.array(damage_value(rows, rng), dtype=object), allow_pickle=True)
        elif rng.random() < 0.05:
            file.rename(file.with_stem(str(rng.integers(10**12))))
        else:
            file.write_bytes(damage_bytes(file.read_bytes(), rng))

    def use(self, folder: Path) -> None:
        from talkingface.clips.folder import ClipFolder
        from talkingface.preprocess.convert import convert_legacy

        roots = {name: folder / name for name in ("landmarks", "faces", "audio")}
        report = convert_legacy("iplap", roots, folder / "out", progress=False)
        assert all("\n" not in reason for reason in report.failed.values())
        for clip_id in report.ok_ids:
            clip = ClipFolder(folder / "out" / clip_id)
            clip.track(), clip.mel()
            [clip.faces(name).whole() for name in clip.meta["steps"] if name.startswith("faces")]


class HyperLipsData(Subject):
    """HyperLips' pictures and sound."""

    name = "hyperlips"

    def make(self, folder: Path) -> None:
        from helpers.old_data import HR_KINDS, hyperlips_tree

        hyperlips_tree(folder, ["s/1"], frames=17, side=16, hr=HR_KINDS, hr_gone=range(3, 17), hr_side=24)

    def damage(self, folder: Path, rng: Rng) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        file = files[rng.integers(len(files))]
        if rng.random() < 0.1:
            file.rename(file.with_stem(str(rng.integers(10**12))))
        else:
            file.write_bytes(damage_bytes(file.read_bytes(), rng))

    def use(self, folder: Path) -> None:
        from talkingface.clips.folder import ClipFolder
        from talkingface.preprocess.convert import convert_legacy
        from talkingface.preprocess.export_hyperlips import export_tree

        report = convert_legacy("hyperlips", {"root": folder}, folder / "out", progress=False)
        assert all("\n" not in reason for reason in report.failed.values())
        for clip_id in report.ok_ids:
            clip = ClipFolder(folder / "out" / clip_id)
            for name in clip.meta["steps"]:
                if name.partition("@")[0] in ("faces", "hyper", "hyper_sketch"):
                    clip.faces(name).whole()
            assert len(clip.array("lip_boxes@hr")) == len(clip) and len(clip.audio())
            assert export_tree(folder / "out", folder / "again", progress=False).ok_ids == [clip_id]


class Dumps(Subject):
    """MakeItTalk's dumps and text trees."""

    name = "dumps"

    def make(self, folder: Path) -> None:
        from helpers.dumps import PREFIX, clip, rows_of, write_dump, write_texts

        clips = [clip(k, 30) for k in range(2)]
        write_dump(folder / "dumps", "train", clips)
        turns = np.tile(np.eye(3, 4), (30, 1, 1))
        gaze = {"rot_trans": [turns, turns], "anchor_t_shape": [each["faces"] for each in clips]}
        (folder / f"dumps/{PREFIX}_train_gaze.pickle").write_bytes(pickle.dumps(gaze))
        (folder / "dumps/emb.pickle").write_bytes(pickle.dumps({"video000000": np.ones(256)}))
        write_texts(folder / "texts", 0, "one", dict(enumerate(rows_of(15))), 0.6)

    def damage(self, folder: Path, rng: Rng) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        file = files[rng.integers(len(files))]
        file.write_bytes(damage_bytes(file.read_bytes(), rng))

    def use(self, folder: Path) -> None:
        from talkingface.clips.folder import ClipFolder
        from talkingface.models.makeittalk.config import MakeItTalkConfig
        from talkingface.models.makeittalk.data import read_motion
        from talkingface.preprocess.convert import convert_legacy

        config = MakeItTalkConfig(sound={"name": "autovc", "speaker": "resemblyzer"})
        for root in ("dumps", "texts"):
            report = convert_legacy("makeittalk", {"root": folder / root}, folder / f"out-{root}", progress=False)
            assert all("\n" not in reason for reason in report.failed.values())
            for clip_id in report.ok_ids:
                clip = ClipFolder(folder / f"out-{root}" / clip_id)
                if root == "texts":
                    clip.track(), clip.audio()
                elif clip.has(config.sound.artefact):
                    motion = read_motion(clip, config)
                    assert np.isfinite(motion.sound).all() and np.isfinite(motion.still).all()
