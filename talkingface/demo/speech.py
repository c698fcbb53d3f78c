"""Formant speech: a small source-filter synthesiser in numpy and scipy, about a hundred times faster than real time.

It sounds like a robot babbling, but every phoneme has its own spectrum, so mel features carry what the mouth does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from talkingface.demo.lexicon import pronounce
from talkingface.sound import SAMPLE_RATE

LEAD_IN = 0.16  # seconds of silence before the first phoneme
# Seconds of speech before a breath with a closed mouth. The first ones vary most: pauses at the same time in all clips
# would make any two clips alike, and scores with another clip's audio better than they should be.
FIRST_BREATH, NEXT_BREATH = (0.7, 3.0), (1.8, 3.0)
_STEP = 80  # samples between two filter settings, 5 ms
_BANDWIDTHS = (60.0, 90.0, 150.0)  # of F1, F2, F3 in Hz

# F1, F2, F3 in Hz
FORMANTS: dict[str, tuple[float, float, float]] = {
    "a": (730, 1200, 2500),
    "ʌ": (650, 1200, 2400),
    "æ": (690, 1660, 2490),
    "e": (530, 1840, 2480),
    "i": (280, 2250, 2900),
    "o": (480, 880, 2400),
    "ɔ": (570, 840, 2410),
    "u": (310, 870, 2250),
    "ə": (500, 1500, 2500),
    "m": (250, 1100, 2200),
    "n": (260, 1600, 2600),
    "l": (360, 1300, 2700),
    "w": (300, 700, 2200),
    "j": (270, 2200, 2950),
    "r": (350, 1150, 1650),
    "b": (230, 800, 2100),
    "p": (300, 850, 2100),
    "d": (250, 1700, 2600),
    "t": (300, 1750, 2650),
    "g": (250, 1500, 2300),
    "k": (300, 1550, 2350),
    "v": (300, 1100, 2300),
    "f": (320, 1150, 2350),
    "z": (300, 1700, 2600),
    "s": (320, 1750, 2650),
    "ð": (300, 1400, 2500),
    "θ": (320, 1400, 2500),
    "ʃ": (320, 1700, 2400),
    "ʒ": (300, 1700, 2400),
    "h": (550, 1500, 2500),
}
# centre of the friction noise in Hz and its level
FRICTION: dict[str, tuple[float, float]] = {
    "s": (6000, 0.30),
    "z": (6000, 0.16),
    "f": (4500, 0.12),
    "v": (4500, 0.07),
    "θ": (5000, 0.10),
    "ð": (5000, 0.05),
    "ʃ": (3000, 0.32),
    "ʒ": (3000, 0.16),
    "h": (1500, 0.08),
}
BURST: dict[str, float] = {"p": 900, "b": 800, "t": 4500, "d": 4000, "k": 2000, "g": 1900, "tʃ": 3000, "dʒ": 3000}
_VOWELS = frozenset("aʌæeioɔuə")
_AFFRICATES = {"tʃ": ("t", "ʃ"), "dʒ": ("d", "ʒ")}


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker: pitch in Hz, vocal-tract scale of all formants, speaking rate (1 is normal), breath."""

    pitch: float = 120.0
    tract: float = 1.0
    rate: float = 1.0
    breath: float = 0.02

    @classmethod
    def random(cls, rng: np.random.Generator) -> Voice:
        """Draw a speaker; a high pitch goes with a short vocal tract, as in people."""
        height = float(rng.uniform(0, 1))
        return cls(
            pitch=95 + 125 * height,
            tract=0.94 + 0.16 * height + float(rng.uniform(-0.02, 0.02)),
            rate=float(rng.uniform(0.9, 1.15)),
            breath=float(rng.uniform(0.01, 0.04)),
        )


@dataclass(frozen=True)
class Speech:
    """What a back end returns: `wav` (n,) float32 mono 16 kHz, and the (start in seconds, phoneme) list."""

    wav: np.ndarray
    phonemes: list[tuple[float, str]]


