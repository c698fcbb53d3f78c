"""Sound in and out: any track to mono float32 on the clip's clock, and wav files."""

from __future__ import annotations

import math
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.errors import MediaError
from talkingface.files import atomic_output
from talkingface.media.demux import Demuxer
from talkingface.media.info import SAMPLE_RATE, audio_stream, exact_seconds, is_still, logger, open_media, video_stream

_GAP_SECONDS = 0.05  # a smaller disagreement between time stamps and samples is rounding of the container
_LONGEST_GAP_SECONDS = 60.0  # a larger one is a broken clock, not silence
_PADDING_SECONDS = 0.2  # codecs fill up to one block, 1024 or 2048 samples, at 8 kHz and more
_LONGEST_OVERLAP_SECONDS = 1.0
# Silence that time stamps may ask for, beyond as much as there is sound: a file of a few kB can ask for years of it.
_MOST_SILENCE_SECONDS = 600.0
# A voice that is this much weaker in the mix than in its channels is in antiphase: summing them cancels it.
_CANCELLED = 10 ** (-20 / 20)


# Beyond these, minutes pass over the filter between the rates, or a few samples become hours.
_LOWEST_RATE, _HIGHEST_RATE = 1000, 12_000_000  # Hz


class AudioCollector:
    """Gathers the decoded frames of one sound track as float32 at one rate; 64 kB per second and channel at 16 kHz.

    Holes in the time stamps become silence, so that the sound stays beside the picture.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE, name: str = "sound track") -> None:
        """Collect at `sample_rate` Hz; `name` stands in error messages."""
        self.sample_rate, self.name = sample_rate, name
        self.first: float | None = None  # time stamp of the first sample, seconds
        self.clock = 0.0  # time stamp that the next frame should have
        self._parts: list[np.ndarray] = []  # (1 or 2, n) each
        self._heard = self._silent = 0.0  # seconds of sound, and of silence that stands in for holes
        self._skip = 0  # output samples to drop after an overlap
        self._resampler: Any = None

    def feed(self, frame: Any) -> None:
        """Add one decoded `av.AudioFrame`."""
        time = self.clock if frame.pts is None else float(frame.pts * frame.time_base)
        if self.first is None:
            self.first = self.clock = time
        gap = time - self.clock
        if _GAP_SECONDS < gap < _LONGEST_GAP_SECONDS:
            self._add_silence(gap)
            self._parts.append(np.zeros((1, round(gap * self.sample_rate)), np.float32))
            self.clock = time
        elif -_LONGEST_OVERLAP_SECONDS < gap < -_GAP_SECONDS:
            self._skip += round(-gap * self.sample_rate)
            self.clock = time
        self.clock += frame.samples / frame.sample_rate
        self._heard += frame.samples / frame.sample_rate
        self._resample(frame)

    def _add_silence(self, seconds: float) -> None:
        """Note a hole; more of them than the sound can justify is a fault of the time stamps, not a pause."""
        self._silent += seconds
        if self._silent > _MOST_SILENCE_SECONDS + self._heard:
            raise MediaError(
                f"{self.name}: its time stamps ask for {self._silent:.0f} s of silence beside {self._heard:.0f} s of"
                " sound; they are broken, so export the file again"
            )

    def _resample(self, frame: Any) -> None:
        import av

        # Mono is averaged by hand: swresample sums floats to mono with a gain of 3 dB. More than two channels go
        # through its stereo mix, where the centre, which carries the dialogue, keeps its level.
        layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
        if not _LOWEST_RATE <= frame.sample_rate <= _HIGHEST_RATE:
            raise MediaError(
                f"{self.name}: its sound has {frame.sample_rate} samples per second, which no recording has; export the"
                " file again"
            )
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=self.sample_rate)
        try:
            self._append(self._resampler.resample(frame))
        except ValueError:  # the track changed its rate or channels on the way
            self._append(self._resampler.resample(None))
            self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=self.sample_rate)
            self._append(self._resampler.resample(frame))

    def _append(self, frames: list[Any]) -> None:
        for frame in frames:
            samples = frame.to_ndarray()
            skipped = min(self._skip, samples.shape[1])
            self._skip -= skipped
            self._parts.append(samples[:, skipped:])

    def finish(self, origin: float, start: float = 0.0, stop: float | None = None, declared: float = 0.0) -> np.ndarray:
        """Return what was heard from `start` to `stop` seconds after `origin`, (n,) float32 in [-1, 1].

        Silence stands for what lies before the first sample; after the last one nothing is added. What the encoder
        appended to fill its last block, beyond the `declared` seconds of the track, is cut.

        Raises:
            MediaError: a sample is not a finite number.
        """
        if self._resampler is not None:
            self._append(self._resampler.resample(None))
        if self.first is None:
            return np.zeros(0, np.float32)
        samples = self._mix()
        if 0.0 < len(samples) / self.sample_rate - declared < _PADDING_SECONDS and declared > 0.0:
            samples = samples[: round(declared * self.sample_rate)]
        late = round((self.first - origin - start) * self.sample_rate)
        if late > 0 and (stop is None or stop > start):
            self._add_silence(min(late / self.sample_rate, math.inf if stop is None else stop - start))
            late = late if stop is None else min(late, round((stop - start) * self.sample_rate))
        samples = np.pad(samples, (late, 0)) if late > 0 else samples[-late:]
        if stop is not None:
            samples = samples[: round((stop - start) * self.sample_rate)]
        check_finite(samples, self.name)
        return np.clip(samples, -1.0, 1.0).astype(np.float32)

    def _mix(self) -> np.ndarray:
        """All parts as (n,) mono: the mean of the channels, or the louder one where they cancel each other."""
        parts, self._parts = self._parts, []
        samples = np.concatenate([part.mean(axis=0, dtype=np.float32) for part in parts] or [np.zeros(0, np.float32)])
        if all(len(part) == 1 for part in parts):
            return samples
        power = sum(np.square(part, dtype=np.float64).sum(axis=1) * np.ones(2) for part in parts)
        if not np.isfinite(power).all() or np.square(samples, dtype=np.float64).sum() >= power.max() * _CANCELLED**2:
            return samples
        loudest = int(power.argmax())
        logger.warning("%s: the channels of the sound cancel each other (antiphase); one of them is taken", self.name)
        return np.concatenate([part[loudest % len(part)] for part in parts])


def check_finite(samples: np.ndarray, name: str | Path) -> None:
    """Refuse a waveform (n,) that no spectrogram can be made of.

    Raises:
        MediaError: a sample is NaN or infinite, as float recordings may hold.
    """
    if not np.isfinite(samples).all():
        raise MediaError(f"{name}: holds samples that are not finite numbers (NaN or infinite); export the sound again")


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read the sound track of any media file; of a video, on the clock of its picture (see `media.info`).

    Args:
        path: Sound or video file of any container, codec, rate and channel count.
        sample_rate: Hz of the result.

    Returns:
        (n,) float32 mono in [-1, 1], channels averaged.

    Raises:
        MediaError: If the file is missing or damaged, has no sound track, or the track has no samples or such as are no
            finite numbers.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(f"{path}: has no sound track; give a sound file or a video with sound")
        picture = None if is_still(container) else video_stream(container)
        collector = AudioCollector(sample_rate, str(path))
        origin: float | None = None
        demuxer = Demuxer(container, path, stream, *([picture] if picture else []))
        for index, frame in demuxer.frames():
            if index == stream.index:
                collector.feed(frame)
            else:  # the first picture sets the clock, the others are not needed
                origin = 0.0 if frame.pts is None else float(frame.pts * frame.time_base)
                demuxer.decoding = {stream.index}
        if collector.first is None:
            raise MediaError(f"{path}: the sound track holds no sample; record or export it again")
        demuxer.check_complete(stream)
        samples = collector.finish(
            collector.first if origin is None else origin, declared=exact_seconds(container, stream)
        )
    if not len(samples):
        raise MediaError(f"{path}: the sound track ends before the picture starts; export the file again")
    return samples


def resampled(chunks: Iterable[np.ndarray], sample_rate: int, wanted: int = SAMPLE_RATE) -> Iterator[np.ndarray]:
    """Sound that arrives in pieces, (n,) float mono, at another rate; each piece is taken when the one before is used.

    Raises:
        MediaError: a rate that no recording has, or samples that are not finite numbers.
    """
    import av

    if not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
        raise MediaError(f"audio: {sample_rate} samples per second, which no recording has; give the rate in Hz")
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=wanted)
    for chunk in chunks:
        samples = np.ascontiguousarray(chunk, np.float32)
        check_finite(samples, "audio")
        if sample_rate == wanted or not len(samples):
            yield samples
            continue
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        yield from (made.to_ndarray()[0] for made in resampler.resample(frame))
    if sample_rate != wanted:
        yield from (made.to_ndarray()[0] for made in resampler.resample(None))


def other_tracks(path: str | Path) -> str:
    """Which of several sound tracks was taken and what the others are, for messages; empty where there is one."""
    with open_media(path) as container:
        chosen = audio_stream(container)
        tracks = {number: track for number, track in enumerate(container.streams.audio, start=1)}
        others = [
            " ".join(filter(None, (f"{number}", track.metadata.get("language"), track.metadata.get("title"))))
            for number, track in tracks.items()
            if track is not chosen
        ]
        own = next((number for number, track in tracks.items() if track is chosen), 0)
    return f" {own} (there are others: {', '.join(others)})" if others else ""


def write_wav(path: str | Path, audio: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a mono waveform as 16-bit PCM; the file appears complete or not at all.

    Args:
        path: The .wav file; folders are made.
        audio: (n,) float in [-1, 1]; louder samples are clipped.
        sample_rate: Hz.

    Raises:
        OutputError: If the file cannot be written.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise ValueError(f"{path}: write_wav takes a mono waveform (n,), got shape {audio.shape}")
    pcm = np.rint(np.clip(audio, -1.0, 1.0) * 32767.0).astype("<i2")
    with atomic_output(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm.tobytes())
