"""Front ends: what a model hears of a sound. One registry for preprocessing, training and generation.

A front end turns samples into rows, at a rate and of a width of its own; it may also give one vector per clip, who
speaks say. What it gives is of use only with what was trained on the same, so each can say what it is
(`fingerprint`), down to the hash of its weights, and `refuse_other` compares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import numpy as np

from talkingface.errors import ConfigError, DataError, RegistryError, unknown
from talkingface.files import file_sha256
from talkingface.sound.mel import COLUMNS_PER_SECOND, MelConfig, melspectrogram
from talkingface.sound.pitch import Tracker, default_tracker
from talkingface.sound.recogniser import ROWS_PER_SECOND as RECOGNISED_PER_SECOND
from talkingface.sound.recogniser import WIDTH, logmel
from talkingface.sound.speaker import SPEAKER, voice_statistics
from talkingface.sound.voice_mel import BANDS, ROWS_PER_SECOND, Level, as_pcm, voice_mel

T = TypeVar("T")


class Part:
    """Something that features are made with, and that can say what it is.

    Args:
        weights_dir: folder of weight files.
        device: where its networks compute.

    Attributes:
        name: in settings and in what is stored.
        files: weight files that it reads, below `weights_dir`.
        places: where those of them lie that are elsewhere.
        version: to be raised when it gives other numbers.
        on_cpu: whether its own network computes on the CPU, wherever `device` is.
        parts: what it is built of.
    """

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    on_cpu: ClassVar[bool] = False

    def __init__(self, weights_dir: str | Path = "checkpoints", device: str = "cpu") -> None:
        self.weights_dir, self.device = Path(weights_dir), device
        self.parts: tuple[Part, ...] = ()
        self.places: dict[str, Path] = {}

    def path(self, file: str) -> Path:
        """Where one of its `files` lies."""
        return self.places.get(file, self.weights_dir / file)

    def settings(self) -> dict[str, Any]:
        """Plain values that change what it gives."""
        return {}

    def one_of(self, known: Any, option: str, given: T) -> T:
        """The value of an option, once it is one of those of a `Literal`.

        Raises:
            ConfigError: it is another.
        """
        values = get_args(known)
        if given not in values:
            raise ConfigError(f"{self.name}: {unknown(option, str(given), values)}")
        return given

    def missing(self) -> list[Path]:
        """Weight files that are not there, its own and those of its parts."""
        own = [path for path in map(self.path, self.files) if not path.is_file()]
        return own + [path for part in self.parts for path in part.missing()]

    def fingerprint(self) -> dict[str, Any]:
        """What it is, as plain data: name, version, settings, sha256 of its files, the same of its parts.

        Raises:
            DataError: a file is not there.
        """
        if missing := self.missing():
            raise DataError(
                f"{missing[0]}: the front end {self.name} needs this file; `python run_talkingface.py weights` tells"
                " where weight files come from"
            )
        found: dict[str, Any] = {"name": self.name, "version": self.version, **self.settings()}
        if self.files:
            found["files"] = {file: file_sha256(self.path(file)) for file in self.files}
        if self.parts:
            found["parts"] = [part.fingerprint() for part in self.parts]
        return found


class FrontEnd(Part, ABC):
    """Samples to rows.

    Attributes:
        rows_per_second: rate of the rows; row k stands for the time `first_row + k / rows_per_second`.
        first_row: seconds.
        width: values in a row.
        vector_width: values in the vector of a clip; 0: it gives none.
        of_frames: whether its rows are those of the frames of a video: of a clip it hears the sound cut, or filled up
            with silence, to the end of the last frame (`recogniser.fitted`), as whoever generates lets it hear.
    """

    rows_per_second: ClassVar[float]
    first_row: ClassVar[float] = 0.0
    width: ClassVar[int]
    vector_width: ClassVar[int] = 0
    of_frames: ClassVar[bool] = False

    @abstractmethod
    def extract(self, samples: np.ndarray) -> np.ndarray:
        """Mono samples (n,) in [-1, 1] at 16 kHz -> rows (T, width) float32, finite whatever the sound."""

    def extract_window(self, samples: np.ndarray, before: int, memory: dict[str, Any]) -> np.ndarray:
        """What `extract` gives, for a window out of a voice that is still arriving; windows overlap.

        A front end that measures the whole sound, its loudness say, measures what was heard of it until now.

        Args:
            samples: (n,) of the window.
            before: samples of the voice before them.
            memory: what goes on from window to window of the voice, empty in the first one.
        """
        return self.extract(samples)

    def vector(self, samples: np.ndarray) -> np.ndarray | None:
        """The vector (vector_width,) float32 of a clip; None for a front end without one."""
        return None

    def times(self, rows: int) -> np.ndarray:
        """Seconds (rows,) float64 that the rows stand for."""
        return self.first_row + np.arange(rows) / self.rows_per_second


class SpeakerVector(Part, ABC):
    """Samples to one vector that tells who speaks.

    Attributes:
        width: values in it.
    """

    width: ClassVar[int]

    @abstractmethod
    def vector(self, samples: np.ndarray) -> np.ndarray:
        """Mono samples (n,) in [-1, 1] at 16 kHz -> (width,) float32, finite whatever the sound."""


class WithSpeaker(FrontEnd):
    """Rows of one front end and the vector of a speaker.

    Args:
        rows: gives the rows, and the name.
        speaker: gives the vector.
    """

    def __init__(self, rows: FrontEnd, speaker: SpeakerVector) -> None:
        super().__init__(rows.weights_dir, rows.device)
        self.parts = (rows, speaker)
        self.name, self.rows_per_second, self.first_row = rows.name, rows.rows_per_second, rows.first_row
        self.width, self.vector_width, self.of_frames = rows.width, speaker.width, rows.of_frames

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """See `FrontEnd.extract`."""
        return self.parts[0].extract(samples)

    def extract_window(self, samples: np.ndarray, before: int, memory: dict[str, Any]) -> np.ndarray:
        """See `FrontEnd.extract_window`."""
        return self.parts[0].extract_window(samples, before, memory)

    def vector(self, samples: np.ndarray) -> np.ndarray:
        """See `SpeakerVector.vector`."""
        return self.parts[1].vector(samples)


_FRONT_ENDS: dict[str, type[FrontEnd]] = {}
_SPEAKERS: dict[str, type[SpeakerVector]] = {}
_Kind = TypeVar("_Kind", bound=type[Part])


def register_front_end(kind: _Kind) -> _Kind:
    """Class decorator: make a front end known by its name.

    Raises:
        RegistryError: another one has the name.
    """
    return _registered(_FRONT_ENDS, kind, "front ends")


def register_speaker(kind: _Kind) -> _Kind:
    """Class decorator: make a speaker vector known by its name.

    Raises:
        RegistryError: another one has the name.
    """
    return _registered(_SPEAKERS, kind, "speaker vectors")


def _registered(known: dict[str, Any], kind: _Kind, what: str) -> _Kind:
    if known.setdefault(kind.name, kind).__qualname__ != kind.__qualname__:
        raise RegistryError(f"two {what} are called '{kind.name}'")
    return kind


def front_end_names() -> list[str]:
    """Names of all that are known, sorted. Those of a model are, once the model has been imported."""
    return sorted(_FRONT_ENDS)


def front_end_kind(name: str) -> type[FrontEnd]:
    """The class of the front end called `name`; its rate and widths are known without its files.

    Raises:
        RegistryError: there is none.
    """
    if name not in _FRONT_ENDS:
        raise RegistryError(unknown("front end", name, _FRONT_ENDS))
    return _FRONT_ENDS[name]


def speaker_kind(name: str) -> type[SpeakerVector]:
    """The class of the speaker vector called `name`.

    Raises:
        RegistryError: there is none.
    """
    if name not in _SPEAKERS:
        raise RegistryError(unknown("speaker vector", name, _SPEAKERS))
    return _SPEAKERS[name]


ELSEWHERE = "elsewhere"
"""Entry of a fingerprint of rows that others made with files that nobody knows; names alone are compared."""


def made_by_others(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Why something that was made with one front end does not serve with another, or None; both are named."""
    if dict(stored) == dict(wanted):
        return None
    if (ELSEWHERE in stored or ELSEWHERE in wanted) and _same_names(stored, wanted):
        return None
    ours, theirs = described(wanted), described(stored)
    if ours == theirs:
        theirs = "another version of it"
    return f"made with the front end {theirs}, but {ours} is in use"


