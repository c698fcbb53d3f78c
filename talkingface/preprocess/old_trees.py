"""Noticing that what a run looks for is there, in the layout of older code."""

from __future__ import annotations

import shlex
from pathlib import Path

from talkingface.clips.hyperlips_tree import FACES, HyperLipsTree
from talkingface.clips.prepared import prepared_ids


def conversion_advice(preprocessed_root: str | Path) -> str:
    """The command that makes clips of the face pictures in this folder, or beside it.

    Empty where there are none, or clips that are prepared already.
    """
    tree = HyperLipsTree.near(preprocessed_root) if str(preprocessed_root) else None
    if tree is None or prepared_ids(preprocessed_root):  # looked for second: most roots have no such tree
        return ""
    options = [f"--root={tree.root}"]
    if tree.root.resolve() != Path(preprocessed_root).resolve():
        options.append(f"--out={preprocessed_root}")
    command = shlex.join(["python", "run_talkingface.py", "convert-data", "--kind=hyperlips", *options])
    return f"{tree.root / FACES}: holds the pictures of HyperLips' own preprocessing; `{command}` makes clips of them"
