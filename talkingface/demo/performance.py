"""What one clip shows: words, sound, mouth tracks, blinks and head pose; drawn from the clip's seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from talkingface.demo.deform import FrameState, frame_landmarks, lip_landmarks, measures
from talkingface.demo.espeak import speak as speak_espeak
from talkingface.demo.eyelids import BLINK
from talkingface.demo.identity import Identity
from talkingface.demo.lexicon import pronounce, random_sentence
from talkingface.demo.render import Renderer
from talkingface.demo.speech import Speech, Voice, speak
from talkingface.demo.visemes import MouthTracks, mouth_tracks

_POSE_RMS = (3.2, 2.0, 1.5, 0.008, 0.008)  # yaw, pitch, roll in degrees; x and y shift in face heights
_POSE_SIGMA = 0.5  # seconds
_NOD = 2.5  # degrees of pitch per full jaw opening when nodding is switched on


@dataclass(frozen=True)
class Performance:
    """One clip before it is drawn: `text`, `wav` (n,) float32 16 kHz, `tracks`, and brow lift (F,)."""

    text: str
    wav: np.ndarray
    tracks: MouthTracks
    brow: np.ndarray

    def states(self) -> Iterator[FrameState]:
        """One state per frame."""
        tracks = self.tracks
        for i in range(len(tracks)):
            pose = tuple(float(v) for v in tracks.pose[i])
            mouth = (float(track[i]) for track in (tracks.jaw, tracks.width, tracks.press, tracks.tuck))
            yield FrameState(*mouth, brow=float(self.brow[i]), blink=float(tracks.blink[i]), pose=pose)


def plan_clip(
    voice: Voice, key: tuple[int, int, int], frames: int, fps: float, tts: str = "formant", nod: bool = False
) -> Performance:
    """Choose what is said and how the head moves.

    Args:
        voice: the identity's voice.
        key: (corpus seed, identity, clip); with the other arguments it fixes everything.
        frames: clip length in frames.
        fps: frames per second.
        tts: "formant" or "espeak".
        nod: let the head pitch follow the jaw. A model could then read the jaw from the visible upper half of the
            face, so this must stay off in data that scores are made from.
    """
    rng = np.random.default_rng(key)
    seconds = frames / fps
    words = random_sentence(rng, seconds)
    speech = _speak(tts, words, voice, rng, seconds)
    tracks = mouth_tracks(speech.phonemes, frames, fps)
    # A generator of its own: the head must not know how many random numbers the speech used.
    motion = np.random.default_rng([*key, 1])
    pose = np.stack([rms * _smooth_noise(motion, frames, fps * _POSE_SIGMA) for rms in _POSE_RMS], axis=1)
    if nod:
        pose[:, 1] += _NOD * tracks.jaw
    brow = np.clip(0.5 * _smooth_noise(motion, frames, fps * 0.25), 0, 1)
    blink = _blinks(motion, frames, fps)
    said = words[: _words_heard(speech, words)]
    return Performance(" ".join(said), speech.wav, replace(tracks, pose=pose, blink=blink), brow)


def _speak(tts: str, words: list[str], voice: Voice, rng: np.random.Generator, seconds: float) -> Speech:
    if tts == "espeak":
        return speak_espeak(words, voice, rng, seconds)
    return speak(words, voice, rng, seconds)


def _words_heard(speech: Speech, words: list[str]) -> int:
    """How many words begin inside the clip, judged by the share of phonemes that fitted."""
    left = sum(1 for _, name in speech.phonemes if name)
    for count, spoken in enumerate(pronounce(words)):
        if left <= 0:
            return max(1, count)
        left -= len(spoken)
    return len(words)


def _smooth_noise(rng: np.random.Generator, frames: int, sigma: float) -> np.ndarray:
    """(frames,) Gaussian-smoothed noise of unit expected RMS; sigma in frames."""
    reach = int(np.ceil(4 * sigma))
    # Divided by its own norm, the kernel leaves white noise with a variance of 1.
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    white = rng.standard_normal(frames + 2 * reach)
    return np.convolve(white, kernel / np.sqrt(np.sum(kernel**2)), mode="valid")


def _blinks(rng: np.random.Generator, frames: int, fps: float) -> np.ndarray:
    """(frames,) lid level; a blink of four frames every 1.6 to 3.5 seconds, the first one earlier."""
    track = np.zeros(frames)
    at = float(rng.uniform(0.3, 2.0))
    while round(at * fps) < frames:
        first = round(at * fps)
        part = track[first : first + len(BLINK)]
        part[:] = BLINK[: len(part)]
        at += float(rng.uniform(1.6, 3.5))
    return track


class ClipDrawer:
    """Iterates over the frames of a performance and collects the landmarks it drew.

    After the iteration, `tracks` also holds the intended opening and mouth width, and `lips` the (F, 40, 2) lip
    landmarks in pixels of the finished frames.
    """

    def __init__(self, identity: Identity, performance: Performance, key: tuple[int, int, int]) -> None:
        self._identity, self._performance, self._key = identity, performance, key
        self.tracks = performance.tracks
        self.lips = np.zeros((len(performance.tracks), 40, 2), np.float32)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield RGB uint8 (size, size, 3) frames."""
        renderer = Renderer(self._identity)
        opening, width = np.zeros(len(self.tracks)), np.zeros(len(self.tracks))
        for i, state in enumerate(self._performance.states()):
            # A generator for each frame: frames may be drawn in any order, or again, and have the same noise.
            frame, points = renderer.frame(state, np.random.default_rng([*self._key, 2, i]))
            landmarks = frame_landmarks(self._identity, points)
            opening[i], width[i] = measures(landmarks)
            self.lips[i] = lip_landmarks(self._identity, landmarks)
            yield frame
        self.tracks = replace(self.tracks, opening=opening, mouth_width=width)
