"""One synthetic person: a portrait recoloured, reshaped, brought to rest and prepared for fast deformation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from talkingface.demo import mesh
from talkingface.demo.colour import fill_mouth, gradient, own_edges, premultiply, recolour, tint_lips
from talkingface.demo.eyelids import LID_LEVELS, close_eyes
from talkingface.demo.portrait import Portrait, crop_portrait
from talkingface.demo.shapes import blend_shapes, relax_mouth, reshape, spread_rows
from talkingface.demo.speech import Voice
from talkingface.faces.warp import mean_of_neighbours, untangle

# Rings of points around the face, through hair to background: radius in face heights, share of the head pose.
_RINGS = ((0.78, 0.95), (0.95, 0.60), (1.15, 0.0))
_RING_POINTS = 36


@dataclass(frozen=True)
class Identity:
    """What a renderer needs; pixel units of the internal square picture of side `side`.

    Attributes:
        name: `id00`, `id01`, ...
        size: side of the finished frame in pixels.
        side: side of the internal picture, a multiple of it.
        face_height: forehead to chin.
        textures: (side, side, 4) uint8 premultiplied RGBA, one per lid level of `LID_LEVELS`.
        background: (size, size, 3) float32 RGB in 0..255.
        source: (V, 2) points in the texture.
        rest: (V, 2) points of the relaxed face.
        depth: (V,), larger is further away.
        follow: (V,) share of the head pose that a point takes part in.
        triangles: (T, 3) point numbers.
        moves: name of a shape -> (V, 2) displacement at full strength.
        mirror: whether finished frames are mirrored.
        tooth_shade: lightness of the teeth, that of the skin.
        voice: how the person sounds.
        movable: (V,) bool, points that may give way where triangles overlap.
        neighbours: (V, V) matrix that takes points to the mean of their neighbours.
    """

    name: str
    size: int
    side: int
    face_height: float
    textures: list[np.ndarray]
    background: np.ndarray
    source: np.ndarray
    rest: np.ndarray
    depth: np.ndarray
    follow: np.ndarray
    triangles: np.ndarray
    moves: dict[str, np.ndarray]
    mirror: bool
    tooth_shade: float
    voice: Voice
    movable: np.ndarray = field(repr=False)
    neighbours: np.ndarray = field(repr=False)


def build_identity(
    portrait: Portrait, index: int, seed: int, size: int, supersample: int = 2, mirror: bool = False
) -> Identity:
    """Make identity `index`; a pure function of its arguments.

    Identity 0 keeps the portrait's own colours, shape and background; later ones are recoloured, reshaped and put in
    front of a smooth gradient.
    """
    # Voice first, then looks: their order is part of what a seed means, and so of every corpus made with it.
    rng = np.random.default_rng([seed, 101, index])
    voice = Voice.random(rng)
    side = size * supersample
    cropped = crop_portrait(portrait, side)
    original = index == 0
    face = _parametrise_lips(cropped.points)
    height = float(np.linalg.norm(face[mesh.FOREHEAD, :2] - face[mesh.CHIN, :2]))
    rings, follow = _rings(face, height)
    extra, triangles = mesh.support_mesh(face[:, :2], side, rings)
    source = np.concatenate([face[:, :2], extra])
    movable = np.ones(len(source), bool)
    # Lips are measured against the truth, and the outline joins face and surroundings: neither may give way when
    # overlaps are mended. Rings and border hold the background still.
    movable[mesh.LIPS] = movable[mesh.OVAL] = movable[mesh.POINTS :] = False
    neighbours = mean_of_neighbours(triangles, len(source))
    source = untangle(source, triangles, movable, neighbours=neighbours)

    # The face follows the head fully, the rings less and less, the picture's border not at all.
    follow = np.concatenate([np.ones(mesh.POINTS), follow, np.zeros(len(extra) - len(rings))])
    still = np.flatnonzero(follow == 0)
    shaped = source if original else source + reshape(source, triangles, still, height, rng)
    mouth_scale = 0.0 if original else float(rng.uniform(-0.10, 0.10))
    rest = shaped + relax_mouth(shaped, triangles, still, height, mouth_scale)
    rest = untangle(rest, triangles, movable, neighbours=neighbours)

    # Two shapes from here on: `source`, where a point lies in the texture, and `rest`, where it lies in the face at
    # rest.
    image = cropped.image if original else own_edges(cropped.image, cropped.mask, height)
    # Teeth of a smiling portrait would smear over the closed lips; the renderer draws its own.
    image = fill_mouth(image, source, height)
    shade = 1.0
    if not original:
        image, shade = recolour(image, source, rng)
    image = tint_lips(image, source, height, 6.0 if original else float(rng.uniform(4, 12)))
    alpha = np.ones((side, side), np.float32) if original else cropped.mask
    background = np.zeros((size, size, 3), np.float32) if original else gradient(size, rng)
    textures = [premultiply(close_eyes(image, source, height, level), alpha) for level in LID_LEVELS]
    # Portraits come with depth for the face only; around it, that of the outline lets hair turn with the head.
    depth = np.concatenate([cropped.points[:, 2], np.full(len(extra), cropped.points[mesh.OVAL, 2].mean())])
    return Identity(
        name=f"id{index:02d}",
        size=size,
        side=side,
        face_height=height,
        textures=textures,
        background=background,
        source=source,
        rest=rest,
        depth=depth,
        follow=follow,
        triangles=triangles,
        moves=blend_shapes(rest, triangles, still, height),
        mirror=mirror,
        tooth_shade=shade,
        voice=voice,
        movable=movable,
        neighbours=neighbours,
    )


def _parametrise_lips(points: np.ndarray) -> np.ndarray:
    """Replace the two middle lip rows by thirds between outer and inner lip.

    Measured middle rows overlap the inner row on closed and on smiling lips, which would fold the texture.
    """
    points = points.copy()
    upper, lower = mesh.UPPER_INNER, mesh.LOWER_INNER
    crossing = np.maximum(points[upper, 1] - points[lower, 1], 0)[1:-1] / 2
    points[upper[1:-1], 1] -= crossing
    points[lower[1:-1], 1] += crossing
    spread_rows(points)
    return points


def _rings(face: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (R, 2) around the face (468, 3), and the share of the head pose that each follows, (R,)."""
    oval = face[mesh.OVAL, :2]
    centre = (oval.min(axis=0) + oval.max(axis=0)) / 2
    points, follow = [], []
    for radius, share in _RINGS:
        for angle in 2 * np.pi * (np.arange(_RING_POINTS) + 0.5) / _RING_POINTS:
            # Heads are narrower than high.
            x, y = 0.88 * radius * height * np.cos(angle), radius * height * np.sin(angle)
            points.append(centre + (x, y))
            # Below the chin is the neck, which turns half as much as the head it carries.
            follow.append(share * (0.5 if centre[1] + y > face[mesh.CHIN, 1] else 1.0))
    return np.array(points), np.array(follow)
