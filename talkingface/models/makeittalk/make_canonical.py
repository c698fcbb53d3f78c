"""How the canonical face was made: mean of the demo's portraits at rest and of their mirror images.

python -m talkingface.models.makeittalk.make_canonical
"""

from __future__ import annotations

import json

import numpy as np

from talkingface.demo.identity import build_identity
from talkingface.demo.portrait import BUILTIN, builtin_portrait
from talkingface.faces.ibug68 import EYE_CORNERS, MIRRORED, eye_distances
from talkingface.faces.mesh import to_ibug68
from talkingface.faces.rigid import register
from talkingface.models.makeittalk.canonical import FILE

_SIDE = 256  # pixels in which a portrait is measured
_ROUNDS = 10
_MESH_POINTS = 468


def make_canonical() -> np.ndarray:
    """(68, 3) float64, four digits."""
    faces = [face for name in BUILTIN for face in (_at_rest(name), _mirrored(_at_rest(name)))]
    mean = faces[0]
    for _ in range(_ROUNDS):  # registered to their mean, whose mean is then another one
        mean = _placed(np.mean([register(face, mean)[0] for face in faces], axis=0))
    return np.round((mean + _mirrored(mean)) / 2, 4) + 0.0  # no negative zeros


def _at_rest(name: str) -> np.ndarray:
    """A portrait (68, 3) with its mouth closed, as the demo's people have it; eye corners 1 apart."""
    person = build_identity(builtin_portrait(name), 0, 0, _SIDE)
    mesh = np.column_stack([person.rest, -person.depth])[:_MESH_POINTS]
    face = to_ibug68(mesh)
    return _placed(face / eye_distances(face))


def _placed(face: np.ndarray) -> np.ndarray:
    """A face with the middle of its eye corners at zero, and these 1 apart."""
    right, left = face[EYE_CORNERS[0]], face[EYE_CORNERS[1]]
    return (face - (right + left) / 2) / eye_distances(face)


def _mirrored(face: np.ndarray) -> np.ndarray:
    return face[list(MIRRORED)] * [-1, 1, 1]


def main() -> None:
    """Write the file that is shipped."""
    note = "Mean of the demo portraits at rest and their mirror images; made by make_canonical.py."
    rows = ",\n".join(f"    {json.dumps(point)}" for point in make_canonical().tolist())
    FILE.write_text(f'{{\n  "note": {json.dumps(note)},\n  "points": [\n{rows}\n  ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
