"""Putting redrawn faces back into their frames, by one of several rules which pixels of a box are replaced."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from talkingface.errors import DataError
from talkingface.faces.blend import blend_weights
from talkingface.faces.crop import box_pixels, contour_mask, enlarged_face, paste_weighted
from talkingface.faces.parsing import BLUR, BLUR_OF, WEIGHTS, FaceParser, parsed_weights
from talkingface.lipsync.continuity import Continuity
from talkingface.media.info import FPS
from talkingface.weights.published import locate

if TYPE_CHECKING:
    from talkingface.clips.redraw import FrameBatch
    from talkingface.clips.source import Source
    from talkingface.lipsync.half_face.draw import HalfFaceNetworks
    from talkingface.lipsync.half_face.scene import Scene

log = logging.getLogger("talkingface")

EDGE = (20, 180)
"""Weights of 255 between which a pixel belongs to the edge along which tones are compared."""

FOLLOWED = 0.2
"""Share of a change of tone that passes in a frame of 25 fps."""

Rule = Literal["parsing", "contour", "lower", "box"]


class Paster:
    """Puts the faces of one video back.

    Args:
        model: whose settings say how: `inference.paste`, `parse` where there is parsing, `feather`, `resize`.
        scene: where the faces are.
        rule: which pixels of a box are replaced.
        parser: of faces, for the rule `parsing`.
        fps: frames per second of the video.
    """

    def __init__(
        self,
        model: HalfFaceNetworks,
        scene: Scene,
        rule: Rule,
        parser: FaceParser | None = None,
        fps: float = FPS,
    ) -> None:
        self.scene, self.rule, self.parser = scene, rule, parser
        self.settings, self.postprocess = model.config.inference, model.postprocess
        self._followed = 1 - (1 - FOLLOWED) ** (FPS / fps)
        self._tone: np.ndarray | None = None  # shift of the colours (3,) in the frame before
        self._continuity = Continuity()

    @classmethod
    def of(cls, model: HalfFaceNetworks, scene: Scene, source: Source) -> Paster:
        """The paster that `inference.paste` asks for.

        `auto` is `parsing` where the parser's weights are, else `contour` where landmarks are known, else `lower`.

        Raises:
            DataError: what the rule needs is not there.
        """
        rule, path = model.config.inference.paste, locate(source.place.weights_dir, WEIGHTS)
        if rule == "auto":
            rule = "parsing" if path.is_file() else "contour" if scene.knows_mouths else "lower"
            log.debug("faces are pasted by %s", rule)
        if rule == "contour" and not scene.knows_mouths:
            raise DataError(
                f"{source.path}: --model.inference.paste=contour needs the landmarks of the face, and only its box is"
                " known; take --model.inference.paste=lower, or another --preprocess.landmarks.provider"
            )
        parser = _parser(path, str(model.device)) if rule == "parsing" else None
        return cls(model, scene, rule, parser, source.fps)

    @property
    def above(self) -> float:
        """Share of a box, upwards from its middle, in which something of a generated face may show, or is looked at."""
        if self.rule == "box" or (self.rule == "parsing" and self.settings.parse != "original"):
            return 0.5
        boxes = np.trunc(self.scene.boxes[self.scene.valid])
        height, width = np.maximum(boxes[:, 3] - boxes[:, 1], 1), boxes[:, 2] - boxes[:, 0]
        # Soft edges follow the mean side: of a wide box, say one cut off by the frame, a larger share of the height.
        share = BLUR / BLUR_OF / 2 if self.rule == "parsing" else self.settings.feather
        rows = share * (height + width) / 2 + 2
        return min(0.5, float((rows / height).max()))

    def paste(self, part: FrameBatch, faces: np.ndarray) -> None:
        """Put faces into their frames.

        Args:
            part: frames; those with a face are replaced by new pictures.
            faces: (k, R, R, 3) uint8 RGB, of `part.faces`.
        """
        if self.postprocess is not None:
            faces = [self.postprocess(face) for face in faces]
        boxes = self.scene.boxes[part.shown[part.faces]]
        weights, follows = self._weights(part, faces, boxes), np.zeros(len(faces), bool)
        if self.settings.colour == "match":
            follows = self._continuity.follow(part.pictures, part.shown, part.faces)
        for k, face, box, weight, on in zip(part.faces, faces, boxes, weights, follows, strict=True):
            if self.settings.colour == "match" and weight is not None:
                face = self._matched(part.pictures[k], face, box, weight, bool(on))
            part.pictures[k] = paste_weighted(part.pictures[k], face, box, weight, self.settings.resize)

    def _matched(
        self, picture: np.ndarray, face: np.ndarray, box: np.ndarray, weight: np.ndarray, follows: bool
    ) -> np.ndarray:
        """The face at the size of its box, in the tone that the frame has along the soft edge.

        The same shift of each colour everywhere, followed over time, or the face would flicker; anew after a cut.
        """
        x1, y1, x2, y2 = box_pixels(box, picture.shape[:2])
        patch = enlarged_face(face, (y2 - y1, x2 - x1), self.settings.resize)
        edge = (weight > EDGE[0]) & (weight < EDGE[1])
        if not follows:
            self._tone = None
        if edge.any():
            shift = np.median(picture[y1:y2, x1:x2][edge].astype(np.float32) - patch[edge], axis=0)
            self._tone = shift if self._tone is None else self._tone + self._followed * (shift - self._tone)
        return patch if self._tone is None else np.clip(np.rint(patch + self._tone), 0, 255).astype(np.uint8)

    def _weights(self, part: FrameBatch, faces: np.ndarray, boxes: np.ndarray) -> list[np.ndarray | None]:
        """Weights (h, w) uint8 of each face inside its box; None: the whole box."""
        pictures = [part.pictures[k] for k in part.faces]
        if self.rule == "parsing":
            return self._parsed(pictures, faces, boxes)
        if self.rule == "contour":
            frames = part.shown[part.faces]
            found = zip(pictures, boxes, frames, strict=True)
            return [self._contour(picture.shape[:2], box, int(frame)) for picture, box, frame in found]
        feather = self.settings.feather
        return [blend_weights(box, p.shape[:2], self.rule, feather) for p, box in zip(pictures, boxes, strict=True)]

    def _contour(self, size_hw: tuple[int, int], box: np.ndarray, frame: int) -> np.ndarray:
        """Inside the face's outline, below the middle; soft at both, and nothing at the border of the box."""
        x1, y1, x2, y2 = box_pixels(box, size_hw)
        side = round(self.settings.feather * (x2 - x1 + y2 - y1) / 4) * 2 + 1
        track = self.scene.track
        kind = "facemesh" if track.layout == "mediapipe478" else "fan68"
        inside = contour_mask(track.points_px[frame] - [x1, y1], (y2 - y1, x2 - x1), (side, side / 4), kind)
        lower = blend_weights(box, size_hw, "lower", self.settings.feather)
        return np.minimum(inside, lower)

    def _parsed(self, pictures: list[np.ndarray], faces: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        """Skin, mouth and lips of the lower half, of the original face, the generated one, or both."""
        corners = [box_pixels(box, picture.shape[:2]) for picture, box in zip(pictures, boxes, strict=True)]
        sizes = [(y2 - y1, x2 - x1) for x1, y1, x2, y2 in corners]
        skin = None
        if self.settings.parse != "generated":
            cut = [p[y1:y2, x1:x2] for p, (x1, y1, x2, y2) in zip(pictures, corners, strict=True)]
            skin = self.parser.skin(cut)
        if self.settings.parse != "original":
            drawn = self.parser.skin([enlarged_face(f, s) for f, s in zip(faces, sizes, strict=True)])
            skin = drawn if skin is None else skin | drawn
        return [parsed_weights(each, *size) for each, size in zip(skin, sizes, strict=True)]


@cache
def _parser(path: Path, device: str) -> FaceParser:
    """One parser for all videos of a process."""
    return FaceParser.load(path, device)
