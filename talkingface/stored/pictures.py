"""The size of JPEG and PNG pictures, from their headers: before a decoder makes room for what these ask for."""

from __future__ import annotations

_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, of all kinds of JPEG


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG picture, None where the data are none."""
    if data[:2] != b"\xff\xd8":
        return None
    place, end = 2, len(data)
    while place + 4 <= end and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            if place + 9 > end:
                return None
            return data[place + 5] << 8 | data[place + 6], data[place + 7] << 8 | data[place + 8]
        place += 2 + max(2, data[place + 2] << 8 | data[place + 3])
    return None


def png_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a whole PNG picture, None where the data are none.

    Every part must be as long as it says: OpenCV makes room for parts of any length before it reads them.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return None
    place = 8
    while place + 12 <= len(data):
        kind = data[place + 4 : place + 8]
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        if kind == b"IEND" and place <= len(data):
            return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    return None
