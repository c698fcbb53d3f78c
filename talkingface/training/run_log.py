"""What a run leaves behind while it trains: `log.jsonl`, TensorBoard, wandb, sample pictures."""

from __future__ import annotations

import io
import json
import logging
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.config.layers import dotted, leaves, to_plain
from talkingface.files import write_text, writing
from talkingface.packages import install
from talkingface.stored.jsons import parse_json

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from talkingface.config.sections import Config
    from talkingface.training.tensorboard_log import TensorBoardLog
    from talkingface.training.wandb_log import WandbLog
    from talkingface.weights.runs import RunFolder

log = logging.getLogger("talkingface")

EVALUATION = "evaluation"
"""Part of a run's logs beside its stages."""


class RunLog:
    """Writes one record to every place a run is logged to; does nothing on processes other than the first."""

    def __init__(self, run: RunFolder, config: Config, active: bool = True) -> None:
        self.run, self.config, self.active = run, config, active
        self._sinks: list[TensorBoardLog | WandbLog] = []

    def start_stage(self, stage: str, step: int) -> None:
        """Open the sinks of a stage; records later than `step` (of a run that was killed) are dropped."""
        if not self.active:
            return
        self._forget_after(stage, step)
        self._open(stage, step)

    def _open(self, part: str, step: int) -> None:
        """Open the sinks of a stage, or of the evaluation."""
        self.close()
        if self.config.tensorboard:
            try:
                from talkingface.training.tensorboard_log import TensorBoardLog
            except ImportError:
                log.warning("tensorboard is not installed: no TensorBoard files (%s)", install("tensorboard"))
            else:
                self._sinks.append(TensorBoardLog(self.run.path / "tensorboard" / part, step))
        if self.config.log_wandb:
            self._open_wandb(part)

    def _open_wandb(self, part: str) -> None:
        try:
            from talkingface.training.wandb_log import WandbLog
        except ImportError:
            log.warning("log_wandb is on but wandb is not installed (%s); going on without", install("wandb"))
            return
        try:
            self._sinks.append(WandbLog(self.run.path, self.config, part))
        except Exception as error:
            # No network, no login, a version that asks for something else: no reason to lose a training of days.
            log.warning("wandb cannot be reached (%s: %s); going on without", type(error).__name__, error)

    def _forget_after(self, stage: str, step: int) -> None:
        """Drop what a killed run logged after its last checkpoint: these steps are made, and logged, again."""
        file = self.run.path / "log.jsonl"
        if not file.is_file():
            return
        kept = []
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = parse_json(line)
                if record.get("stage") != stage or record.get("step", 0) <= step:
                    kept.append(line)
            except (ValueError, AttributeError, TypeError):
                continue  # a line cut short when the process was killed, or none of ours
        write_text(file, "".join(line + "\n" for line in kept))

    def record(self, stage: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Log scalars at one step."""
        if not self.active:
            return
        # JSON has no NaN: a value that is not finite is null.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"stage": stage, "epoch": epoch, "step": step, "time": round(time.time(), 3), **finite})
        path = self.run.path / "log.jsonl"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        for sink in self._sinks:
            sink.scalars(values, step)

    def pictures(self, stage: str, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Images (3, H, W) and videos (T, 3, H, W) in [0, 1], to every sink and to `<stage>/samples/`."""
        if not self.active:
            return
        folder = self.run.stage(stage) / "samples"
        for name, picture in pictures.items():
            array = (picture.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
            frames = array.reshape(-1, *array.shape[-3:]).transpose(0, 2, 3, 1)
            suffix = "png" if len(frames) == 1 else "gif"
            file = folder / f"{name.replace('/', '_')}_{step:07d}.{suffix}"
            with writing(file):
                folder.mkdir(parents=True, exist_ok=True)
                file.write_bytes(_encode(frames))
            for sink in self._sinks:
                sink.picture(name, file, frames.shape[1:3], step)

    def end_stage(self, step: int, best: Mapping[str, float]) -> None:
        """The best validation values of the stage that is open, beside its hyper-parameters."""
        figures = {f"best/{name}": value for name, value in best.items()}
        for sink in self._sinks:
            sink.results(hyperparameters(self.config), figures, step)

    def evaluation(self, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """The figures of the evaluated run, and picture files by name; those of an earlier evaluation make way."""
        if not self.active:
            return
        shutil.rmtree(self.run.path / "tensorboard" / EVALUATION, ignore_errors=True)
        self._open(EVALUATION, 0)
        finals = {f"final/{name}": value for name, value in figures.items() if math.isfinite(value)}
        for sink in self._sinks:
            sink.results(hyperparameters(self.config), finals, 0)
            for name, file in pictures.items():
                sink.picture(name, file, _size(file), 0)
        self.close()

    def close(self) -> None:
        """Flush and close the sinks."""
        while self._sinks:
            self._sinks.pop().close()


def hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """What decides about the result, flat: `stages.render.optim.renderer.lr` -> 1e-4."""
    plain = to_plain(config)
    chosen = {key: plain[key] for key in ("model_name", "dataset", "profile", "seed", "precision", "model")}
    chosen["stages"] = {stage["name"]: stage for stage in plain["stages"]}
    flat = {dotted(path): value for path, value in leaves(chosen) if value is not None}
    return {key: value if isinstance(value, (bool, int, float, str)) else str(value) for key, value in flat.items()}


def _size(picture: Path) -> tuple[int, int]:
    """(height, width) in pixels."""
    from PIL import Image

    with Image.open(picture) as image:
        return image.height, image.width


def _encode(frames: np.ndarray) -> bytes:
    """PNG of one frame or animated GIF of several; frames are uint8 RGB (T, H, W, 3)."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    if len(images) == 1:
        images[0].save(buffer, "PNG")
    else:
        images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=40, loop=0)
    return buffer.getvalue()
