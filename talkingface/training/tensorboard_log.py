"""A run's numbers and pictures in the files of TensorBoard."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from talkingface.files import writing

HParam = bool | int | float | str


class TensorBoardLog:
    """Writes to one folder of event files.

    Args:
        folder: of the part of the run.
        step: where it goes on; what was written of later steps is not shown any more.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.folder = folder
        _be_quiet()
        with writing(folder):
            self._writer = SummaryWriter(str(folder), purge_step=step or None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at one step.

        Raises:
            OutputError: the disk is full; also where it was so at a step before, which another thread wrote.
        """
        with writing(self.folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, name: str, file: Path, size: tuple[int, int], step: int) -> None:
        """A PNG or animated GIF of (height, width)."""
        # SummaryWriter.add_video would need moviepy; an animated GIF inside an image summary is what it writes anyway.
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=file.read_bytes())
        with writing(self.folder):
            self._writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def results(self, hyperparameters: Mapping[str, HParam], figures: Mapping[str, float], step: int) -> None:
        """Hyper-parameters, and the figures that they led to: one line of the page HPARAMS."""
        # By default each call would open a folder of its own, named by the time.
        with writing(self.folder):
            self._writer.add_hparams(dict(hyperparameters), dict(figures), run_name=".", global_step=step)

    def close(self) -> None:
        """Write what is waiting."""
        with writing(self.folder):
            self._writer.close()


def _be_quiet() -> None:
    """Keep the traceback of TensorBoard's own thread off the terminal: the next call here raises its error again."""
    shown = threading.excepthook

    def show(told: threading.ExceptHookArgs) -> None:
        ours = type(told.thread).__module__.startswith("tensorboard") and isinstance(told.exc_value, OSError)
        if not ours:
            shown(told)

    if getattr(shown, "__name__", "") != "show":
        threading.excepthook = show
