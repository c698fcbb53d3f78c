"""The inside of the mouth: dark cavity, tongue, upper teeth, or a soft seam when the lips are closed."""

from __future__ import annotations

import cv2
import numpy as np

from talkingface.demo import mesh
from talkingface.demo.identity import Identity

_SCALE = 2  # supersampling over the internal picture
_CAVITY = (52.0, 18.0, 20.0)
_TONGUE = (158.0, 78.0, 78.0)
_TEETH = (226.0, 218.0, 204.0)


def draw_mouth(
    picture: np.ndarray, identity: Identity, points: np.ndarray, gap: np.ndarray, rounding: float = 0.0
) -> None:
    """Draw into `picture` (side, side, 4) premultiplied RGBA uint8, in place.

    Args:
        picture: the warped face.
        identity: gives face height and tooth colour.
        points: (V, 2) mesh points of the frame.
        gap: (11,) distance between the lips along the mouth, pixels.
        rounding: 0..1; protruded lips hide the teeth.
    """
    height = identity.face_height
    loop = points[mesh.INNER_LOOP]
    pad = int(0.05 * height) + 3
    low = np.maximum(np.floor(loop.min(axis=0)).astype(int) - pad, 0)
    high = np.minimum(np.ceil(loop.max(axis=0)).astype(int) + pad, identity.side)
    crop = picture[low[1] : high[1], low[0] : high[0], :3]
    if not crop.size:
        return
    size = (crop.shape[1] * _SCALE, crop.shape[0] * _SCALE)
    # Pixel centres lie at whole numbers: half a pixel is added before scaling, taken off after.
    upper = (points[mesh.UPPER_INNER] - low + 0.5) * _SCALE - 0.5
    lower = (points[mesh.LOWER_INNER] - low + 0.5) * _SCALE - 0.5
    unit = height * _SCALE
    seam = _seam(upper, lower, gap, size, unit)
    widest = float(gap.max())
    # Below this the lips touch, as far as anyone can see: the seam alone is drawn.
    if widest > 0.004 * height:
        alpha = _inside(upper, lower, size)
        colour = _interior(upper, lower, size, unit, identity.tooth_shade * (1 - 0.7 * rounding), identity.tooth_shade)
        alpha = cv2.resize(cv2.GaussianBlur(alpha, (0, 0), 0.9), crop.shape[1::-1], interpolation=cv2.INTER_AREA)
        colour = cv2.resize(colour, crop.shape[1::-1], interpolation=cv2.INTER_AREA)
        blend = alpha[..., None]
        crop[:] = (blend * colour + (1 - blend) * crop + 0.5).astype(np.uint8)
    # After the interior: where lips part in the middle only, the seam runs on to the corners.
    dark = cv2.resize(seam, crop.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None]
    crop[:] = (crop * (1 - dark) + np.array(_CAVITY, np.float32) * dark + 0.5).astype(np.uint8)


def _polygon(points: np.ndarray) -> list[np.ndarray]:
    """Points (n, 2) in sixteenths of a pixel, for drawing with a shift of 4: whole pixels would make edges jump."""
    return [np.round(points * 16).astype(np.int32)]


def _inside(upper: np.ndarray, lower: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Coverage (h, w) float32 of the mouth opening."""
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(mask, _polygon(np.concatenate([upper, lower[::-1]])), 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def _seam(upper: np.ndarray, lower: np.ndarray, gap: np.ndarray, size: tuple[int, int], unit: float) -> np.ndarray:
    """Darkness (h, w) float32 of the line between the lips, fading where they part."""
    mask = np.zeros(size[::-1], np.uint8)
    line = (upper + lower) / 2
    thickness = max(1, round(0.007 * unit))
    for k in range(10):
        strength = np.clip(1 - max(gap[k], gap[k + 1]) / (0.012 * unit / _SCALE), 0, 1)
        # Fainter towards the corners, where lips round off.
        strength *= 0.35 + 0.65 * min(1.0, (min(k, 9 - k) + 1) / 3)
        if strength > 0:
            a, b = (tuple(round(float(v) * 16) for v in line[j]) for j in (k, k + 1))
            cv2.line(mask, a, b, int(150 * strength), thickness, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(mask, (0, 0), 0.004 * unit).astype(np.float32) / 255


def _interior(
    upper: np.ndarray, lower: np.ndarray, size: tuple[int, int], unit: float, teeth: float, shade: float
) -> np.ndarray:
    """Colour (h, w, 3) float32 of the cavity with tongue and teeth; the caller cuts it to the opening."""
    canvas = np.empty((size[1], size[0], 3), np.float32)
    canvas[:] = _CAVITY
    left, right = upper[0, 0], upper[-1, 0]
    half, middle = max((right - left) / 2, 1.0), (left + right) / 2
    opening = float((lower[:, 1] - upper[:, 1]).max())
    bottom = float(lower[5, 1])
    # A mouth that opens a little shows teeth first; the tongue lies behind them.
    if opening > 0.035 * unit:
        mask = np.zeros(size[::-1], np.uint8)
        centre = (int(middle * 16), int((bottom + 0.02 * unit) * 16))
        axes = (int(0.62 * half * 16), int(min(0.55 * opening, 0.075 * unit) * 16))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
        tongue = cv2.GaussianBlur(mask, (0, 0), 0.012 * unit).astype(np.float32)[..., None] / 255
        canvas += tongue * (np.array(_TONGUE, np.float32) * (0.55 + 0.45 * shade) - canvas) * 0.85
    _draw_teeth(canvas, upper, middle, half, unit, teeth)
    # The upper lip throws a shadow on what lies behind it.
    rows = np.arange(size[1], dtype=np.float32)[:, None]
    lip = np.interp(np.arange(size[0]), upper[:, 0], upper[:, 1])[None, :]
    canvas *= (1 - 0.35 * np.exp(-np.clip(rows - lip, 0, None) / (0.010 * unit)))[..., None].astype(np.float32)
    return canvas


def _draw_teeth(canvas: np.ndarray, upper: np.ndarray, middle: float, half: float, unit: float, shade: float) -> None:
    """Upper teeth: a band attached to the upper lip, lower edge arched, gaps faint, darker towards the corners."""
    columns = np.arange(canvas.shape[1], dtype=np.float32)
    rows = np.arange(canvas.shape[0], dtype=np.float32)[:, None]
    across = np.clip(np.abs(columns - middle) / (0.86 * half), 0, 1)
    lip = np.interp(columns, upper[:, 0], upper[:, 1]).astype(np.float32)
    edge = lip + 0.034 * unit * (1 - across**2) ** 0.5
    cover = np.clip(edge - rows + 0.5, 0, 1) * (across < 1)
    light = (1 - 0.55 * across**2) * (0.42 + 0.55 * shade)
    tooth = 0.030 * unit
    phase = ((columns - middle) / tooth) % 1.0
    gap = np.exp(-((np.minimum(phase, 1 - phase) * tooth / (0.0022 * unit + 0.4)) ** 2))
    light = light * (1 - 0.22 * gap)
    colour = np.array(_TEETH, np.float32) * light[None, :, None]
    canvas += (cover * 0.95)[..., None].astype(np.float32) * (colour - canvas)
