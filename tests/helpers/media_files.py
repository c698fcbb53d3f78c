"""Small media files made on the spot: any time stamps, container and codec; each frame shows its own number."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 12
SIZE = (64, 64)  # three rows of four 16-pixel cells (and an empty one)


def numbered_frame(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Write a number into a picture as black and white cells that survive any codec."""
    frame = np.full((*size, 3), 128, np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        frame[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 230 if number >> bit & 1 else 25
    return frame


def read_number(frame: np.ndarray) -> int:
    """Read back the number of `numbered_frame`."""
    cells = [frame[16 * (b // 4) + 4 : 16 * (b // 4) + 12, 16 * (b % 4) + 4 : 16 * (b % 4) + 12] for b in range(BITS)]
    return sum(int(cell.mean() > 128) << bit for bit, cell in enumerate(cells))


def write_video(
    path: Path,
    times: Sequence[float],
    codec: str = "libx264",
    frames: Sequence[np.ndarray] | None = None,
    audio: np.ndarray | None = None,
    audio_rate: int = 16000,
    audio_start: float = 0.0,
    audio_codec: str = "aac",
    base: Fraction = Fraction(1, 90000),
    options: dict[str, str] | None = None,
    rate: Fraction = Fraction(25),
    pix_fmt: str = "yuv420p",
) -> Path:
    """Write numbered frames at the given seconds, and sound (channels, n) from `audio_start` on."""
    frames = frames if frames is not None else [numbered_frame(i) for i in range(len(times))]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2] if len(frames) else SIZE
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        sound = None
        if audio is not None:
            sound = container.add_stream(audio_codec, rate=audio_rate)
            sound.layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(audio)]
        for time, picture in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(_sound_packets(sound, audio, audio_rate, audio_start))
    return path


def write_sound(path: Path, audio: np.ndarray, rate: int, codec: str) -> Path:
    """Write sound (channels, n) alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(audio)]
        container.mux(_sound_packets(stream, audio, rate, 0.0))
    return path


def _sound_packets(stream: av.AudioStream, audio: np.ndarray, rate: int, start: float) -> list[av.Packet]:
    packets = []
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(audio)]
    for first in range(0, audio.shape[1], 1024):
        block = np.ascontiguousarray(audio[:, first : first + 1024], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate) + first
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Patch the matrix in the track header of an mp4: x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    assert struct.unpack(">i", data[place : place + 4])[0] == 65536
    data[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def click(seconds: float, at: float, rate: int = 16000, length: int = 80) -> np.ndarray:
    """Return silence (n,) with one short burst at `at` seconds."""
    audio = np.zeros(round(seconds * rate), np.float32)
    start = round(at * rate)
    audio[start : start + length] = 0.8 * np.sign(np.sin(np.arange(length) * 0.9))
    return audio
