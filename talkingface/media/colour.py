"""High dynamic range and wide gamut to what the toolkit works on: BT.709 colours of a standard screen.

Phones film in HLG or PQ with the primaries of BT.2020. Read as if they were standard, such pictures are grey: faces of
another colour than anything that a network has seen. The mapping is that of BT.2408: 203 cd/m2, the reference white,
become white; what is brighter is compressed into the last tenth below it.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

PQ, HLG = 16, 18
"""Transfer functions as ISO/IEC 23091-2 numbers them (AVCOL_TRC)."""

_SCREEN_GAMMA = 2.4  # BT.1886, for standard pictures on both sides
_WHITE = 203.0  # cd/m2, reference white of HDR (BT.2408)
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2  # cd/m2 of a screen, and the system gamma that belongs to it (BT.2100)
_KNEE = 0.9  # linear light from which on highlights are compressed

# Linear light to that of BT.709 primaries, rows are its R, G, B; by AVCOL_PRI. 9: BT.2020, 12: Display P3, both D65.
_TO_709 = {
    9: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730)),
    12: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}


def to_standard(picture: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Colours of a standard screen.

    Args:
        picture: (H, W, 3) uint8, the R'G'B' of the file.
        transfer: its transfer function, as AVCOL_TRC.
        primaries: its primaries, as AVCOL_PRI.

    Returns:
        (H, W, 3) uint8 RGB; `picture` itself where it is standard already.
    """
    if transfer not in (PQ, HLG) and primaries not in _TO_709:
        return picture
    light = _curve(transfer)[picture]
    if primaries in _TO_709:
        light = cv2.transform(light, np.array(_TO_709[primaries]))
    light = np.maximum(light, 0.0)
    if transfer in (PQ, HLG):
        bright = light > _KNEE
        light[bright] = _KNEE + (1.0 - _KNEE) * np.tanh((light[bright] - _KNEE) / (1.0 - _KNEE))
    return np.rint(255.0 * cv2.pow(np.minimum(light, 1.0), 1.0 / _SCREEN_GAMMA)).astype(np.uint8)


@lru_cache
def _curve(transfer: int) -> np.ndarray:
    """(256,) float32: light of the screen for each of the stored levels, 1 at reference white."""
    signal = np.linspace(0.0, 1.0, 256)
    if transfer == PQ:  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = signal ** (1.0 / m2)
        light = (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1.0 / m1) * 10000.0 / _WHITE
    elif transfer == HLG:  # ARIB STD-B67, then the system gamma of BT.2100
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3.0, (np.exp((signal - c) / a) + b) / 12.0)
        # By channel, as standard cameras and screens do it. On the luminance alone, BT.2100's way, colours come out
        # paler than in a standard film of the same scene (up to 6 levels, by channel 2).
        light = scene**_HLG_GAMMA * _HLG_PEAK / _WHITE
    else:
        light = signal**_SCREEN_GAMMA
    return light.astype(np.float32)
