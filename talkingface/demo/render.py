"""Rasterise the deformed mesh, look the texture up, draw the mouth interior, composite."""

from __future__ import annotations

import cv2
import numpy as np

from talkingface.demo import mesh
from talkingface.demo.deform import FrameState, pose_points
from talkingface.demo.eyelids import lid_index
from talkingface.demo.identity import Identity
from talkingface.demo.mouth import draw_mouth

_NOISE = 1.6  # standard deviation of the luma noise


class Renderer:
    """Draws frames of one identity.

    The mesh maps frame pixels to texture pixels with one affine per triangle; all triangles are solved in one batched
    call and the picture is fetched with a single `cv2.remap`.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        side = identity.side
        self._index = np.empty((side, side), np.int16)
        self._x = np.arange(side, dtype=np.float32)[None, :]
        self._y = np.arange(side, dtype=np.float32)[:, None]

    def frame(self, state: FrameState, noise: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw one frame.

        Args:
            state: mouth, blink and head pose.
            noise: generator of the luma noise; None draws a clean frame.

        Returns:
            RGB uint8 (size, size, 3), and the mesh points (V, 2) in internal pixels.
        """
        identity = self.identity
        points, gap = pose_points(identity, state)
        map_x, map_y = self._lookup(points)
        texture = identity.textures[lid_index(state.blink)]
        # Textures are premultiplied: interpolated that way, hair does not bleed the old background into the new one.
        picture = cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        draw_mouth(picture, identity, points, gap, rounding=max(0.0, -state.width))
        if identity.side != identity.size:
            picture = cv2.resize(picture, (identity.size, identity.size), interpolation=cv2.INTER_AREA)
        shown = picture[..., :3] + identity.background * (1 - picture[..., 3:] * np.float32(1 / 255))
        if noise is not None:
            # Grey noise, the same in all channels, as of a camera: without it a still face would repeat to the bit.
            shown += _NOISE * noise.standard_normal((identity.size, identity.size, 1), np.float32)
        frame = np.clip(shown + 0.5, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(frame[:, ::-1]) if identity.mirror else frame, points

    def _lookup(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Texture coordinates (side, side) of every frame pixel."""
        identity, index = self.identity, self._index
        triangles = identity.triangles
        corners = points[triangles]
        areas = mesh.signed_areas(points, triangles)
        drawn = np.flatnonzero(areas > 0.04)
        # In 1/256 of a pixel (shift 8): rounded to whole ones, triangles would jitter and leave gaps.
        fixed = np.round(corners * 256).astype(np.int32)
        index.fill(-1)
        for number in drawn.tolist():
            cv2.fillConvexPoly(index, fixed[number], number, cv2.LINE_8, 8)
        if (index < 0).any():  # hairline gaps and the mouth hole: continue the nearest triangle
            grown = cv2.dilate(index, np.ones((5, 5), np.uint8))
            np.copyto(index, grown, where=index < 0)
            index[index < 0] = 0
        affine = _affines(corners, identity.source[triangles], areas)
        planes = [np.take(affine[:, k], index) for k in range(6)]
        map_x = planes[0] * self._x + planes[1] * self._y + planes[2]
        map_y = planes[3] * self._x + planes[4] * self._y + planes[5]
        return map_x, map_y


def _affines(frame: np.ndarray, source: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(T, 6) float32 coefficients that take frame pixels to texture pixels; corners are (T, 3, 2) each."""
    edge1, edge2 = frame[:, 1] - frame[:, 0], frame[:, 2] - frame[:, 0]
    image1, image2 = source[:, 1] - source[:, 0], source[:, 2] - source[:, 0]
    scale = np.where(np.abs(areas) > 1e-9, 1.0 / np.where(areas == 0, 1, areas), 0)[:, None]
    dx = (image1 * edge2[:, 1:] - image2 * edge1[:, 1:]) * scale
    dy = (image2 * edge1[:, :1] - image1 * edge2[:, :1]) * scale
    offset = source[:, 0] - dx * frame[:, 0, :1] - dy * frame[:, 0, 1:]
    both = np.stack([dx, dy, offset], axis=2)  # (T, 2, 3)
    return both.reshape(-1, 6).astype(np.float32)
