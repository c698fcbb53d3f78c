"""What a run leaves behind while it trains: `log.jsonl`, TensorBoard, wandb, sample pictures."""

from __future__ import annotations

import io
import json
import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from talkingface.config.layers import to_plain
from talkingface.files import write_text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from talkingface.config.sections import Config
    from talkingface.weights.runs import RunFolder

log = logging.getLogger("talkingface")


class RunLog:
    """Writes one record to every place a run is logged to; does nothing on processes other than the first."""

    def __init__(self, run: RunFolder, config: Config, active: bool = True) -> None:
        self.run, self.config, self.active = run, config, active
        self._tensorboard: Any = None
        self._wandb: Any = None

    def start_stage(self, stage: str, step: int) -> None:
        """Open the sinks of a stage; records later than `step` (of a run that was killed) are dropped."""
        if not self.active:
            return
        self.close()
        self._forget_after(stage, step)
        if self.config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                log.warning("tensorboard is not installed: no TensorBoard files (pip install tensorboard)")
            else:
                folder = self.run.path / "tensorboard" / stage
                self._tensorboard = SummaryWriter(str(folder), purge_step=step or None)
        if self.config.log_wandb:
            self._start_wandb(stage)

    def _start_wandb(self, stage: str) -> None:
        try:
            import wandb
        except ImportError:
            log.warning("log_wandb is on but wandb is not installed (pip install wandb); going on without")
            return

        name = f"{self.config.model_name}-{self.run.path.name}-{stage}"
        self._wandb = wandb.init(project=self.config.wandb_project, name=name, config=to_plain(self.config))

    def _forget_after(self, stage: str, step: int) -> None:
        """Drop what a killed run logged after its last checkpoint: these steps are made, and logged, again."""
        file = self.run.path / "log.jsonl"
        if not file.is_file():
            return
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a line cut short when the process was killed
            if record.get("stage") != stage or record.get("step", 0) <= step:
                kept.append(line)
        write_text(file, "".join(line + "\n" for line in kept))

    def record(self, stage: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Log scalars at one step."""
        if not self.active:
            return
        # JSON has no NaN: a value that is not finite is null.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"stage": stage, "epoch": epoch, "step": step, "time": round(time.time(), 3), **finite})
        self.run.path.mkdir(parents=True, exist_ok=True)
        with open(self.run.path / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def pictures(self, stage: str, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Images (3, H, W) and videos (T, 3, H, W) in [0, 1], to TensorBoard and to `<stage>/samples/`."""
        if not self.active:
            return
        folder = self.run.stage(stage) / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            array = (picture.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
            frames = array.reshape(-1, *array.shape[-3:]).transpose(0, 2, 3, 1)
            suffix = "png" if len(frames) == 1 else "gif"
            data = _encode(frames)
            (folder / f"{name.replace('/', '_')}_{step:07d}.{suffix}").write_bytes(data)
            if self._tensorboard is not None:
                self._add_picture(name, data, frames.shape[1:3], step)

    def _add_picture(self, name: str, data: bytes, size: tuple[int, int], step: int) -> None:
        # SummaryWriter.add_video would need moviepy; an animated GIF inside an image summary is what it writes anyway.
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=data)
        self._tensorboard._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def close(self) -> None:
        """Flush and close the sinks."""
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None


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
