"""Helpers that make a toy run: clips that exist in memory only, a loaded configuration, a trainer."""

from __future__ import annotations

from pathlib import Path

from talkingface.devices import seed_everything
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.configuration import LoadedConfig, load_config
from talkingface.plugin.registry import get_spec
from talkingface.training.trainer import Trainer
from talkingface.weights.runs import RunFolder


class MemoryClip:
    """Stands for a prepared clip in data sets that make their numbers up."""

    imported, has_video = "memory", False  # there is no video to score

    def __init__(self, clip_id: str, frames: int = 50) -> None:
        self.clip_id, self.frames = clip_id, frames

    def __len__(self) -> int:
        return self.frames


CLIPS = {"train": [MemoryClip(f"t{i}") for i in range(5)], "val": [MemoryClip(f"v{i}") for i in range(2)]}


def toy_config(tmp_path: Path, model: str = "ToyGAN", **overrides) -> LoadedConfig:
    defaults = {
        "saved_dir": str(tmp_path / "saved"),
        "device": "cpu",
        "show_progress": False,
        "tensorboard": False,
        "need_preprocess": False,
    }
    return load_config(model, "folder", (), {**defaults, **overrides})


def toy_trainer(loaded: LoadedConfig, run: Path, trainer_class=Trainer, **kwargs) -> Trainer:
    config = loaded.config
    seed_everything(config.seed)
    model = get_spec(config.model_name).model(config.model)
    load_experts(model, config, [stage.kind for stage in config.stages])
    return trainer_class(config, model, CLIPS, RunFolder(run), **kwargs)
