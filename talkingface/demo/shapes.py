"""Geometry of an identity: proportions, the relaxed mouth, and the blend shapes that move it."""

from __future__ import annotations

import numpy as np

from talkingface.demo import mesh
from talkingface.faces.warp import SmoothField

# Mouth width over face height of a relaxed face; a wider one is a smile and gets pulled in.
_NEUTRAL_MOUTH = 0.345


def spread_rows(points: np.ndarray) -> None:
    """Put the middle lip rows at thirds between the outer and the inner row, in place."""
    for rows in (mesh.UPPER_ROWS, mesh.LOWER_ROWS):
        for share, row in ((1 / 3, rows[1]), (2 / 3, rows[2])):
            points[row] = (1 - share) * points[rows[0]] + share * points[rows[3]]


def reshape(
    points: np.ndarray, triangles: np.ndarray, still: np.ndarray, height: float, rng: np.random.Generator
) -> np.ndarray:
    """Random proportions: jaw and face width, face height, eye size, nose width. Returns the displacement (V, 2)."""
    face = points[: mesh.POINTS]
    oval = face[mesh.OVAL]
    centre = (oval.min(axis=0) + oval.max(axis=0)) / 2
    # In face heights from here on, so that the amounts fit a portrait of any size.
    local = (face - centre) / height
    moved = local.copy()
    jaw, wide, tall = rng.uniform(-0.10, 0.10), rng.uniform(-0.05, 0.05), rng.uniform(-0.06, 0.06)
    # Jaws differ in width, foreheads do not with them: a smooth step from the middle of the face down.
    below = np.clip(local[:, 1] / 0.4, 0, 1)
    moved[:, 0] *= 1 + wide + jaw * below * below * (3 - 2 * below)
    moved[:, 1] *= 1 + tall
    eye = rng.uniform(-0.08, 0.10)
    for upper, lower in mesh.EYES:
        middle = local[upper + lower].mean(axis=0)
        moved += eye * _bump(local, middle, 0.11) * (local - middle)
    nose = local[mesh.NOSE].mean(axis=0)
    moved[:, 0] += rng.uniform(-0.12, 0.12) * _bump(local, nose, 0.12)[:, 0] * (local[:, 0] - nose[0])
    handles = dict(enumerate((moved - local) * height))
    return _extend(points, triangles, handles, still)