def speak(words: list[str], voice: Voice, rng: np.random.Generator, seconds: float) -> Speech:
    """Synthesise `words` into exactly `seconds` of sound, after 0.16 s of silence; what does not fit is cut.

    Args:
        words: upper-case words; unknown ones are babbled from their letters.
        voice: the speaker.
        rng: drives durations, pauses, pitch drift and noise; same state, same samples.
        seconds: length of the result.
    """
    timeline = _timeline(pronounce(words), voice, rng)
    total = round(seconds * SAMPLE_RATE)
    wav = np.zeros(total, np.float32)
    sound = _synthesise(timeline, voice, rng)[:total]
    wav[: len(sound)] = sound
    fade = min(240, total)  # a cut word must not end in a click
    wav[total - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    phonemes = [(start, name) for start, _, name in timeline if start < seconds]
    end = timeline[-1][1]
    if end < seconds:
        phonemes.append((end, ""))
    return Speech(wav, phonemes)


def _timeline(words: list[list[str]], voice: Voice, rng: np.random.Generator) -> list[tuple[float, float, str]]:
    """(start, end, phoneme) in seconds; "" is silence. Pauses close the mouth now and then, breaths for longer."""
    line: list[tuple[float, float, str]] = [(0.0, LEAD_IN, "")]
    now = LEAD_IN
    breath = now + float(rng.uniform(*FIRST_BREATH))

    def add(name: str, length: float) -> None:
        nonlocal now
        line.append((now, now + length, name))
        now += length

    for index, word in enumerate(words):
        for name in word:
            base = 0.125 if name in _VOWELS else 0.085
            if name == "ə":
                base = 0.085
            add(name, base * float(rng.uniform(0.8, 1.25)) / voice.rate)
        # After the last word comes the closing silence below, not a pause.
        if index + 1 == len(words):
            break
        if now > breath:
            add("", float(rng.uniform(0.45, 0.6)))
            breath = now + float(rng.uniform(*NEXT_BREATH))
        elif rng.uniform() < 0.3:
            add("", float(rng.uniform(0.1, 0.28)))
    add("", 0.1)
    return line


def _resonator(frequency: float, bandwidth: float) -> tuple[np.ndarray, np.ndarray]:
    """Second-order section of unit gain at 0 Hz (Klatt 1980)."""
    radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
    a1 = -2 * radius * np.cos(2 * np.pi * min(frequency, 7600.0) / SAMPLE_RATE)
    a2 = radius * radius
    return np.array([1 + a1 + a2]), np.array([1.0, a1, a2])


def _controls(timeline: list[tuple[float, float, str]], steps: int) -> dict[str, np.ndarray]:
    """Formants, voicing, aspiration, friction level and centre at every 5 ms, before smoothing."""
    formants = np.tile(np.array(FORMANTS["ə"]), (steps, 1))
    voicing, friction, aspiration = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    centre = np.full(steps, 3000.0)
    for start, end, name in timeline:
        first, last = round(start * 200), min(steps, round(end * 200))
        if last <= first or not name:
            continue
        stop, tail = _AFFRICATES.get(name, (name, ""))
        # A stop closes the mouth for the first 62 % of its time, and then releases the burst.
        split = first + max(1, round(0.62 * (last - first)))
        formants[first:last] = FORMANTS.get(stop, FORMANTS["ə"])
        if stop in BURST:
            voicing[first:split] = 0.10 if stop in "bdg" else 0.0
            friction[split : split + 3] = 0.35 if stop in "ptk" else 0.2
            centre[first:last] = BURST[name]
            voicing[split + 1 : last] = 0.5 if stop in "bdg" else 0.0
            aspiration[split + 1 : last] = 0.0 if stop in "bdg" else 0.12
            if tail:
                friction[split:last], centre[split:last] = FRICTION[tail][1], FRICTION[tail][0]
        elif stop in FRICTION:
            centre[first:last], friction[first:last] = FRICTION[stop]
            voicing[first:last] = 0.35 if stop in "zvðʒ" else 0.0
            aspiration[first:last] = 0.15 if stop == "h" else 0.0
        else:
            voicing[first:last] = 1.0 if stop in _VOWELS else 0.55 if stop in "lrwj" else 0.35
    return {"formants": formants, "voicing": voicing, "friction": friction, "aspiration": aspiration, "centre": centre}


def _smooth(track: np.ndarray, width: int) -> np.ndarray:
    """Running mean along axis 0 with repeated edges: formants glide instead of jumping."""
    kernel = np.hanning(width + 2)[1:-1]
    kernel /= kernel.sum()
    flat = track.reshape(len(track), -1)
    padded = np.pad(flat, ((width // 2, width - 1 - width // 2), (0, 0)), mode="edge")
    return np.stack([np.convolve(c, kernel, mode="valid") for c in padded.T], axis=1).reshape(track.shape)


def _glottis(steps: int, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Pulse train (steps * 80,) with a slow pitch drift; each pulse is low-passed to the slope of a human voice."""
    knots = rng.normal(0, 1, steps // 40 + 3)
    drift = np.interp(np.arange(steps * _STEP), np.arange(len(knots)) * 40 * _STEP, knots)
    # A pulse wherever the running phase passes a whole number: the pitch may change at any sample.
    phase = np.cumsum(voice.pitch * (1 + 0.06 * drift) / SAMPLE_RATE)
    pulses = np.zeros(steps * _STEP)
    pulses[1:][np.diff(np.floor(phase)) > 0] = 1.0
    pulses = lfilter([1.0], [1.0, -0.96], pulses)
    return lfilter([1.0, -0.99], [1.0], pulses) + lfilter([0.12], [1.0, -0.9], pulses)


def _synthesise(timeline: list[tuple[float, float, str]], voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """(n,) float32 sound of a timeline: pulses and noise through three resonators, friction beside them."""
    steps = round(timeline[-1][1] * 200)
    control = _controls(timeline, steps)
    # Formants glide for 55 ms, levels for 25: the mouth is slower than the vocal cords.
    formants = _smooth(control["formants"], 11) * voice.tract
    level = {name: np.repeat(_smooth(control[name], 5), _STEP) for name in ("voicing", "aspiration")}
    noise = rng.normal(0, 1, steps * _STEP)
    source = _glottis(steps, voice, rng) * level["voicing"] + noise * (level["aspiration"] + voice.breath) * (
        0.3 + level["voicing"]
    )
    hiss = noise * np.repeat(_smooth(control["friction"], 3), _STEP)
    out = np.empty(steps * _STEP)
    # Each filter goes on where it stood in the block before; fresh ones would click 200 times a second.
    states = [np.zeros(2) for _ in range(4)]
    for step in range(steps):
        span = slice(step * _STEP, (step + 1) * _STEP)
        block = source[span]
        for i in range(3):
            b, a = _resonator(formants[step, i], _BANDWIDTHS[i])
            block, states[i] = lfilter(b, a, block, zi=states[i])
        # Friction bypasses the vowel formants: it is made in front of the tongue.
        b, a = _resonator(control["centre"][step], 900.0)
        rough, states[3] = lfilter(b, a, hiss[span], zi=states[3])
        out[span] = block + 0.5 * rough
    loudest = float(np.abs(out).max())
    return (0.6 * out / loudest if loudest > 0 else out).astype(np.float32)
