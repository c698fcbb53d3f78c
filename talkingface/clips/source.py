"""What drives a generation: the pictures (`Source`) and the voice (`Audio`)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from talkingface.config.sections import LandmarkConfig
from talkingface.errors import ConfigError, MediaError, NoFaceError
from talkingface.faces.detectors import DEFAULT_PLACE, make_provider
from talkingface.faces.landmark_file import read_landmarks
from talkingface.faces.track import RIVALS_SHARE
from talkingface.faces.turned import MOST as MOST_TURNED
from talkingface.faces.turned import turn_of
from talkingface.faces.zoom import Again, find_track
from talkingface.media.audio import check_finite, other_tracks, read_audio
from talkingface.media.behind import frames_waiting
from talkingface.media.info import FPS, SAMPLE_RATE, frame_count, logger, samples_of
from talkingface.media.kept import KeptFrames
from talkingface.media.pixels import read_image
from talkingface.media.prefetch import prefetch
from talkingface.media.probe import probe
from talkingface.media.read import VideoReader, count_frames

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.faces.track import LandmarkProvider, LandmarkTrack, Rivals

log = logging.getLogger("talkingface")
T = TypeVar("T")

_CHUNK_BYTES = 96 * 2**20  # decoded frames held at once while a video plays backwards
_SHORTEST_CHUNK = 8
_LONGEST_SKIP = 250  # frames decoded in vain before a seek is cheaper: the usual distance of key frames
_SILENCE = 1e-4  # -80 dB of full scale: below the dither of a 16-bit recording of nothing


@dataclass(frozen=True)
class Audio:
    """The driving voice.

    Attributes:
        samples: (n,) float32 mono in [-1, 1].
        sample_rate: Hz.
        path: Where it came from, None for samples made in memory.
        wanted: Of a window out of a longer voice: the frames that are to be drawn, first and one past the last; what
            lies beside them is there to be heard. None: all.
        before: Samples of the longer voice before those of the window.
        memory: What a model takes along from one window of a voice to the next, see `going_on`; None: there is one.

    Raises:
        MediaError: If a sample is NaN or infinite.
    """

    samples: np.ndarray
    sample_rate: int = SAMPLE_RATE
    path: Path | None = None
    wanted: tuple[int, int] | None = None
    before: int = 0
    memory: dict[str, Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse samples that no model can hear."""
        check_finite(self.samples, self.path or "audio")

    @classmethod
    def load(cls, path: str | Path, *, allow_silence: bool = False) -> Audio:
        """Read the sound of any media file at 16 kHz.

        Args:
            path: Sound or video file.
            allow_silence: Take a recording without any sound as well; it says nothing, so by default it is refused.

        Raises:
            MediaError: If the file is missing or damaged, or its sound is absent, empty or silent.
        """
        audio = cls(read_audio(path), SAMPLE_RATE, Path(path))
        if audio.is_silent and not allow_silence:
            raise MediaError(f"{path}: the sound track{other_tracks(path)} is silent; give a recording of speech")
        return audio

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def is_silent(self) -> bool:
        """No sample reaches -80 dB of full scale."""
        return not len(self.samples) or float(np.abs(self.samples).max()) < _SILENCE

    def n_frames(self, fps: float = FPS) -> int:
        """Number of video frames that last as long; the length rule of `frame_count`."""
        return frame_count(self.duration, fps)

    def first(self, frames: int, fps: float = FPS) -> Audio:
        """The sound of the first `frames` video frames; all of it where it is shorter.

        Raises:
            ConfigError: that is not one frame.
        """
        if frames < 1:
            raise ConfigError(f"most_frames {frames}: must be 1 or more")
        return replace(self, samples=self.samples[: samples_of(frames, fps, self.sample_rate)])

    def rows(self, fps: float = FPS) -> np.ndarray:
        """Numbers of the frames that are to be drawn: all, or those `wanted`."""
        first, stop = self.wanted or (0, self.n_frames(fps))
        return np.arange(first, stop)

    def going_on(self, what: str, make: Callable[[], T]) -> T:
        """What goes on from window to window of one voice, such as the memory of a network; made in the first one."""
        if self.memory is None:
            return make()
        if what not in self.memory:
            self.memory[what] = make()
        return self.memory[what]


