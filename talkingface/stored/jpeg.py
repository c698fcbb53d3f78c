"""The size of a JPEG picture, from its header: before a decoder makes room for what the header asks for."""

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
