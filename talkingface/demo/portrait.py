"""Source pictures: two portraits that ship inside dependencies, or any the user passes.

Built-in portraits need neither network nor MediaPipe: their landmarks and person masks lie beside this file. Both are
works of the United States government in the public domain: NASA's portrait of Eileen Collins (in scikit-image) and
the US Navy's portrait of Grace Hopper (in matplotlib).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from talkingface.demo import mesh
from talkingface.errors import DataError, NoFaceError
from talkingface.media.probe import LONGEST_SIDE
from talkingface.packages import unusable

BUILTIN = ("astronaut", "grace_hopper")
MIN_FACE_HEIGHT = 100  # pixels between forehead and chin; below it the enlarged texture is a blur
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Portrait:
    """`image` (H, W, 3) RGB uint8, `points` (468, 3) in pixels, `mask` (H, W) float32, 1 on the person."""

    name: str
    image: np.ndarray
    points: np.ndarray
    mask: np.ndarray

    @property
    def face_height(self) -> float:
        """Distance between forehead and chin in pixels."""
        return float(np.linalg.norm(self.points[mesh.FOREHEAD, :2] - self.points[mesh.CHIN, :2]))


@lru_cache(maxsize=4)
def builtin_portrait(name: str) -> Portrait:
    """Load "astronaut" (from scikit-image) or "grace_hopper" (from matplotlib) with the stored points and mask."""
    if name == "astronaut":
        import skimage.data

        image = np.ascontiguousarray(skimage.data.astronaut()[..., :3])
    else:
        import matplotlib.cbook

        image = _read_rgb(Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    facts = json.loads((mesh.HERE / "portraits.json").read_text())["portraits"][name]
    height, width = image.shape[:2]
    if (width, height) != (facts["width"], facts["height"]):
        raise DataError(f"built-in portrait {name}: picture is {width}x{height}, not the one that was measured")
    mask = cv2.imread(str(mesh.HERE / f"mask_{name}.png"), cv2.IMREAD_GRAYSCALE)
    return Portrait(name, image, np.array(facts["points"], np.float64), _soften(mask.astype(np.float32) / 255))


def list_portraits(folder: Path | None) -> list[str]:
    """Names of the portraits to use: the built-in ones, or the picture files of `folder` in sorted order.

    Raises:
        DataError: the folder is missing or holds no picture.
    """
    if folder is None:
        return list(BUILTIN)
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of portraits; pass a folder of face pictures")
    names = sorted(str(p) for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
    if not names:
        raise DataError(f"{folder}: no pictures ({', '.join(sorted(_SUFFIXES))}) in this folder of portraits")
    return names


@lru_cache(maxsize=4)
def load_portrait(name: str) -> Portrait:
    """A built-in portrait by name, or a picture file measured with MediaPipe.

    Raises:
        NoFaceError: no face, or one too small to enlarge.
        DataError: the file cannot be read, or MediaPipe is missing.
    """
    if name in BUILTIN:
        return builtin_portrait(name)
    image = _read_rgb(Path(name))
    if max(image.shape[:2]) > LONGEST_SIDE:
        raise DataError(f"{name}: has more than {LONGEST_SIDE} pixels along a side; make it smaller")
    points, mask = _measure(image, name)
    portrait = Portrait(name, image, points, mask)
    if portrait.face_height < MIN_FACE_HEIGHT:
        raise NoFaceError(
            f"{name}: face is {portrait.face_height:.0f} px high; use a picture where it has at least "
            f"{MIN_FACE_HEIGHT} px from forehead to chin"
        )
    return portrait


def _read_rgb(path: Path) -> np.ndarray:
    # `cv2.imread` cannot open names with special characters on every system; bytes it can decode anywhere.
    data = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise DataError(f"{path}: cannot be read as a picture; remove it or save it again as PNG or JPEG")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _soften(mask: np.ndarray) -> np.ndarray:
    """Erode a pixel (or the old background shines as a halo), then soften the edge by 1.2 px."""
    eroded = cv2.erode(mask, np.ones((3, 3), np.uint8))
    return cv2.GaussianBlur(eroded, (0, 0), 1.2)


def _measure(image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (468, 3) and person mask (H, W) of a user's picture."""
    try:
        import mediapipe as mp

        solutions = mp.solutions
    except (ImportError, AttributeError, TypeError) as error:
        raise DataError(f"{name}: user portraits need mediapipe: {unusable('mediapipe', error)}") from error
    height, width = image.shape[:2]
    with solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1) as detector:
        found = detector.process(image).multi_face_landmarks
    if not found:
        raise NoFaceError(f"{name}: no face found in this portrait; use a frontal picture of one person")
    points = np.array([(p.x * width, p.y * height, p.z * width) for p in found[0].landmark[: mesh.POINTS]])
    with solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as segmenter:
        score = segmenter.process(image).segmentation_mask
    return points, _soften(_refine(image, score))


def _refine(image: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Snap the coarse person score (H, W) to the picture's edges with GrabCut; returns 0/1 float32."""
    kernel = np.ones((9, 9), np.uint8)
    labels = np.where(score > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode((score > 0.9).astype(np.uint8), kernel) > 0] = cv2.GC_FGD
    labels[cv2.erode((score < 0.1).astype(np.uint8), kernel) > 0] = cv2.GC_BGD
    # GrabCut needs pixels of either kind (odd labels: person); without them the coarse score has to do.
    if np.all(labels % 2 == 0) or np.all(labels % 2 == 1):
        return np.clip((score - 0.3) / 0.5, 0, 1).astype(np.float32)
    # Its clusters start at random, and the same portrait must give the same corpus.
    cv2.setRNGSeed(0)
    background, person = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image[..., ::-1]), labels, None, background, person, 4, cv2.GC_INIT_WITH_MASK)
    return (labels % 2).astype(np.float32)


def crop_portrait(portrait: Portrait, size: int) -> Portrait:
    """Upright similarity crop: window 2.15 face heights wide, face centre at (0.5, 0.545) of a size x size picture."""
    points = portrait.points
    eyes = points[263, :2] - points[33, :2]
    angle = np.arctan2(eyes[1], eyes[0])
    scale = size / (2.15 * portrait.face_height)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    oval = points[mesh.OVAL, :2] @ turn.T
    centre = (oval.min(axis=0) + oval.max(axis=0)) / 2
    matrix = np.column_stack([turn, np.array([0.5, 0.545]) * size - centre])
    image, mask = portrait.image, portrait.mask
    if scale < 0.8:  # low-pass before shrinking, or fine texture turns into noise
        image = cv2.GaussianBlur(image, (0, 0), 0.45 / scale)
        mask = cv2.GaussianBlur(mask, (0, 0), 0.45 / scale)
    options = {"dsize": (size, size), "borderMode": cv2.BORDER_REPLICATE}
    cropped = cv2.warpAffine(image, matrix, flags=cv2.INTER_CUBIC, **options)
    alpha = cv2.warpAffine(mask, matrix, flags=cv2.INTER_LINEAR, **options)
    # a person cut off by the picture goes on below it, but does not grow upwards
    inverse = cv2.invertAffineTransform(matrix)
    rows, columns = np.mgrid[:size, :size]
    alpha[inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2] < 0] = 0
    moved = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return Portrait(portrait.name, cropped, np.column_stack([moved, points[:, 2] * scale]), np.clip(alpha, 0, 1))
