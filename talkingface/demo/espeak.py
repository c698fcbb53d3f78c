"""Optional back end: eSpeak NG through ctypes (package `espeakng-loader`); English words, natural phonemes.

eSpeak NG is GPL-3, so it is never a dependency: it is loaded only when asked for, and the sound it makes is not
covered by its licence. The library is one singleton per process and not thread-safe; parallelise over processes.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from math import gcd

import numpy as np
from scipy.signal import resample_poly

from talkingface.demo.speech import LEAD_IN, Speech, Voice
from talkingface.errors import DataError
from talkingface.packages import unusable
from talkingface.sound import SAMPLE_RATE

_SYNCHRONOUS = 2
_PHONEME_EVENTS, _IPA_NAMES, _DONT_EXIT = 0x1, 0x2, 0x8000
_LIST_END, _PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7")


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Engine:
    """The loaded library; collects samples and phoneme events of one utterance at a time."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise DataError(f"tts=espeak: {unusable('espeakng_loader', error)}, or use tts=formant") from error
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise DataError(
                f"tts=espeak: the library of eSpeak NG cannot be loaded ({error}); use tts=formant"
            ) from error
        flags = _PHONEME_EVENTS | _IPA_NAMES | _DONT_EXIT
        data = str(espeakng_loader.get_data_path()).encode()
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, flags)
        if self.rate <= 0:
            raise DataError(f"eSpeak NG does not start with the data in {data.decode()}; use tts=formant")
        self._samples: list[np.ndarray] = []
        self._phonemes: list[tuple[float, str]] = []
        self._callback = _Callback(self._collect)  # kept: ctypes would free it while the library still calls it
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wav: ctypes.Array, count: int, events: ctypes.Array) -> int:
        if wav and count > 0:
            self._samples.append(np.ctypeslib.as_array(wav, (count,)).copy())
        number = 0
        while events[number].type != _LIST_END:
            event = events[number]
            if event.type == _PHONEME:
                name = event.id.string.decode("utf-8", "ignore")
                self._phonemes.append((event.audio_position / 1000, name))
            number += 1
        return 0

    def say(self, text: str, voice: str, rate: int, pitch: int, spread: int) -> tuple[np.ndarray, list]:
        """Synthesise `text`; returns (n,) int16 at `self.rate` and (start, phoneme) pairs."""
        self._samples, self._phonemes = [], []
        self._library.espeak_SetVoiceByName(voice.encode())
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None)
        wav = np.concatenate(self._samples) if self._samples else np.zeros(0, np.int16)
        return wav, list(self._phonemes)


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    return _Engine()


def speak(words: list[str], voice: Voice, rng: np.random.Generator, seconds: float) -> Speech:
    """Like `speech.speak`, spoken by eSpeak NG.

    Raises:
        DataError: the package is missing or the library does not start.
    """
    engine = _engine()
    low = voice.pitch < 140
    variants = [v for v in _VARIANTS if v.startswith("m" if low else "f")]
    variant = variants[int(voice.pitch * 10) % len(variants)]  # the speaker's own, the same in all clips
    rate, pitch = round(155 * voice.rate), int(np.clip((voice.pitch - 60) / 2, 20, 80))
    wav, phonemes = engine.say(" ".join(words).lower(), f"en-us+{variant}", rate, pitch, int(rng.integers(40, 70)))
    common = gcd(SAMPLE_RATE, engine.rate)
    sound = resample_poly(wav.astype(np.float32) / 32768, SAMPLE_RATE // common, engine.rate // common)
    total, lead = round(seconds * SAMPLE_RATE), round(LEAD_IN * SAMPLE_RATE)
    result = np.zeros(total, np.float32)
    fitting = max(0, min(len(sound), total - lead))
    result[lead : lead + fitting] = sound[:fitting]
    line = [(0.0, "")] + [(start + LEAD_IN, name) for start, name in phonemes]
    line.append((LEAD_IN + len(sound) / SAMPLE_RATE, ""))
    return Speech(result, [(start, name) for start, name in line if start < seconds])
