"""The sync expert of DINet and LawDNet in their training: where it comes from, and whether it is worth being asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.errors import CheckpointError, NothingLearnt
from talkingface.lipsync.dubbing.windows import MouthWindows
from talkingface.lipsync.expert.alarm import Standing, measure
from talkingface.lipsync.expert.embedding import embed_clips
from talkingface.lipsync.expert.scores import Sweep
from talkingface.networks import deepspeech2, hubert_ds  # noqa: F401, front ends that register themselves
from talkingface.networks.deepspeech import front_ends  # noqa: F401, the same
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert
from talkingface.plugin.contract import Official
from talkingface.plugin.official import official_state
from talkingface.sound.front_ends import front_end_kind
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent, load_state

if TYPE_CHECKING:
    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder
    from talkingface.lipsync.dubbing.config import DubbingAudioConfig, DubbingDataConfig
    from talkingface.lipsync.dubbing.settings import MouthExpertConfig, TrainedDubbingConfig
    from talkingface.plugin.contract import StepContext

log = logging.getLogger("talkingface")

NETWORK = "sync_expert"
_FORM = {"expert.norm": "none", "expert.side": 256}
_CROPS, _HEARS = "upright", "deepspeech_onnx"

_OF_NO_ACCOUNT = ("width", "smooth", "blocks")  # settings of crops, for an expert

PUBLISHED = Official(
    "syncnet_256mouth.pth",
    NETWORK,
    key=("state_dict", "net"),
    # Keys of its own: the generator beside it may have other crops, as LawDNet's has, and hear something else.
    settings={**_FORM, "expert.crop.kind": _CROPS, "expert.crop.smooth": 0.0, "audio.sync_features": _HEARS},
    asks_of_others=("audio.sync_features",),
)
"""DINet's expert, as its authors published it: it learnt on upright crops, and hears DeepSpeech 0.1."""

PUBLISHED_ALONE = replace(
    PUBLISHED,
    settings={**_FORM, "crop.kind": _CROPS, "crop.smooth": 0.0, "audio.generator_features": _HEARS},
    asks_of_others=("audio.generator_features",),
)
"""The same for a model that is nothing but the expert."""


def how_to_train(config: DubbingDataConfig) -> str:
    """What to type for an expert that serves a model of these settings."""
    crop, audio = config.crop, config.audio.sync.name
    return (
        f"train one with `python run_talkingface.py --model=SyncNetDINet --dataset=NAME --model.crop.kind={crop.kind}"
        f" --model.crop.width={crop.width} --model.audio.generator_features={audio}` and name its run with"
        " --experts.sync_expert=RUN"
    )


def build_mouth_expert(config: MouthExpertConfig, audio: DubbingAudioConfig) -> MouthSyncExpert:
    """The expert for what `audio` says that it hears."""
    return MouthSyncExpert(
        config.width, front_end_kind(audio.sync.name).width, norm=config.norm, agreement=config.agreement
    )


def load_mouth_expert(network: MouthSyncExpert, path: Path, config: TrainedDubbingConfig) -> None:
    """Fill an expert from a run, a checkpoint of ours, or the published file.

    Args:
        network: the expert.
        path: of the file or run.
        config: of the model that will ask it.

    Raises:
        CheckpointError: it has another form, was never trained, or learnt from other crops or features.
    """
    file = checkpoint.find_checkpoint(path)
    data = checkpoint.read(file)
    content = CheckpointContent.recognise(data)
    if content is None:
        load_state(network, official_state(PUBLISHED, data, file), f"{file}: {NETWORK}")
        return
    if NETWORK not in content.ready:
        raise CheckpointError(f"{file}: holds no trained {NETWORK}; {how_to_train(config)}")
    if reason := learnt_otherwise(content.config.get("model"), config):
        raise CheckpointError(f"{file}: {reason}; {how_to_train(config)}")
    load_state(network, content.networks[NETWORK], f"{file}: {NETWORK}")


def learnt_otherwise(recorded: Any, config: DubbingDataConfig) -> str | None:
    """Why an expert does not serve a model, by the settings that are recorded with it, or None.

    Args:
        recorded: plain `model:` of the checkpoint.
        config: of the model.
    """
    recorded = recorded if isinstance(recorded, dict) else {}
    expert, audio = recorded.get("expert"), recorded.get("audio")
    crop = (expert.get("crop") if isinstance(expert, dict) else None) or recorded.get("crop")
    if isinstance(crop, dict):
        # The width is that of the stored crops; mouths are resized for the expert. How steady boxes are from frame to
        # frame does not change what a mouth looks like.
        own = {name: value for name, value in config.crop.model_dump().items() if name not in _OF_NO_ACCOUNT}
        other = [name for name, value in own.items() if name in crop and crop[name] != value]
        if other:
            theirs, ours = (", ".join(f"{name} {values[name]}" for name in other) for values in (crop, own))
            return f"this expert learnt on crops with {theirs}, the model's have {ours}"
    if isinstance(audio, dict):
        theirs = audio.get("sync_features") or audio.get("generator_features") or {}
        heard, hears = (str(each.get("name", "")) for each in (theirs, config.audio.sync.model_dump()))
        if heard and heard != hears:
            return f"this expert hears {heard}, model.audio gives it {hears}"
    return None


def standing_on(
    network: MouthSyncExpert, clips: Sequence[ClipFolder], config: DubbingDataConfig, side: int, most: int
) -> Standing:
    """What an expert is worth on real clips.

    Args:
        network: in eval mode, where it computes.
        clips: prepared clips.
        config: how they were cut, and what is heard.
        side: of the mouths that it sees.
        most: clips that are looked at, evenly spread over the list.

    Raises:
        DataError: no clip can be used.
    """
    # Every crop is looked at once: nothing is kept.
    windows = MouthWindows(clips, "val", {"mouth": side, "windows": 2, "augment": None, "cache_mb": 0}, config)
    return measure(embed_clips(network, windows, windows.some_clips(most)))


def refuse_poor_expert(
    network: MouthSyncExpert, data: ClipDataset, config: TrainedDubbingConfig, ctx: StepContext
) -> None:
    """Measure an expert on real clips before something is trained against it, and say what it is worth.

    Args:
        network: in eval mode, where it computes.
        data: whose clips are looked at, best held-out ones.
        config: of the model.
        ctx: of the stage that is to begin.

    Raises:
        NothingLearnt: its two-alternative accuracy is below `expert.least`.
    """
    found = standing_on(network, data.clips, config, config.expert.side, config.expert.sweep_clips)
    right, positive = found.figures["two_alternative"], found.figures["positive"]
    sweep = Sweep.mean(found.sweeps)
    text = (
        f"stage {ctx.stage.name}: on {len(found.sweeps)} real clips the sync expert tells the true sound from another"
        f" in {right:.0%} of cases, gives true pairs {positive:.2f}, and its curve over offsets peaks at"
        f" {sweep.peak:+d} frames ({sweep.prominence:.2f} above its median)"
    )
    log.info("%s", text)
    if config.expert.least is not None and not right >= config.expert.least:
        raise NothingLearnt(
            f"{text}; {config.expert.least:.0%} are needed: {how_to_train(config)}, or set model.expert.least=null"
        )
