"""Fixtures shared by all tests, and the switch for the slow ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("GLOG_minloglevel", "3")
# Tiny networks gain nothing from threads, which on a busy machine wait for each other; child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("helpers.generation_promises")
VECTORS = Path(__file__).parent / "parity" / "vectors"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--cases", type=int, default=300, help="damaged files that tests/fuzz tries")
    parser.addoption("--fuzz-seed", type=int, default=0, help="the first of their seeds")
    parser.addoption(
        "--vectors",
        default=None,
        help="folder with parity vectors, <system>/<name>.json; also runs the slow parity tests",
    )


def pytest_xdist_auto_num_workers(config):
    """Each process imports torch and makes its own shared fixtures, so more than four gain little."""
    return min(4, os.cpu_count() or 1)


LONG = (
    "test_every_model.py",
    "lipsync/expert/test_alarm.py",
    "models/wav2lip/test_model.py",
    "compat/test_written_before.py",
    "parity/test_iplap.py",
    "models/iplap/test_model.py",
    "training/test_trainer.py",
    "test_readme.py",
    "demo/test_corpus.py",
    "preprocess/test_imported.py",
    "preprocess/test_crashes.py",
    "preprocess/test_prepare.py",
    "preprocess/filters/test_sync.py",
    "test_workers.py",
    "models/iplap/test_generate.py",
    "cli/test_bad_input.py",
)
"""Files that take longest. They begin first: a long one at the end would leave the other processes without work."""


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # by the number of tests, which says nothing of their length


def pytest_collection_modifyitems(config, items):
    import torch

    rank = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))
    chosen = config.getoption("--slow") or "slow" in config.getoption("-m", default="")
    named = any("::" in argument for argument in config.args)
    for item in items:
        parity = config.getoption("--vectors") and "parity" in item.path.parts
        if "slow" in item.keywords and not (chosen or named or parity):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def toys(monkeypatch):
    """Makes the toy plug-in known for one test."""
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "toys.toy_gan")
    import toys.toy_gan

    return toys.toy_gan


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """Overrides for `load_config(model, "demo", (), overrides)`: 2 identities x 3 clips of 1.2 s at 128 px, and one
    person more in `unseen.txt`.

    The videos are made here; what a model needs of them is prepared once by `workflow.prepare` and then shared.
    """
    from talkingface.config.sections import DemoConfig
    from talkingface.demo.corpus import make_corpus

    root = tmp_path_factory.mktemp("tiny")
    shape = {"identities": 2, "clips": 3, "unseen": 1, "seconds": 1.2, "size": 128, "seed": 7}
    make_corpus(root / "data", DemoConfig(**shape), workers=1, progress=False, filelists=root / "filelist")
    splits = ("train", "val", "test", "unseen")
    lists = {f"{split}_filelist": str(root / "filelist" / f"{split}.txt") for split in splits}
    return {
        **lists,
        **{f"demo.{key}": value for key, value in shape.items()},
        "data_root": str(root / "data"),
        "preprocessed_root": str(root / "preprocessed_data"),
        "saved_dir": str(root / "saved"),
        "profile": "tiny",
        "device": "cpu",
        "show_progress": False,
        "tensorboard": False,
        "preprocess.workers": 0,
    }


@pytest.fixture(scope="session")
def sync_run(tmp_path_factory):
    """A finished run of a very small SyncNet that has learnt drawn clips: `<saved>/SyncNet-drawn/first`."""
    from helpers.sync_clips import people, train_expert

    root = tmp_path_factory.mktemp("sync")
    clips = {"train": people(root / "clips", 12), "val": people(root / "clips", 6, first=100)}
    return train_expert(root / "saved" / "SyncNet-drawn" / "first", clips)