def _same_names(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are of front ends of the same name, of the same parts where both tell of some."""
    parts = [[part.get("name") for part in each.get("parts", ())] for each in (one, other)]
    return one.get("name") == other.get("name") and (parts[0] == parts[1] or not all(parts))


def refuse_other(stored: Mapping[str, Any], wanted: Mapping[str, Any], what: str, advice: str) -> None:
    """Check that something was made with the front end that it is to be used with.

    Args:
        stored: fingerprint that lies with it.
        wanted: fingerprint of the front end here.
        what: clip, checkpoint or expert, for the message.
        advice: what to do.

    Raises:
        DataError: it was made with another one; both are named.
    """
    if reason := made_by_others(stored, wanted):
        raise DataError(f"{what}: {reason}; {advice}")


def described(fingerprint: Mapping[str, Any]) -> str:
    """A fingerprint in words: name, settings, and the front of each file's hash."""
    apart = ("name", "version", "files", "parts", ELSEWHERE)
    details = ["made elsewhere"] if ELSEWHERE in fingerprint else []
    details += [f"{key} {value}" for key, value in fingerprint.items() if key not in apart]
    details += [f"{Path(file).name} {sha256[:8]}" for file, sha256 in fingerprint.get("files", {}).items()]
    details += [described(part) for part in fingerprint.get("parts", ())]
    name = fingerprint.get("name", "?")
    return f"{name} ({', '.join(details)})" if details else name


@register_front_end
class MelFrontEnd(FrontEnd):
    """The mel of the Wav2Lip family, see `sound.mel`."""

    name = "mel"
    rows_per_second = float(COLUMNS_PER_SECOND)
    width = MelConfig().n_mels

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """See `FrontEnd.extract`."""
        return np.ascontiguousarray(melspectrogram(samples).T)


@register_front_end
class VoiceMelFrontEnd(FrontEnd):
    """The mel of MakeItTalk, of the speaker's own voice, see `sound.voice_mel`."""

    name = "vc_mel"
    rows_per_second = ROWS_PER_SECOND
    width = BANDS

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """See `FrontEnd.extract`."""
        return voice_mel(samples)

    def extract_window(self, samples: np.ndarray, before: int, memory: dict[str, Any]) -> np.ndarray:
        """See `FrontEnd.extract_window`."""
        return voice_mel(samples, memory.setdefault("level", Level()).hear(as_pcm(samples), before))


@register_front_end
class LogMelFrontEnd(FrontEnd):
    """Rows of the rate and width of a speech recogniser's letters, without one: see `sound.recogniser.logmel`."""

    name = "logmel"
    rows_per_second = float(RECOGNISED_PER_SECOND)
    first_row = 0.5 / RECOGNISED_PER_SECOND
    width = WIDTH
    of_frames = True

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """See `FrontEnd.extract`."""
        return logmel(samples)


@register_speaker
class VoiceStatistics(SpeakerVector):
    """A speaker told by plain statistics of mel and pitch, see `sound.speaker`; no file is needed.

    Args:
        weights_dir: of no account.
        device: of no account.
        tracker: of the pitch; None: the published one where it is installed.
    """

    name = "statistics"
    width = SPEAKER

    def __init__(
        self, weights_dir: str | Path = "checkpoints", device: str = "cpu", tracker: Tracker | None = None
    ) -> None:
        super().__init__(weights_dir, device)
        self.tracker = self.one_of(Tracker, "tracker", tracker or default_tracker())

    def settings(self) -> dict[str, Any]:
        """The tracker: each finds a pitch of its own."""
        return {"tracker": self.tracker}

    def vector(self, samples: np.ndarray) -> np.ndarray:
        """See `SpeakerVector.vector`."""
        return voice_statistics(samples, self.tracker)
