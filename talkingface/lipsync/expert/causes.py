"""Why a lip-sync expert is stuck at chance: what the chance alarm looks at, from the data to the settings."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from talkingface.lipsync.expert.data import spread_starts
from talkingface.lipsync.expert.embedding import embed_clips, embed_mixed
from talkingface.lipsync.expert.objectives import expert_loss
from talkingface.lipsync.expert.scores import MAX_OFFSET, clip_figures, mean_figures
from talkingface.lipsync.mouth_motion import best_lag, opening
from talkingface.networks.sync_expert import FRAMES
from talkingface.training.optimizers import make_optimizer

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.config.sections import OptimConfig
    from talkingface.lipsync.expert.config import SyncAlarmConfig
    from talkingface.lipsync.expert.data import SyncWindows
    from talkingface.networks.sync_expert import SyncExpert
    from talkingface.plugin.contract import StepContext

STILL = 0.3  # grey levels between consecutive crops below which nothing moves
SILENCE_DB = 35.0  # below the clip's loudest sound
MOST_SILENT = 0.5  # share of the windows
NEAR = 3  # frames around the median lag
CLUSTERED = 0.6  # share of clips near it; 7 of 31 lags would be by accident
REACH = 5  # frames: a window with a larger shift shares no time with its sound
SAFE_RATE = 1e-3  # Adam
HIGH_RATE, LOW_RATE = 5e-3, 1e-6
KNOWN, GENERAL = 0.85, 0.55  # two-alternative accuracy that says: learnt by heart; true of other windows as well
LEARNT = 0.2  # mean loss of ten batches at which the fit ends
LEARNT_SQUARED = 0.05  # the same of squared distances
COLLAPSED = 0.98  # mean cosine between embeddings of different windows
FEW_WINDOWS = 16  # per batch


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        check: its name.
        text: what was measured.
        cause: what is wrong, empty where nothing is.
        remedy: what to do about it.
    """

    check: str
    text: str
    cause: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """For `alarm.json`."""
        return asdict(self)


class Fit(NamedTuple):
    """Two-alternative accuracy of a quick fit: on its own windows, and on other windows of the same clips."""

    known: float
    others: float


