"""The data set that draws training samples from prepared clips: `ClipDataset` owns sampling, `ClipFolder` the files."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import zlib
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from talkingface.clips.face_store import FaceStore
from talkingface.clips.folder import ClipFolder
from talkingface.clips.held_out import warn_once
from talkingface.clips.shared_crops import SharedCrops
from talkingface.config.sections import Section
from talkingface.errors import DataError

log = logging.getLogger("talkingface")

MANY_CLIPS = 500  # from here on clips are looked at in threads, with a progress bar
READERS = 8
UNREADABLE_CLIPS = 10  # the first so many of those asked for: then it is not the clips, but the disk
T = TypeVar("T")


class DatasetOptions(Section):
    """Typed `data:` of a stage; a data set with further options derives its own class from this one.

    Attributes:
        repeats: training items per clip and epoch.
        val_windows: fixed windows per clip in validation.
        draw: `random` draws the clip of each training item uniformly, `order` takes every clip `repeats` times.
        cache_mb: memory for arrays of clips seen lately, of all loader workers together.
    """

    repeats: int = Field(1, gt=0)
    val_windows: int = Field(1, gt=0)
    draw: Literal["random", "order"] = "random"
    cache_mb: int = Field(1024, ge=0)


class OnHost:
    """An entry of a batch that is not moved to the device of the networks; `value` is a tensor on the CPU."""

    def __init__(self, value: Any) -> None:
        self.value = value


class ClipDataset(ABC):
    """Base of every data set: keeps the usable clips, and makes item `key` from a generator of its own.

    A subclass writes `sample` (and `usable` when length alone does not decide), and sets `Options`. Items are dicts of
    numpy arrays or tensors; `collate` stacks them. It is a map-style data set for `torch.utils.data.DataLoader`.

    Args:
        clips: clips that are prepared; unusable ones are dropped here, with the reason in `rejected`.
        split: `train`, `val` or `test`; only `train` draws new windows every epoch.
        options: `data:` of the stage, a mapping or an instance of `Options`.
        model_config: the model's configuration.
        seed: of the run.

    Attributes:
        clips: the usable clips.
        rejected: (clip_id, reason) of the others.

    Raises:
        DataError: no clip is usable.
    """

    Options: ClassVar[type[DatasetOptions]] = DatasetOptions
    on_host: ClassVar[tuple[str, ...]] = ()
    """Names in the items that stay on the CPU, as `OnHost`: what decides shapes should be asked of no device."""

    def __init__(
        self,
        clips: Sequence[ClipFolder],
        split: str,
        options: DatasetOptions | Mapping[str, Any] | None = None,
        model_config: Any = None,
        seed: int = 0,
    ):
        self.options = options if isinstance(options, DatasetOptions) else self.Options(**(options or {}))
        self.split = split
        self.model_config = model_config
        self.seed = seed
        self.rejected: list[tuple[str, str]] = []
        self.clips: list[ClipFolder] = []
        self._cache: OrderedDict[tuple[str, str], tuple[Any, int]] = OrderedDict()
        self._cached_bytes = 0
        self._processes = 1
        self._shared: SharedCrops | None = None
        for clip, reason in zip(clips, self._reasons(clips), strict=True):
            if reason:
                self.rejected.append((clip.clip_id, reason))
            else:
                self.clips.append(clip)
        self._report(len(clips))

    @property
    def training(self) -> bool:
        """Whether windows differ from epoch to epoch."""
        return self.split == "train"

    @property
    def min_frames(self) -> int:
        """Frames a clip must have."""
        return 1

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot be used, or None. Asked once per clip, at construction; with many clips from threads."""
        if len(clip) < self.min_frames:
            return f"shorter than {self.min_frames} frames"
        return None

    @abstractmethod
    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, Any]:
        """One item from a clip; every random choice comes from `rng`."""

    def __len__(self) -> int:
        return len(self.clips) * (self.options.repeats if self.training else self.options.val_windows)

    def __getitem__(self, key: int) -> dict[str, Any]:
        """Item `key`: `epoch * len(self) + index` in training, `index` otherwise (the epoch is then ignored).

        Where a clip cannot be read after all, the next one serves (`of_readable`): the same for the same key.
        """
        clip, rng = self.draw(int(key))
        try:
            return self.sample(clip, rng)
        except DataError:
            return self.of_readable(lambda other: self.sample(other, self.draw(int(key))[1]), clip)

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The batch of some items."""
        from torch.utils.data import default_collate

        batch = default_collate(list(items))
        return {**batch, **{name: OnHost(batch[name]) for name in self.on_host}}

    def of_readable(self, make: Callable[[ClipFolder], T], first: ClipFolder | None = None) -> T:
        """`make` of the clip `first`, or of the next one that can be read, with a warning.

        That a file is damaged inside shows only when that place is read, which may be after days of training: no
        reason to end it.

        Raises:
            DataError: one clip after the other cannot be read.
        """
        start = 0 if first is None else self.clips.index(first)
        return next(self.each_readable(make, (*self.clips[start:], *self.clips[:start])))

    def each_readable(self, make: Callable[[ClipFolder], T], clips: Sequence[ClipFolder]) -> Iterator[T]:
        """`make` of every clip that can be read; a warning names the others.

        Raises:
            DataError: so many in a row cannot be read that it is the disk rather than the clips, or none can.
        """
        failed = 0
        for number, clip in enumerate(clips, start=1):
            try:
                value = make(clip)
            except DataError as error:
                failed += 1
                if failed == number and number in (len(clips), UNREADABLE_CLIPS):
                    raise
                warn_once(f"{type(self).__name__} ({self.split}): {clip.clip_id} is passed over: {error}")
            else:
                yield value

    def some_clips(self, count: int) -> list[ClipFolder]:
        """At most `count` of the clips, evenly spread over the list."""
        return [self.clips[k] for k in np.unique(np.linspace(0, len(self.clips) - 1, count).round().astype(int))]

    def draw(self, key: int) -> tuple[ClipFolder, np.random.Generator]:
        """Clip and random generator of item `key`: the same for the same seed, split and key in every process."""
        epoch, index = divmod(key, len(self))
        rng = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), epoch if self.training else 0, index])
        random = self.training and self.options.draw == "random"
        return self.clips[int(rng.integers(len(self.clips))) if random else index % len(self.clips)], rng

    def cached(self, clip: ClipFolder, name: str, make: Callable[[], T]) -> T:
        """`make()`, kept for the next items of the same clip; beyond `options.cache_mb` the least recently used go.

        Of that memory a loader worker has its share.
        """
        key = (clip.clip_id, name)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key][0]
        value = make()
        size, limit = _nbytes(value), self._own_bytes
        if size <= limit:
            self._cache[key] = (value, size)
            self._cached_bytes += size
        while self._cached_bytes > limit:
            self._cached_bytes -= self._cache.popitem(last=False)[1][1]
        return value

    def share(self, processes: int) -> None:
        """Be read by so many loader processes that are forked from this one: `cache_mb` counts for all of them.

        The crops of all clips are then held once, where they fit; all else is divided.
        """
        self._processes, self._shared = max(1, processes), None
        crop = getattr(self.model_config, "crop", None)
        if processes < 2 or not hasattr(crop, "size") or multiprocessing.get_start_method() != "fork":
            return
        if self._frames_fit(crop.size):
            self._shared = SharedCrops(self.clips, crop.artefact, crop.size)

    def __getstate__(self) -> dict[str, Any]:
        """A process that is not forked does not see the shared memory."""
        return {**self.__dict__, "_shared": None}

    @property
    def _own_bytes(self) -> int:
        """Memory of this process for what it keeps."""
        shared = self._shared.nbytes if self._shared is not None else 0
        return (self.options.cache_mb * 2**20 - shared) // self._processes

    def crops(self, clip: ClipFolder, faces: FaceStore, frames: np.ndarray) -> np.ndarray:
        """Face crops (..., S, S, 3) uint8 RGB of the frames (...) of a clip; all of them have a face.

        Where the crops of all clips fit into `cache_mb` each is decoded once; else every item decodes what it shows.
        """
        if self._keeps_crops(faces.size) and faces.valid[frames].all():
            return self.whole_crops(clip, faces)[frames]
        needed, place = np.unique(frames, return_inverse=True)
        return faces.read(needed)[place.reshape(frames.shape)]

    def each_crop(self, clip: ClipFolder, faces: FaceStore) -> Iterable[np.ndarray]:
        """Face crops (S, S, 3) uint8 RGB of all frames of a clip, black where there is no face; not to be written to.

        Where the crops of all clips do not fit into `cache_mb`, no more than one is held.
        """
        return self.whole_crops(clip, faces) if self._keeps_crops(faces.size) else faces.each()

    def whole_crops(self, clip: ClipFolder, faces: FaceStore) -> np.ndarray:
        """Face crops (F, S, S, 3) uint8 RGB of a whole clip, black where there is no face; not to be written to.

        They are kept: for whoever has seen that those of all clips fit.
        """
        if self._shared is not None and self._shared.holds(clip.clip_id, faces.key, faces.size, len(faces)):
            return self._shared.whole(clip.clip_id, faces.whole)
        return self.cached(clip, f"crops {faces.key}", faces.whole)

    def _keeps_crops(self, size: int) -> bool:
        """Whether crops of all clips are kept: once for all processes, else by each in its share of the memory."""
        return self._frames_fit(size, 1 if self._shared is not None else self._processes)

    def keeps(self, pixels: int) -> bool:
        """Whether pictures of so many pixels, one per frame, are kept by each process: those of all clips fit."""
        return self._frames_fit(math.ceil(math.sqrt(pixels)), self._processes)

    def _frames_fit(self, size: int, times: int = 1) -> bool:
        """Whether crops of `size` pixels of all clips fit into `cache_mb`, with room for what belongs to them."""
        return times * self._frames * 3 * size**2 <= 0.9 * self.options.cache_mb * 2**20

    @cached_property
    def _frames(self) -> int:
        return sum(map(len, self.clips))

    def _reasons(self, clips: Sequence[ClipFolder]) -> Iterator[str | None]:
        """Why each of the clips cannot be used, or None, in order."""
        return iter(self.each(self._reason, clips))

    def each(self, function: Callable[[ClipFolder], T], clips: Sequence[ClipFolder]) -> Iterator[T]:
        """`function` of every clip, in order; of many clips in threads, with a progress bar."""
        if len(clips) < MANY_CLIPS:
            yield from map(function, clips)
            return
        from tqdm import tqdm

        # Opening tens of thousands of small files is waiting for the disk, above all on network storage.
        with ThreadPoolExecutor(READERS) as readers:
            name = f"{type(self).__name__} ({self.split})"
            yield from tqdm(
                readers.map(function, clips), desc=name, total=len(clips), unit="clip", disable=None, leave=False
            )

    def _reason(self, clip: ClipFolder) -> str | None:
        """`usable`; files that cannot be read are a reason like any other, named below the clip's folder."""
        try:
            return self.usable(clip)
        except DataError as error:
            return str(error).replace(f"{clip.path}{os.sep}", "")

    def _report(self, given: int) -> None:
        if not self.rejected and self.clips:
            return
        counts = Counter(reason for _, reason in self.rejected).most_common()
        first = {reason: clip_id for clip_id, reason in reversed(self.rejected)}
        shown = (f"{count} x {reason} ({first[reason]}{', ...' if count > 1 else ''})" for reason, count in counts[:5])
        reasons = "; ".join(shown) or "the list is empty"
        name = f"{type(self).__name__} ({self.split})"
        if not self.clips:
            raise DataError(f"{name}: none of {given} clips can be used: {reasons}")
        log.warning("%s: %d of %d clips left out: %s", name, len(self.rejected), given, reasons)


def _nbytes(value: Any) -> int:
    """Approximate memory of an array, or of the arrays in a container or object."""
    if isinstance(value, Mapping):
        return sum(map(_nbytes, value.values()))
    # Before arrays: the header of one is a tuple that knows its size, but holds none of it.
    if isinstance(value, (list, tuple)):
        return sum(map(_nbytes, value))
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    return sum(map(_nbytes, vars(value).values())) if hasattr(value, "__dict__") else 64
