"""Crops of different settings lie beside each other in a clip's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from talkingface.clips.folder import ClipFolder
from talkingface.clips.meta import read_meta
from talkingface.plugin.configuration import load_config
from talkingface.workflow import prepare


@pytest.fixture(scope="module")
def options(tiny_dataset, tmp_path_factory):
    """One data set, prepared for Wav2Lip at 96 px."""
    folder = tmp_path_factory.mktemp("crops")
    own = {"preprocessed_root": str(folder), "model.crop.size": 96}
    prepare(load_config("Wav2Lip", "demo", (), {**tiny_dataset, **own}))
    return {**tiny_dataset, **own}


MANIFESTS = ("clip.json", "manifest.jsonl")  # which say what is new


def written(folder):
    """When every file was written last."""
    return {path: path.stat().st_mtime_ns for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def prepared(model, options, **more):
    """The configuration and the training clips of a model."""
    loaded = load_config(model, "demo", (), {**options, **more})
    return loaded.config.model, prepare(loaded)["train"]


def test_switching_models_and_settings_makes_nothing_twice(options):
    folder = options["preprocessed_root"]
    wav2lip = written(folder)
    prepared("SyncNet", options, **{"model.crop.size": 128})
    both = written(folder)
    added = {path.name for path in set(both) - set(wav2lip)}
    assert added == {f"faces@128-fixed-mesh-relative-0.05.{suffix}" for suffix in ("npz", "bin")}
    assert all(both[path] == time for path, time in wav2lip.items() if path.name not in MANIFESTS)
    for model, size in (("Wav2Lip", 96), ("SyncNet", 128), ("SyncNet", 96), ("Wav2Lip", 96)):
        config, clips = prepared(model, options, **{"model.crop.size": size})
        assert {clip.faces(config.crop.artefact).size for clip in clips} == {size}
    assert written(folder) == both


@pytest.mark.parametrize("need_preprocess", [True, False])
def test_crops_under_the_name_of_an_earlier_version_are_used_as_they_are(options, tmp_path, need_preprocess):
    folder = tmp_path / "before"
    shutil.copytree(options["preprocessed_root"], folder)
    mine, other = "faces@96-fixed-mesh-relative-0.05", "faces@128-fixed-mesh-relative-0.05"
    for clip in {path.parent for path in folder.rglob("clip.json")}:
        meta = read_meta(clip)
        meta["steps"].pop(other, None)
        record = meta["steps"].pop(mine)
        meta["steps"]["faces@wav2lip"] = {**record, "files": ["faces@wav2lip.npz", "faces@wav2lip.bin"]}
        (clip / "clip.json").write_text(json.dumps(meta))
        for name in record["files"]:
            (clip / name).rename(clip / name.replace(mine, "faces@wav2lip"))
    before, where = written(folder), {"preprocessed_root": str(folder), "need_preprocess": need_preprocess}
    config, clips = prepared("Wav2Lip", options, **where)
    assert clips and written(folder) == before
    assert clips[0].faces(config.crop.artefact)[3].shape == (96, 96, 3)
    clip = ClipFolder(clips[0].path)
    assert not clip.has(other), "crops of other settings are none of these"
    assert "faces were cut with size 96, the model wants size 128" in clip.lacks_crops(
        config.crop.model_copy(update={"size": 128})
    )