class Source:
    """The video or still image whose face is to speak. Frames are decoded when asked for and never all held.

    Attributes:
        path: The file.
        fps: Frame rate of the frame indices.
        size: (height, width) after rotation.
        is_image: A still image: one frame.
        reference: Where identity frames come from instead, when set.
        clip: The preprocessed clip, when landmarks already lie on disk.
        landmark_file: A file with the landmarks of this very video, as in docs/data_layout.md.
        landmark_config: How landmarks are found otherwise.
        place: Where the detector's weights lie, and where it runs.
        held_out: The output is compared with this very video, so no frame may be made from itself: identity frames must
            come from `reference`, or from another part of the video.
        kept: Memory for its frames: what fits there is decoded once; by default nothing does.
        prepared: What models have worked out from it, for the next voice; None: they work it out each time.
        background: A picture that stands behind it where it is transparent, None without one.
    """

    background: Path | None = None

    def __init__(
        self,
        path: str | Path,
        fps: float = FPS,
        reference: Source | None = None,
        clip: ClipFolder | None = None,
        landmark_file: str | Path | None = None,
    ) -> None:
        """Open a video or image.

        Raises:
            MediaError: If the file is missing, damaged, or has no picture.
        """
        self.path = Path(path)
        info = probe(self.path)
        if not info.has_video:
            raise MediaError(f"{self.path}: has sound but no picture; give a video or an image")
        self.fps, self.reference, self.clip = fps, reference, clip
        self.info = info
        self.size = info.size
        self.is_image = info.is_image
        self.landmark_file = landmark_file
        self.landmark_config = LandmarkConfig()
        self.place = DEFAULT_PLACE
        self.held_out = False
        self.kept = KeptFrames(0)
        self.prepared: dict[Hashable, Any] | None = None
        self._begin = self._skipped = 0
        self._total = self._length = count_frames(self.path, fps)
        self._landmarks: LandmarkTrack | None = None
        self._last: np.ndarray | None = None
        self._ahead: ExitStack | None = None
        self._opacity: np.ndarray | None = None

    @classmethod
    def from_path(cls, path: str | Path, fps: float = FPS, landmark_file: str | Path | None = None) -> Source:
        """Open any video or still image; its landmarks may come from a file."""
        return cls(path, fps, landmark_file=landmark_file)

    @classmethod
    def from_clip(cls, clip: ClipFolder) -> Source:
        """Open the video behind a preprocessed clip, whose landmarks are then read instead of computed."""
        return cls(clip.video, clip.fps, clip=clip)

    def __len__(self) -> int:
        """Number of frames at `fps`, or as many of them as are wanted (`limit`)."""
        return self._length

    def limit(self, frames: int) -> None:
        """Forget all but the first `frames` frames: for an output of that many, no face is looked for beyond them."""
        self._length = max(1, min(self._total, frames))

    def skip(self, seconds: float) -> None:
        """Begin so much later: frame 0 is then the one that is shown at that time. A picture stays as it is.

        Raises:
            ConfigError: the time is none.
            MediaError: nothing of the video is left.
        """
        if not 0 <= seconds < float("inf"):
            raise ConfigError(f"start {seconds:g}: must be 0 seconds or more")
        if self.is_image:
            return
        frames = round(seconds * self.fps)
        if frames >= self._total:
            raise MediaError(f"{self.path}: lasts {self._total / self.fps:g} s, so nothing is left after {seconds:g} s")
        self._skipped, self._total = self._skipped + frames, self._total - frames
        self._length, self._landmarks = min(self._length, self._total), None

    def order(self, n: int) -> np.ndarray:
        """Frame indices of an output of `n` frames: trimmed, or played to and fro 0..F-1, F-1..0 until it suffices.

        The end frames appear twice at the turns, as published.
        """
        position = (self._begin + np.arange(n)) % (2 * len(self))
        return np.where(position < len(self), position, 2 * len(self) - 1 - position)

    def starting_at(self, frame: int) -> Source:
        """The same source for an output that begins where frame `frame` of a longer one is; `order` goes on there."""
        later = copy.copy(self)
        later._begin = frame
        return later

    def once(self, model: Any, what: str, make: Callable[[], T]) -> T:
        """What a model works out from this source alone, whatever is said: once, where the source is `prepared`."""
        if self.prepared is None:
            return make()
        key = (model, what, self.reference, self.held_out, len(self))
        if key not in self.prepared:
            self.prepared[key] = make()
        return self.prepared[key]

    def frames(self, order: Sequence[int] | np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Stream frames in any order; memory stays flat, also where the order runs backwards.

        Args:
            order: Frame indices, None for all frames forward.

        Yields:
            (H, W, 3) uint8 RGB, each owned by the caller.
        """
        frames = self._stream(range(len(self)) if order is None else [int(index) for index in order])
        if self._ahead is None or self.is_image:
            return frames
        height, width = self.size
        return self._ahead.enter_context(closing(prefetch(frames, frames_waiting(3 * height * width))))

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Within the context `frames` are decoded by a thread, some frames ahead of whoever takes them.

        At its end no thread is left, whoever still holds a stream of frames and whatever was raised.
        """
        before = self._ahead
        with ExitStack() as opened:
            self._ahead = opened
            try:
                yield
            finally:
                self._ahead = before

    def _stream(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        self._check(indices)
        held: np.ndarray | None = None
        for first, last, descending in _runs(indices):
            run = indices[first:last]
            if descending:
                yield from self._backward(run)
                continue
            if self.is_image:
                held = self.read([0])[0] if held is None else held
                yield from (held.copy() for _ in run)
                continue
            yield from (frame for _, frame in self._forward(run))

    def read(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return a few frames by index, in one forward pass.

        Args:
            indices: Frame indices, any order, repeats allowed.

        Returns:
            As many (H, W, 3) uint8 RGB frames; all are held in memory.
        """
        wanted = [int(index) for index in indices]
        self._check(wanted)
        found: dict[int, np.ndarray] = {}
        for part in _split_at_gaps(sorted(set(wanted))):
            found.update(self._forward(part))
        return [found[index].copy() for index in wanted]

    def opacity(self) -> np.ndarray | None:
        """(H, W) uint8, how opaque a picture is, which frames show on white; None for videos and where nothing shines.

        Raises:
            MediaError: If the file is damaged.
        """
        if self.is_image and self._opacity is None:
            self._opacity = np.ascontiguousarray(read_image(self.path, opacity=True)[..., 3])
        return None if self._opacity is None or (self._opacity == 255).all() else self._opacity

    def _check(self, indices: Iterable[int]) -> None:
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"{self.path}: frame {index} does not exist, the source has {len(self)} frames")

    def _forward(self, run: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (index, frame) for indices that never decrease."""
        if not len(run):
            return
        position, skipped = 0, self._skipped
        stop = None if run[-1] + 1 == self._total else run[-1] + 1 + skipped
        for number, frame in enumerate(self.kept.frames(self.path, self.fps, run[0] + skipped, stop), start=run[0]):
            while position < len(run) and run[position] == number:
                position += 1
                again = position < len(run) and run[position] == number
                yield number, frame if not again and frame.flags.writeable else frame.copy()
        if position == len(run):
            return
        logger.warning("%s: ends %d frames early; its last frame is repeated", self.path, len(run) - position)
        yield from ((index, self._last_frame().copy()) for index in run[position:])

    def _last_frame(self) -> np.ndarray:
        """Frame that stands in where a file holds fewer than it says."""
        if self._last is None:
            for frame in VideoReader(self.path, self.fps):
                self._last = frame
        assert self._last is not None  # a reader without any frame raises
        return self._last

    def _backward(self, run: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield frames of falling indices: chunks are decoded forward and handed out from their end."""
        height, width = self.size
        chunk = max(_SHORTEST_CHUNK, _CHUNK_BYTES // (height * width * 3))
        for first in range(0, len(run), chunk):
            part = list(run[first : first + chunk])
            held = dict(self._forward(part[::-1]))
            for index, after in zip(part, [*part[1:], None], strict=True):
                yield held[index].copy() if after == index else held.pop(index)

    def landmarks(self, provider: LandmarkProvider | None = None) -> LandmarkTrack:
        """Return the face track of the source, computed on the first call and kept.

        It comes from the landmark file or the clip folder when there is one; otherwise from `provider`, by default the
        one that `landmark_config` names, in tracking mode for videos (less jitter) and in static mode for images.

        Raises:
            NoFaceError: If no face is found.
            DataError: If the landmark file is damaged, or that of another video.
        """
        if self._landmarks is None:
            if self.landmark_file is not None:
                whole = self._unskipped()
                track = read_landmarks(
                    self.landmark_file, whole._total, self.size, self._max_gap, self.fps, whole.frames()
                )
                self._landmarks = track.slice(self._skipped, len(whole))
            elif self.clip is not None and self.clip.has("landmarks"):
                track = self.clip.track()
                self._landmarks = track.slice(self._skipped, len(track)) if self._skipped else track
            else:
                self._landmarks = self._find_landmarks(provider)
        return self._landmarks

    def _unskipped(self) -> Source:
        """The same from the first frame of the file on, up to where this one ends."""
        whole = copy.copy(self)
        whole._skipped, whole._total, whole._length = 0, self._total + self._skipped, len(self) + self._skipped
        return whole

    @property
    def _max_gap(self) -> int:
        """Gaps of up to a second are bridged here where the picture goes on; in training data, shorter ones."""
        return round(self.fps)

    def _find_landmarks(self, provider: LandmarkProvider | None) -> LandmarkTrack:
        wanted = self.landmark_config

        def make(mode: Literal["static", "tracking"]) -> LandmarkProvider:
            options = {"model_path": wanted.model_path, "place": self.place, "detect_side": wanted.detect_side}
            return make_provider(wanted.provider, mode, wanted.min_detection, **options)

        provider = provider or make("static" if self.is_image else "tracking")
        try:
            track = find_track(Again(self.frames), provider, lambda: make("static"), wanted.pick, self._max_gap)
        except NoFaceError as error:
            raise NoFaceError(f"{self.path}: {error}") from None
        report_rivals(track.rivals, wanted.pick, str(self.path))
        if track.layout == "mediapipe478":
            self._report_turn(track, provider if self.is_image else make("static"))
        return track

    def _report_turn(self, track: LandmarkTrack, detector: LandmarkProvider) -> None:
        """Say in one line that the face lies on its side or stands on its head, judged by one frame."""
        found = np.flatnonzero(track.found)
        index = int(found[len(found) // 2])
        degrees = turn_of(track, index, self.read([index])[0], detector)
        if abs(degrees) > MOST_TURNED:
            log.warning(
                "%s: the face is turned by about %d degrees, so the mouth will be drawn in a wrong place; turn the"
                " video upright first",
                self.path,
                abs(degrees),
            )


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
    """Cut an order into (first, last, descending) stretches that one pass can serve."""
    first, direction = 0, 0
    for position, (before, after) in enumerate(pairwise(indices), start=1):
        step = after - before
        turns = step and direction and (step > 0) != (direction > 0)
        if turns or abs(step) > _LONGEST_SKIP:
            yield first, position, direction < 0
            first, direction = position, 0
        elif step:
            direction = 1 if step > 0 else -1
    if len(indices):
        yield first, len(indices), direction < 0


def _split_at_gaps(ascending: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut rising indices where a seek is cheaper than decoding what lies between."""
    for first, last, _ in _runs(ascending):
        yield ascending[first:last]


def report_rivals(rivals: Rivals | None, pick: str, name: str) -> None:
    """Say in one line that there are two people, and who of them will speak."""
    if rivals is None or rivals.share < RIVALS_SHARE:
        return
    seen = f"{name}: two faces of like size in {rivals.share:.0%} of the frames"
    if pick == "tracked":
        log.warning(
            "%s; the one on the %s, the largest at first, is followed; for another person, crop the video or give"
            " --landmarks",
            seen,
            rivals.side,
        )
    else:
        log.warning("%s; --preprocess.landmarks.pick=tracked stays with one of them", seen)


def report_missing(valid: np.ndarray, order: np.ndarray, name: str, policy: str) -> None:
    """Name the shown source frames that have no face, in one warning.

    Raises:
        NoFaceError: there are any and the policy is `error`.
    """
    used = np.zeros(len(valid), bool)
    used[order] = True
    missing = np.flatnonzero(used & ~valid)
    if not len(missing):
        return
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    ranges = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[:10])
    ranges += f" and {len(runs) - 10} more ranges" if len(runs) > 10 else ""
    if policy == "error":
        raise NoFaceError(f"{name}: no face in frames {ranges}; --model.inference.no_face=pass leaves them as they are")
    log.warning("%s: no face in frames %s; they are passed through unchanged", name, ranges)
