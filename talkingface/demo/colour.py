"""Pixels of an identity: texture repair, recolouring, backdrop."""

from __future__ import annotations

import cv2
import numpy as np

from talkingface.demo import mesh


def fill_mouth(image: np.ndarray, source: np.ndarray, height: float) -> np.ndarray:
    """Inpaint teeth and slit out of the lip texture; with the shared seam this makes a closed mouth measure closed."""
    hole = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(hole, [np.round(source[mesh.INNER_LOOP]).astype(np.int32)], 255)
    grow = max(3, 2 * round(0.008 * height) + 1)
    hole = cv2.dilate(hole, np.ones((grow, grow), np.uint8))
    return cv2.inpaint(image, hole, 0.015 * height, cv2.INPAINT_TELEA)


def own_edges(image: np.ndarray, mask: np.ndarray, height: float) -> np.ndarray:
    """Continue the person's colours outwards over the soft edge, or the old background shines through as a halo."""
    reach = max(3, 2 * round(0.010 * height) + 1)
    sure = cv2.erode((mask > 0.9).astype(np.uint8), np.ones((reach, reach), np.uint8)).astype(np.float32)
    spread = (0, 0), 0.016 * height
    weight = cv2.GaussianBlur(sure, *spread)[..., None]
    # Blurred colours over blurred coverage: a mean over the person alone, however near the edge.
    carried = cv2.GaussianBlur(image * sure[..., None], *spread) / np.maximum(weight, 1e-4)
    keep = cv2.GaussianBlur(sure, (0, 0), 0.004 * height)[..., None]
    keep = np.maximum(keep, weight < 1e-3)
    return (keep * image + (1 - keep) * carried + 0.5).clip(0, 255).astype(np.uint8)


def recolour(image: np.ndarray, source: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Change skin and all else separately in LAB; returns the picture and the lightness gain of the skin."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    tones = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    # Skin of any lightness lies in a narrow range of Cr and Cb; the oval adds what lips and brows leave out.
    skin = cv2.inRange(tones, (40, 137, 80), (255, 180, 130))
    oval = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(oval, [np.round(source[mesh.OVAL]).astype(np.int32)], 255)
    weight = np.maximum(skin, oval).astype(np.float32) / 255
    weight = cv2.GaussianBlur(weight, (0, 0), 3.0 * image.shape[0] / 256)[..., None]
    gain = float(rng.uniform(0.62, 1.05))
    shift = np.array([0, rng.uniform(-3, 6), rng.uniform(-4, 8)], np.float32)
    pale = 0.55 + 0.45 * gain  # darker skin keeps its hue, not all of its chroma
    on_skin = (lab - (0, 128, 128)) * (gain, pale, pale) + shift
    chroma = rng.uniform(0.2, 1.1)
    tint = np.array([0, rng.uniform(-8, 8), rng.uniform(-12, 8)], np.float32)
    elsewhere = (lab - (0, 128, 128)) * (rng.uniform(0.35, 1.0), chroma, chroma) + tint
    mixed = weight * on_skin + (1 - weight) * elsewhere + (0, 128, 128)
    return cv2.cvtColor(np.clip(mixed, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB), gain


def tint_lips(image: np.ndarray, source: np.ndarray, height: float, amount: float) -> np.ndarray:
    """Give both lips, out to the corners, the colour of their middle, redder by `amount` LAB units.

    A smile stretches the lips thin and pale at the sides; relaxed to a neutral mouth they would not show their shape.
    """
    mask = np.zeros(image.shape[:2], np.float32)
    outer = source[mesh.UPPER_OUTER + mesh.LOWER_OUTER[-2:0:-1]]
    cv2.fillPoly(mask, [np.round(outer).astype(np.int32)], 1.0)
    weight = cv2.GaussianBlur(mask, (0, 0), 0.008 * height)[..., None]
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    # Of the two middle rows the three middle points of either lip.
    middle = [list(rows[1:3, 4:7].ravel()) for rows in (mesh.UPPER_ROWS, mesh.LOWER_ROWS)]
    at = np.clip(np.round(source[middle[0] + middle[1]]).astype(int), 0, image.shape[0] - 1)
    own = np.median(lab[at[:, 1], at[:, 0]], axis=0)
    lab += weight * (np.float32([0.25, 0.7, 0.7]) * (own - lab) + np.float32([-1.2, 1.0, 0.2]) * amount)
    return cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    """Random smooth backdrop (size, size, 3) float32 in 0..255."""
    base = rng.uniform(60, 200) + rng.normal(0, 22, 3)  # muted, like a studio wall
    knots = np.clip(base + rng.normal(0, 20, (3, 3, 1)) + rng.normal(0, 8, (3, 3, 3)), 10, 245).astype(np.float32)
    return cv2.resize(
        cv2.GaussianBlur(cv2.resize(knots, (64, 64), interpolation=cv2.INTER_CUBIC), (0, 0), 6), (size, size)
    )


def premultiply(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 RGBA with colours already multiplied by `alpha` (H, W) in 0..1."""
    rgb = image.astype(np.float32) * alpha[..., None]
    return np.concatenate([rgb, 255 * alpha[..., None]], axis=2).round().clip(0, 255).astype(np.uint8)
