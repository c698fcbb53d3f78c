"""A preprocessing step that misbehaves on demand; in a file of its own, which worker processes import quickly."""

from __future__ import annotations

import os
import signal

import numpy as np

import talkingface.preprocess.steps  # noqa: F401  (the toolkit's own steps come first in the list of what is known)
from talkingface.config.sections import PreprocessConfig
from talkingface.preprocess.step import ClipContext, Step, register_step

TRAP = "trap"  # a file of this name in the folder of a clip ends the process that works on it, once


@register_step("notes")
class NotesStep(Step):
    """A step that misbehaves on demand."""

    needs = ("audio",)

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, str]:
        return {"text": "hello", "fail_on": "", "die_on": ""}

    def run(self, ctx: ClipContext) -> list[str]:
        (ctx.scratch / "notes.npy").write_bytes(b"half")
        if ctx.item.clip_id == self.params["fail_on"]:
            raise RuntimeError("the middle\nof it")
        trap = ctx.folder / TRAP
        if trap.exists():
            trap.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if ctx.item.clip_id == self.params["die_on"]:
            os.kill(os.getpid(), signal.SIGSEGV)
        np.save(ctx.scratch / "notes.npy", np.array(self.params["text"]))
        return ["notes.npy"]