def find_causes(
    network: SyncExpert, options: SyncAlarmConfig, ctx: StepContext, train: SyncWindows, clips: Sequence[ClipFolder]
) -> list[Finding]:
    """Look at pictures, silence, offsets, a quick fit, embeddings, learning rate and batch; causes of data come first.

    Weights and random numbers of the training stay as they are.

    Args:
        network: the expert, in eval mode.
        options: of the alarm.
        ctx: where training stands.
        train: training data.
        clips: some of its clips.
    """
    optim = ctx.stage.optim["sync_expert"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fit = quick_fit(network, train, options, optim.model_copy(update={"name": "adam", "lr": SAFE_RATE}))
        stuck = quick_fit(network, train, options, optim) if optim.lr > 2 * SAFE_RATE else None
    lags = loudness_lags(train, clips)
    findings = [
        check_pictures(train, clips),
        check_silence(train, clips),
        check_offsets(lags),
        check_sound(fit, lags, options),
        check_rate(optim, fit, stuck),
        check_embeddings(network, train, clips),
        check_batch(ctx, train),
    ]
    return sorted(findings, key=lambda finding: not finding.cause)


def check_pictures(train: SyncWindows, clips: Sequence[ClipFolder]) -> Finding:
    """Whether the mouths move at all."""
    changes = [_change(train.whole(clip)[0]) for clip in clips]
    text = f"consecutive crops differ by {np.median(changes):.1f} grey levels"
    if np.median(changes) >= STILL:
        return Finding("pictures", text)
    return Finding(
        "pictures", text, "the crops stand still", "look at the face crops; preprocess again with preprocess.force=true"
    )


def _change(mouths: Iterable[np.ndarray]) -> float:
    """Mean difference between consecutive mouths (h, w, 3), in grey levels."""
    return float(np.mean([np.abs(later.astype(np.int16) - before).mean() for before, later in pairwise(mouths)]))


def check_silence(train: SyncWindows, clips: Sequence[ClipFolder]) -> Finding:
    """How many windows have no sound in them."""
    silent, windows = 0, 0
    for clip in clips:
        heard = train.heard(clip, SILENCE_DB)
        silent += int((~heard).sum())
        windows += len(heard)
    if not windows:
        return Finding("silence", "not known, the clips have no sound of their own")
    text = f"{silent / windows:.0%} of the windows are silent"
    if silent / windows <= MOST_SILENT:
        return Finding("silence", text)
    return Finding("silence", text, "most windows hold no sound", "check the sound tracks; drop clips without speech")


def loudness_lags(train: SyncWindows, clips: Sequence[ClipFolder]) -> np.ndarray:
    """Frames by which the mouths of clips come after the loudness of their sound, by landmarks, without the expert.

    Clips without landmarks, with face boxes alone, or whose mouth or loudness never changes, are left out.
    """
    lags = []
    for clip in clips:
        track = clip.track() if clip.has("landmarks") else None
        if track is None or not track.has_points:
            continue
        mouth = opening(track)
        loudness = train.loudness(clip, len(mouth))
        if len(loudness):
            lags.append(best_lag(loudness, mouth, MAX_OFFSET)[0])
    return np.array([lag for lag in lags if np.isfinite(lag)])


def near_median(lags: np.ndarray) -> float:
    """Share of the lags within a few frames of their median; NaN without lags."""
    return float((np.abs(lags - np.median(lags)) <= NEAR).mean()) if len(lags) else float("nan")


def check_offsets(lags: np.ndarray) -> Finding:
    """Whether mouths keep time with the loudness of their sound, and by how much they miss it."""
    if not len(lags):
        return Finding("offsets", "not known, the clips have no landmarks of the mouth, or no sound")
    edges = np.arange(-MAX_OFFSET, MAX_OFFSET + 1, 6)
    counts = np.histogram(lags, [*edges, MAX_OFFSET + 1])[0]
    spans = [f"{low:+d}..{min(low + 5, MAX_OFFSET):+d}" for low in edges]
    bars = ", ".join(f"{span}: {count}" for span, count in zip(spans, counts, strict=True) if count)
    near, middle = near_median(lags), int(np.median(lags))
    text = f"mouths follow the loudness by (frames: clips) {bars}; {near:.0%} within {NEAR} of the median {middle:+d}"
    if near >= CLUSTERED and abs(middle) > REACH:
        return Finding(
            "offsets",
            text,
            f"sound and pictures are {abs(middle)} frames apart, more than a window of {FRAMES} frames can bridge",
            "measure and repair the offset with preprocess.filters.sync",
        )
    return Finding("offsets", text)


def check_sound(fit: Fit, lags: np.ndarray, options: SyncAlarmConfig) -> Finding:
    """Whether a fresh expert can tell fixed windows apart at all, and whether by a rule that holds for others."""
    text = (
        f"a fresh expert learns {options.fit_windows} windows by heart to {fit.known:.2f} in at most"
        f" {options.fit_steps} steps at a learning rate of {SAFE_RATE:g}, and decides on other windows of these clips"
        f" with {fit.others:.2f}"
    )
    if fit.known < KNOWN:
        cause = "not even fixed windows can be told apart: pictures or sounds are alike, or the network is too narrow"
        return Finding("quick fit", text, cause, "look at the crops and listen to the clips; raise model.expert.width")
    keeps_time = near_median(lags) >= CLUSTERED  # False where it is not known
    if fit.others >= GENERAL or keeps_time:
        return Finding("quick fit", text)
    cause = "the sound does not belong to the pictures (windows can be learnt by heart, but no rule carries over)"
    return Finding("quick fit", text, cause, "check that every clip's sound track is its own")


def check_averages(ctx: StepContext, train: float, held_out: float) -> list[Finding]:
    """What to say of an expert that decides at chance, but not with batch statistics.

    Args:
        ctx: where training stands.
        train: two-alternative accuracy with batch statistics on training clips.
        held_out: the same on held-out clips.
    """
    stale = Finding(
        "batch norm",
        f"two-alternative accuracy with the statistics of the batch {train:.2f} (train) and {held_out:.2f} (held out)",
        "the running averages of batch norm do not fit the weights, the expert works in training mode only",
        "let the learning rate decay, or lower it",
    )
    return [stale, check_rate(ctx.stage.optim["sync_expert"])]


def check_rate(optim: OptimConfig, fit: Fit | None = None, stuck: Fit | None = None) -> Finding:
    """Whether the learning rate is to blame.

    Args:
        optim: the stage's optimiser.
        fit: a quick fit with a safe learning rate.
        stuck: the same with the stage's optimiser.
    """
    text = f"{optim.lr:g} ({optim.name}); usual are 1e-4 to {SAFE_RATE:g}"
    worse = False
    if fit is not None and stuck is not None:
        text += f"; the quick fit gets to {stuck.known:.2f} with it instead of {fit.known:.2f}"
        worse = fit.known >= KNOWN > stuck.known
    if optim.lr < LOW_RATE:
        return Finding("learning rate", text, f"the learning rate {optim.lr:g} is too low", "try 1e-4")
    if optim.lr < HIGH_RATE and not worse:
        return Finding("learning rate", text)
    return Finding("learning rate", text, f"the learning rate {optim.lr:g} is too high", "try 1e-4, with warm-up 1e-3")


def check_embeddings(network: SyncExpert, train: SyncWindows, clips: Sequence[ClipFolder]) -> Finding:
    """Whether all mouths, or all sounds, get the same embedding."""
    names = ("mouths", "sounds")
    count, sums, squares = 0, dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for clip in embed_clips(network, train, clips):
        count += len(clip.starts)
        for name in names:
            vectors = getattr(clip, name)
            vectors = vectors if network.cosine else unit_vectors(vectors)
            sums[name] = sums[name] + vectors.sum(axis=0)
            squares[name] += float(np.square(vectors).sum())
    likeness, dead = {}, []
    for name, own in squares.items():
        likeness[name] = (float(np.square(sums[name]).sum()) - own) / (count * (count - 1))
        dead += [name] if own / count < 0.5 else []
    text = ", ".join(f"mean cosine between different {name} {value:.3f}" for name, value in likeness.items())
    same = [name for name, value in likeness.items() if value > COLLAPSED]
    if not same and not dead:
        return Finding("embeddings", text)
    what = f"{' and '.join(same or dead)} all get {'the same' if same else 'a zero'} embedding: the tower collapsed"
    return Finding("embeddings", text, what, "start again with a lower learning rate and some warm-up")


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Features (n, ...) of any length as vectors (n, D) of length 1; zeros stay zeros."""
    flat = features.reshape(len(features), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def check_batch(ctx: StepContext, train: SyncWindows) -> Finding:
    """Whether a batch holds enough windows."""
    each = 1 if train.options.objective == "published" else train.options.windows
    count = ctx.stage.batch_size * each
    text = f"{ctx.stage.batch_size} clips with {each} windows each"
    if count >= FEW_WINDOWS:
        return Finding("batch", text)
    cause = f"{count} windows in a batch are few for batch norm and for a loss that compares them"
    return Finding("batch", text, cause, f"raise stages.{ctx.stage.name}.batch_size; published: 64")


def quick_fit(network: SyncExpert, train: SyncWindows, options: SyncAlarmConfig, optim: OptimConfig) -> Fit:
    """Let a fresh copy of the network learn fixed windows by heart; the copy is thrown away."""
    rng = np.random.default_rng(0)
    each = train.options.windows
    clips = [train.clips[n] for n in rng.permutation(len(train.clips))[: max(1, options.fit_windows // each)]]
    own = [spread_starts(train.source(clip).starts, each, FRAMES, rng) for clip in clips]
    items = [train.windows(clip, starts) for clip, starts in zip(clips, own, strict=True)]
    fresh = _reset(copy.deepcopy(network)).train()
    _learn(fresh, items, options.fit_steps, max(1, 64 // each), optim, rng)
    figures = []
    for clip, starts in zip(embed_mixed(fresh, train, clips, rng), own, strict=True):
        known = np.isin(clip.starts, starts)
        far = np.abs(clip.starts[:, None] - starts).min(axis=1) > FRAMES // 2
        parts = {"known": known, "others": far if far.sum() > 1 else ~known}
        figures.append({name: clip_figures(clip.some(part))["two_alternative"] for name, part in parts.items()})
    return Fit(**mean_figures(figures))


def _learn(
    network: nn.Module,
    items: Sequence[dict[str, Any]],
    steps: int,
    batch: int,
    optim: OptimConfig,
    rng: np.random.Generator,
) -> None:
    """Minimise the in-clip loss on drawn batches of the items, until it is learnt or `steps` are over."""
    device = next(network.parameters()).device
    # The one step beside the trainer's. That one belongs to a stage: it moves the networks that Fabric has wrapped, all
    # processes in step, and its loop saves and logs. This one runs in the first process alone, while the others wait
    # in the middle of a validation; a collective of theirs would hang, and the stage must not notice.
    optimizer = make_optimizer(network, optim)
    names = ("faces", network.hears)
    losses: list[float] = []
    learnt = LEARNT if network.cosine else LEARNT_SQUARED
    with torch.enable_grad(), _uncached_autocast(device.type):
        while len(losses) < steps and not np.mean([math.inf, *losses][-10:]) < learnt:
            drawn = rng.choice(len(items), min(batch, len(items)), replace=False)
            stacked = {name: np.stack([items[number][name] for number in drawn]) for name in names}
            loss = expert_loss(network, {name: torch.from_numpy(v).to(device) for name, v in stacked.items()})
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))


def _uncached_autocast(device: str) -> torch.autocast:
    """The precision around, without its cache of rounded weights: that one would not see the optimiser's steps."""
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype, enabled, cache_enabled=False)


def _reset(network: nn.Module) -> nn.Module:
    """The same network with new weights."""
    resets: list[Callable[[], None]] = [m.reset_parameters for m in network.modules() if hasattr(m, "reset_parameters")]
    for reset in resets:
        reset()
    return network.requires_grad_(True)