def _bump(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    return np.exp(-np.sum((points - centre) ** 2, axis=1, keepdims=True) / radius**2)


def relax_mouth(
    points: np.ndarray, triangles: np.ndarray, still: np.ndarray, height: float, widen: float
) -> np.ndarray:
    """Displacement (V, 2) that closes the mouth, flattens a smile and changes the mouth width by share `widen`."""
    upper, lower = points[mesh.UPPER_INNER], points[mesh.LOWER_INNER]
    # The seam lies closer to the lower lip: in an open smile it is the upper one that is lifted.
    seam = 0.4 * upper + 0.6 * lower
    middle = seam.mean(axis=0)
    width = np.linalg.norm(points[291] - points[61]) / height
    # A wide smile is pulled in by a quarter at most.
    squeeze = (1 - np.clip(1 - _NEUTRAL_MOUTH / width, 0, 0.24)) * (1 + widen)
    target = points.copy()
    level = seam[:, 1].mean()
    flat = seam.copy()
    # A fifth of the seam's curve stays; a straight line would look drawn.
    flat[:, 1] = level + 0.2 * (seam[:, 1] - level)
    flat[:, 0] = middle[0] + squeeze * (seam[:, 0] - middle[0])
    for rows in (mesh.UPPER_ROWS, mesh.LOWER_ROWS):
        outer, inner = points[rows[0]], points[rows[3]]
        thick = outer - inner  # lips keep their thickness while the seam goes to its new place
        fuller = 1.0 + 0.8 * np.clip(width / _NEUTRAL_MOUTH - 1, 0, 0.3)  # a smile stretches them thin
        target[rows[3]] = flat
        target[rows[0]] = flat + thick * (squeeze, fuller)
    spread_rows(target)
    nose = points[mesh.NOSE_BASE, 1]
    # The nose and the outline hold still; the cheeks between them and the mouth take up the movement.
    fixed = {i: np.zeros(2) for i in range(mesh.POINTS) if points[i, 1] <= nose} | {i: np.zeros(2) for i in mesh.OVAL}
    handles = fixed | {int(i): target[i] - points[i] for i in mesh.LIPS}
    return _extend(points, triangles, handles, still)


def blend_shapes(rest: np.ndarray, triangles: np.ndarray, still: np.ndarray, height: float) -> dict[str, np.ndarray]:
    """Full-strength displacement fields (V, 2) for jaw, round, spread, press, tuck and brow.

    Lips, chin and everything from the nose upwards are handles; the skin between them follows as a thin plate.
    """
    centre = rest[mesh.UPPER_INNER].mean(axis=0)
    nose, chin = rest[mesh.NOSE_BASE, 1], rest[mesh.CHIN, 1]
    zero = np.zeros(2)
    face = range(mesh.POINTS)
    ring = range(mesh.POINTS, len(rest))
    fixed = {int(i): zero for i in still}
    fixed |= {i: zero for i in face if rest[i, 1] <= nose} | {i: zero for i in ring if rest[i, 1] <= centre[1]}
    oval = {i: zero for i in mesh.OVAL}

    # Only the jaw moves the outline of the face; all other shapes leave it where it is.
    shapes = {name: fixed | oval for name in ("round", "spread", "press", "tuck")}
    shapes["jaw"] = dict(fixed)
    for i in mesh.OVAL:  # the chin follows the jaw, fading upwards and sideways
        fade = np.cos(np.pi / 2 * min(1.0, abs(rest[i, 0] - centre[0]) / (0.57 * height))) ** 2
        drop = 0.92 * np.clip((rest[i, 1] - centre[1]) / (chin - centre[1]), 0, 1) * fade
        # `setdefault`: what was fixed above (from the nose upwards) stays fixed.
        shapes["jaw"].setdefault(i, np.array([0.0, 0.125 * height * drop]))
    for name, handles in _lip_handles(rest, centre, height).items():
        shapes[name] |= handles

    # Brows rise without pulling the eyes open.
    eyes = {i: zero for lines in mesh.EYES for i in lines[0] + lines[1]}
    brows = {i: np.array([0.0, -0.02 * height]) for i in mesh.BROWS}
    shapes["brow"] = {int(i): zero for i in still} | {i: zero for i in face if rest[i, 1] > nose} | eyes | brows
    shapes["brow"][mesh.FOREHEAD] = zero
    field = SmoothField(rest, triangles)
    return {name: field.extend(np.array(list(h)), np.array(list(h.values()))) for name, h in shapes.items()}


def _lip_handles(rest: np.ndarray, centre: np.ndarray, height: float) -> dict[str, dict[int, np.ndarray]]:
    """Displacements of all lip points for each mouth shape; amounts from the specification of the corpus."""
    handles: dict[str, dict[int, np.ndarray]] = {name: {} for name in ("jaw", "round", "spread", "press", "tuck")}
    corner = np.abs(rest[[61, 291], 0] - centre[0]).mean()
    for rows, side in ((mesh.UPPER_ROWS, -1.0), (mesh.LOWER_ROWS, 1.0)):
        for depth, row in enumerate(rows):
            inner = depth / 3  # 0 on the outer row, 1 on the inner one
            half = np.abs(rest[row[[0, -1]], 0] - centre[0]).mean()
            for place, i in enumerate(row):
                x = rest[i, 0] - centre[0]
                s = np.clip(x / half, -1, 1) if 0 < place < 10 else 1.0  # -1..1 along the lip, corners exactly
                # A half circle over the lip: 1 in the middle, 0 in the corners, steep there, as a real lip is round.
                full = np.sqrt(1 - s * s)
                # A little less sideways movement towards the corners, which the cheeks hold.
                near = np.exp(-0.5 * (x / (1.8 * corner)) ** 2)
                # Of a full jaw drop corners take .30, the middle of the lower lip .92; the upper lip rises a little.
                drop = 0.30 * abs(s) ** 3 - 0.10 * (1 - s * s) if side < 0 else 0.30 + 0.62 * full**1.5
                lift = 0.012 if side < 0 else 0.012 + 0.008 * inner
                thick = height * full * (1 - inner) * side
                handles["jaw"][i] = np.array([-0.10 * x * near, 0.125 * height * drop])
                handles["round"][i] = np.array([-0.30 * x * near, 0.022 * thick])
                handles["spread"][i] = np.array([0.13 * x * near, -0.010 * height * abs(s) ** 3])
                handles["press"][i] = np.array([0.0, -0.012 * thick])
                handles["tuck"][i] = np.array([0.0, -lift * height * full])
    return handles


def _extend(points: np.ndarray, triangles: np.ndarray, handles: dict[int, np.ndarray], still: np.ndarray) -> np.ndarray:
    """Smooth field over all points from handle displacements; `still` points and absent ones are zero."""
    values = {int(i): np.zeros(2) for i in still} | handles
    return SmoothField(points, triangles).extend(np.array(list(values)), np.array(list(values.values())))
