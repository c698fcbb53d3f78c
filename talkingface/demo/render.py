"""Move the texture by the deformed mesh, draw the mouth interior, composite."""

from __future__ import annotations

import cv2
import numpy as np

from talkingface.demo.deform import FrameState, pose_points
from talkingface.demo.eyelids import lid_index
from talkingface.demo.identity import Identity
from talkingface.demo.mouth import draw_mouth
from talkingface.faces.warp import TriangleWarp

_NOISE = 1.6  # standard deviation of the luma noise


class Renderer:
    """Draws frames of one identity."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        # Filled: the mouth is a hole of the mesh, and what shows through it is drawn afterwards.
        self._warp = TriangleWarp(identity.source, identity.triangles, (identity.side, identity.side))

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
        # Textures are premultiplied: interpolated that way, hair does not bleed the old background into the new one.
        picture = self._warp(identity.textures[lid_index(state.blink)], points)
        draw_mouth(picture, identity, points, gap, rounding=max(0.0, -state.width))
        if identity.side != identity.size:
            picture = cv2.resize(picture, (identity.size, identity.size), interpolation=cv2.INTER_AREA)
        shown = picture[..., :3] + identity.background * (1 - picture[..., 3:] * np.float32(1 / 255))
        if noise is not None:
            # Grey noise, the same in all channels, as of a camera: without it a still face would repeat to the bit.
            shown += _NOISE * noise.standard_normal((identity.size, identity.size, 1), np.float32)
        frame = np.clip(shown + 0.5, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(frame[:, ::-1]) if identity.mirror else frame, points
