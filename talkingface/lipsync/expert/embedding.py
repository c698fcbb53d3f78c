"""Running a lip-sync expert: its input from stored crops, embeddings of whole clips, batch statistics."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from talkingface.lipsync.expert.data import sync_mel_windows, sync_row_windows
from talkingface.networks.blocks import full_precision
from talkingface.networks.precision import full_float32
from talkingface.networks.sync_expert import FRAMES
from talkingface.plugin.contract import Batch

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.lipsync.expert.data import SyncWindows

BATCH = 64  # windows per pass


Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Features of n mouths and m sounds -> (n, m) scores in [0, 1]."""


def cosines(mouths: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """The `Score` of unit vectors."""
    return mouths @ sounds.T


class ClipEmbeddings(NamedTuple):
    """All windows of a clip: first frames (n,), features (n, ...) of mouths and sounds, and what compares them."""

    starts: np.ndarray
    mouths: np.ndarray
    sounds: np.ndarray
    score: Score = cosines

    @property
    def scores(self) -> np.ndarray:
        """(n, n) of mouths (rows) and sounds (columns)."""
        return self.score(self.mouths, self.sounds)

    def some(self, chosen: np.ndarray) -> ClipEmbeddings:
        """The windows that an index or a mask (n,) chooses."""
        return ClipEmbeddings(self.starts[chosen], self.mouths[chosen], self.sounds[chosen], self.score)


def score_of(network: nn.Module) -> Score:
    """How an expert, in eval mode, compares what `embed_clip` keeps of it."""
    if network.cosine:
        return cosines

    @torch.no_grad()
    def score(mouths: np.ndarray, sounds: np.ndarray) -> np.ndarray:
        device = next(network.parameters()).device
        with full_float32():
            compared = network.scores(*(torch.from_numpy(each).to(device) for each in (mouths, sounds)))
        return compared.float().cpu().numpy()

    return score


def expert_input(faces: Tensor, bgr: bool = True) -> Tensor:
    """Mouths (..., 5, H, W, 3) uint8 RGB -> (N, 15, H, W) float in [0, 1], frame after frame on the channels.

    For crops as the data hold them; `SyncExpert.window` does the same for whole generated faces.

    Args:
        faces: the mouths.
        bgr: turn the colours round.
    """
    windows = faces.flatten(0, -5)
    windows = windows.flip(-1) if bgr else windows
    return windows.permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 255


def pair_scores(network: nn.Module, batch: Batch) -> Tensor:
    """(B, K, K) scores of mouths (rows) and sounds (columns) of the windows of each clip, in float32.

    Cosines, of an expert that is one; else not bounded, see `MouthSyncExpert`.
    """
    clips = len(batch[network.hears])
    if not network.cosine:
        return compared(network, batch)[0]
    sounds, mouths = network(batch["mel"].flatten(0, 1), expert_input(batch["faces"]))
    with full_precision(sounds):
        return mouths.float().unflatten(0, (clips, -1)) @ sounds.float().unflatten(0, (clips, -1)).mT


def compared(network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """`pair_scores` of an expert that is no cosine, and the cosines of the same pairs' features, (B, K, K) float32."""
    mouths = expert_input(batch["faces"], network.bgr).unflatten(0, (len(batch[network.hears]), -1))
    return network(mouths, batch[network.hears].float())


@torch.no_grad()
def embed_clip(
    network: nn.Module,
    faces: Iterable[np.ndarray],
    sound: np.ndarray,
    starts: np.ndarray,
    fps: float = 25.0,
    batch: int = BATCH,
) -> ClipEmbeddings:
    """Embed the windows of a clip, each once, while its frames arrive: no more than a batch of them is held.

    Args:
        network: in eval mode.
        faces: F mouths, uint8 RGB: lower halves of the crops, (S/2, S, 3) each, or (S, S, 3); read once.
        sound: mel (80, L), or rows of a front end, one per frame, (F, width).
        starts: (n,) first frames of the windows, rising; windows that reach beyond the last frame are left out.
        fps: frame rate.
        batch: windows per pass; no effect on the result.
    """
    mouths, sounds = [np.empty((0, 0), np.float32)], [np.empty((0, 0), np.float32)]
    done = 0
    for windows in _face_windows(faces, starts, batch):
        some = starts[done : done + len(windows)]
        done += len(windows)
        with full_float32():
            embedded = _embed(network, windows, sound_windows(network, sound, some, fps))
        for into, values in zip((mouths, sounds), embedded, strict=True):
            into.append(values)
    return ClipEmbeddings(
        starts=starts[:done],
        mouths=np.concatenate(mouths[1:] or mouths),
        sounds=np.concatenate(sounds[1:] or sounds),
        score=score_of(network),
    )


def _face_windows(faces: Iterable[np.ndarray], starts: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """(n, 5, S/2, S, 3) windows that begin at the rising `starts`, at most `batch` at once; see `embed_clip`."""
    last: deque[np.ndarray] = deque(maxlen=FRAMES)
    held: list[np.ndarray] = []
    found = 0
    for index, face in enumerate(faces):
        last.append(face)
        if found < len(starts) and starts[found] == index - FRAMES + 1:
            held.append(np.stack(last))
            found += 1
        if len(held) == batch:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


def embed_clips(network: nn.Module, dataset: SyncWindows, clips: Sequence[ClipFolder]) -> Iterator[ClipEmbeddings]:
    """Embed all windows of some clips of a data set that can be read, the network being in eval mode.

    One clip after the other, when it is asked for: features of all of them need not be held.
    """
    return dataset.each_readable(lambda clip: embed_clip(network, *dataset.whole(clip)), clips)


@torch.no_grad()
def embed_mixed(
    network: nn.Module, dataset: SyncWindows, clips: Sequence[ClipFolder], rng: np.random.Generator, batch: int = BATCH
) -> list[ClipEmbeddings]:
    """The same with batch statistics, in batches mixed from all the clips as in training."""
    starts = [dataset.source(clip).starts for clip in clips]
    order = rng.permutation([(number, start) for number, some in enumerate(starts) for start in some])
    mouths, sounds = [], []
    with batch_statistics(network):
        for part in np.array_split(order, max(1, len(order) // batch)):
            windows = [dataset.windows(clips[number], [start]) for number, start in part]
            faces, sound = (np.concatenate([each[name] for each in windows]) for name in ("faces", network.hears))
            for into, values in zip((mouths, sounds), _embed(network, faces, sound), strict=True):
                into.append(values)
    back = np.lexsort((order[:, 1], order[:, 0]))
    ends = np.cumsum([len(some) for some in starts])[:-1]
    each_mouth, each_sound = (np.split(np.concatenate(part)[back], ends) for part in (mouths, sounds))
    score = score_of(network)
    return [ClipEmbeddings(*parts, score) for parts in zip(starts, each_mouth, each_sound, strict=True)]


def sound_windows(network: nn.Module, sound: np.ndarray, starts: np.ndarray, fps: float) -> np.ndarray:
    """What an expert hears at windows beginning at frames (n,): (n, 1, 80, 16) of a mel, (n, width, 9) of rows."""
    if network.hears == "mel":
        return sync_mel_windows(sound, starts, fps)
    return sync_row_windows(sound, starts)


def _embed(network: nn.Module, faces: np.ndarray, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mouths and sounds of windows (n, 5, H, W, 3) and (n, ...)."""
    device = next(network.parameters()).device
    mouths = network.embed_faces(expert_input(torch.from_numpy(faces).to(device), network.bgr))
    sounds = network.embed_audio(torch.from_numpy(sound).to(device))
    return mouths.float().cpu().numpy(), sounds.float().cpu().numpy()


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Within: batch norm normalises by the batch, as in training, and leaves its running averages alone.

    Published code never puts the frozen expert into eval mode; this reproduces that without its drifting averages.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, (training, tracking) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, tracking
