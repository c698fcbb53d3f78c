"""Pictures from landmarks: by triangles alone, or drawn by the network and put into the picture or the frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from talkingface.faces.affine import mapped, paste_by_matrix
from talkingface.faces.crop import composite
from talkingface.models.makeittalk.clip_faces import crop_head, face_height, head_box, to_crop
from talkingface.models.makeittalk.drawing import SIDE, draw_landmarks
from talkingface.models.makeittalk.head_mesh import HeadMesh, darken, lip_colour
from talkingface.models.makeittalk.pairs import drawn_input
from talkingface.models.makeittalk.translation import as_pictures, translated

if TYPE_CHECKING:
    from talkingface.models.makeittalk.parts import MakeItTalkNetworks
    from talkingface.models.makeittalk.portraits import Portrait

_SOFT = 0.05  # width of soft edges in heights of the face
_LOWER = (*range(1, 16), 28)  # outline of the lower face: jaw and bridge of the nose
_GROWN = 0.04  # by which the whole face is drawn beyond its outline


class Painter:
    """Draws one portrait with its landmarks elsewhere.

    Args:
        model: in eval mode; its settings say how it is drawn.
        portrait: picture and landmarks.
        faces: (F, 68, 2) landmarks of the video into which it is drawn; None: it is drawn into itself.
        opacity: (H, W) uint8 of a picture that something shines through; None: it is opaque.
    """

    def __init__(
        self,
        model: MakeItTalkNetworks,
        portrait: Portrait,
        faces: np.ndarray | None = None,
        opacity: np.ndarray | None = None,
    ) -> None:
        self.model, self.portrait = model, portrait
        self.settings, self.size = model.config.inference, model.config.translate.size
        self.mesh = HeadMesh(portrait.points)
        own = head_box(portrait.points[None])
        self.crop = crop_head(portrait.picture, own, self.size)
        self.resting = mapped(portrait.points, to_crop(own, self.size))
        self.box = own if faces is None else head_box(faces)
        self.matrix = to_crop(self.box, self.size)
        self.opacity = opacity
        self.whole = self.settings.paste != "crop"

    def speaking(self, moved: np.ndarray) -> Iterator[np.ndarray]:
        """The whole picture with its landmarks at (n, 68, 2), or with `paste: crop` the square of the head."""
        if self.whole:
            yield from self._whole(moved)
        elif self.settings.render == "translate":
            yield from self._heads(moved)
        else:
            yield from (crop_head(picture, self.box, self.size) for picture in self._whole(moved))

    def opacity_at(self, points: np.ndarray) -> np.ndarray | None:
        """(H, W) uint8, how opaque the picture is with its landmarks at (68, 2); None for an opaque one."""
        if self.opacity is None or not self.whole:
            return None
        if self.settings.render == "warp":
            return self.mesh.move(self.opacity, points)
        soft = self.settings.paste == "soft"
        carried = self.opacity if soft else self.mesh.move(self.opacity, self.mesh.carried(points))
        weights = soft_square(self.size) if soft else self._face_weights(points)
        return self._pasted(carried[..., None], np.full((self.size, self.size, 1), 255, np.uint8), weights)[..., 0]

    def _whole(self, moved: np.ndarray) -> Iterator[np.ndarray]:
        picture = self.portrait.picture
        if self.settings.render == "warp":
            yield from (self._interior(self.mesh.move(picture, points), points) for points in moved)
            return
        for points, head in zip(moved, self._heads(moved), strict=True):
            if self.settings.paste == "soft":
                yield self._pasted(picture, head, soft_square(self.size))
                continue
            carried = self.mesh.move(picture, self.mesh.carried(points))
            yield self._pasted(carried, head, self._face_weights(points))

    def into(
        self, frames: Sequence[np.ndarray], points: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Frames whose lower face is drawn anew.

        Args:
            frames: (H, W, 3) uint8 each.
            points: (68, 2) their landmarks.
            targets: (68, 2) wanted ones.
        """
        if self.settings.render == "warp":
            drawn = [self._warped_into(*each) for each in zip(frames, targets, strict=True)]
        else:
            heads = self._heads(np.stack(targets)) if len(targets) else np.zeros((0,))
            whole = np.ones((self.size, self.size), np.float32)
            drawn = [self._pasted(frame, head, whole) for frame, head in zip(frames, heads, strict=True)]
        for frame, made, old, new in zip(frames, drawn, points, targets, strict=True):
            yield composite(frame, made, lower_mask(old, new, frame.shape[:2]))

    def _warped_into(self, frame: np.ndarray, target: np.ndarray) -> np.ndarray:
        own = HeadMesh(target)  # its rings lie around the head of the frame
        return self._interior(self.mesh.onto(self.portrait.picture, frame, own.source), target)

    def _interior(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
        """A moved picture (H, W, 3), which is changed, with what is seen between its lips."""
        if self.settings.interior == "dark":
            darken(picture, points, self.portrait.points, self._lips)
        return picture

    @cached_property
    def _lips(self) -> np.ndarray:
        return lip_colour(self.portrait.picture, self.portrait.points)

    @torch.no_grad()
    def _heads(self, moved: np.ndarray) -> np.ndarray:
        """Head crops (n, S, S, 3) uint8 as the network draws them."""
        kind = self.model.config.translate.input
        items = [drawn_input(self.crop, self.resting, mapped(points, self.matrix), kind) for points in moved]
        batch = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
        batch["portrait"] = torch.from_numpy(np.stack([self.crop] * len(items)))
        device = self.model.device
        drawn = translated(self.model.translator, {name: v.to(device) for name, v in batch.items()}, kind)
        return as_pictures(drawn).cpu().numpy()

    def _pasted(self, picture: np.ndarray, head: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return paste_by_matrix(picture, head, self.matrix, weights)

    def _face_weights(self, points: np.ndarray) -> np.ndarray:
        """(S, S) 1 on the face at landmarks (68, 2) of the picture, soft at its outline."""
        inside = mapped(points, self.matrix)
        return soft_hull(inside, face_height(inside), (self.size, self.size), _GROWN).astype(np.float32) / 255


def soft_square(size: int) -> np.ndarray:
    """(size, size) float32, 1 but near its edges."""
    side = np.minimum(np.arange(size) + 0.5, size - 0.5 - np.arange(size)) / (0.1 * size)
    ramp = np.clip(side, 0, 1).astype(np.float32)
    return np.minimum(ramp[:, None], ramp[None])


def soft_hull(points: np.ndarray, height: float, size_hw: tuple[int, int], grown: float = 0.0) -> np.ndarray:
    """(H, W) uint8 weights of the convex hull of points (n, 2), grown by a share of the face's height."""
    middle = points.mean(axis=0)
    away = points - middle
    length = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    outline = cv2.convexHull((middle + away * (1 + grown * height / length)).astype(np.float32))
    mask = np.zeros(size_hw, np.uint8)
    cv2.fillConvexPoly(mask, np.round(outline * 16).clip(-(2**18), 2**18).astype(np.int32), 255, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(mask, (0, 0), max(_SOFT * height / 2, 0.3))


def lower_mask(old: np.ndarray, new: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 weights of the lower face, where it was (68, 2) and where it goes (68, 2)."""
    points = np.concatenate([old[list(_LOWER)], new[list(_LOWER)]])
    return soft_hull(points, face_height(old), size_hw)


def pane(points: np.ndarray | None, box: np.ndarray, frame: np.ndarray, whole: bool = True) -> np.ndarray:
    """How a frame came about: the drawing of its landmarks, and the square of the head beside it.

    Args:
        points: (68, 2); None without a face, which leaves the drawing white.
        box: (4,) the square in the picture.
        frame: (H, W, 3) uint8 RGB.
        whole: the frame is the whole picture; otherwise it is the square already.

    Returns:
        (256, 512, 3) uint8 RGB.
    """
    drawing = np.full((SIDE, SIDE, 3), 255, np.uint8)
    if points is not None:
        drawing = draw_landmarks(mapped(points, to_crop(box, SIDE)))[..., ::-1]
    head = crop_head(frame, box, SIDE) if whole else cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return np.concatenate([drawing, head], axis=1)
