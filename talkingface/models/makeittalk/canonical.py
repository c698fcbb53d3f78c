"""The face that all faces are registered to, where no imported one takes its place.

It is our own: `make_canonical` made it. The published mean face belongs to assets under CC BY-NC 4.0, is not shipped,
and is read from the files that the user imports, see `assets`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("canonical.json")


@lru_cache(maxsize=1)
def canonical_face() -> np.ndarray:
    """(68, 3) float64, read-only: symmetrical, y down, z towards the viewer.

    The outer eye corners lie at x = -0.5 and 0.5 and y = z = 0.
    """
    face = np.array(json.loads(FILE.read_text(encoding="utf-8"))["points"])
    face.setflags(write=False)
    return face
