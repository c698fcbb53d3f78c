"""Data sets whose clips a converter makes: the run calls it, and what cannot be made otherwise decides the settings.

Such clips have no videos. What they hear is what the converter found, so the front end follows them; stages that none
of them can serve are left out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import Layout, make_layout
from talkingface.config.layers import to_plain
from talkingface.errors import DataError
from talkingface.plugin.hearing import MADE_BY
from talkingface.plugin.registry import get_spec
from talkingface.preprocess.convert import convert_legacy, is_converted_whole, noted_prefix
from talkingface.preprocess.outcome import OK
from talkingface.preprocess.prepare import ensure
from talkingface.sound.choice import ARTEFACT, recorded_choice
from talkingface.sound.front_ends import ELSEWHERE

if TYPE_CHECKING:
    from talkingface.config.sections import Config, StageConfig
    from talkingface.plugin.configuration import LoadedConfig
    from talkingface.plugin.contract import TalkingFaceModel

log = logging.getLogger("talkingface")
LOOKED_AT = 20
"""Clips, the first of which usually serve a stage, if any does."""

_ORIGIN = "the clips, which have no videos"


def with_converted(loaded: LoadedConfig) -> LoadedConfig:
    """Make what is missing of the clips, where a converter makes them; the configuration then follows them.

    A configuration of another data set comes back as it is. What the user asks for himself stays.

    Raises:
        DataError: there are neither clips nor old data, or no clip can be used.
        OutputError: clips cannot be written.
    """
    layout = make_layout(loaded.config)
    if not layout.converter:
        return loaded
    if loaded.config.need_preprocess:
        _convert(loaded.config, layout)
    loaded = _hearing_them(loaded, _converted_clips(loaded.config, layout))
    if loaded.config.need_preprocess:
        # What follows from their sound and landmarks: only then is known which stages they serve.
        ensure(loaded.config, get_spec(loaded.config.model_name).model)
    # Another layout: this one has looked already which clips can be used.
    return _with_servable_stages(loaded, _converted_clips(loaded.config, make_layout(loaded.config)))


def following_clips(loaded: LoadedConfig) -> LoadedConfig:
    """The same for clips that are there; nothing is made.

    Raises:
        DataError: there are none, or none can be used.
    """
    layout = make_layout(loaded.config)
    if not layout.converter:
        return loaded
    clips = _converted_clips(loaded.config, layout)
    return _with_servable_stages(_hearing_them(loaded, clips), clips)


def _convert(config: Config, layout: Layout) -> None:
    """Run the converter, unless all clips were made of these very files; a family of files stays the chosen one."""
    roots, place = layout.old_data(config), Path(config.preprocessed_root)
    if not roots or is_converted_whole(layout.converter, roots, place):
        return
    prefix = noted_prefix(layout.converter, place)
    report = convert_legacy(layout.converter, roots, place, prefix=prefix, progress=config.show_progress)
    if not report.ok_ids:
        raise DataError(f"{next(iter(roots.values()))}: no clip can be used: {report.reasons()}")


def _converted_clips(config: Config, layout: Layout) -> list[ClipFolder]:
    """Usable training clips."""
    root = Path(config.preprocessed_root)
    clips = [ClipFolder(root / clip_id, clip_id=clip_id) for clip_id in layout.split_ids(config, "train")]
    usable = [clip for clip in clips if clip.status == OK]
    if not usable:
        raise DataError(f"{root}: no clip can be used; `convert-data --kind={layout.converter}` tells why")
    return usable


def _hearing_them(loaded: LoadedConfig, clips: Sequence[ClipFolder]) -> LoadedConfig:
    """The configuration with the front end that made the rows of the clips, where they hold some."""
    model = get_spec(loaded.config.model_name).model
    converted = _converted_rows(clips)
    if not model.hears or converted is None:
        return loaded
    key, found = f"model.{model.hears}", recorded_choice(*converted)
    made_by = found.made_by or {"name": found.name, ELSEWHERE: True}
    settings = {f"{key}.{name}": value for name, value in found.choice.items() if name != MADE_BY}
    if any(asked in settings for asked in loaded.asked("model")):
        return loaded  # what does not fit is refused clip by clip, with the names of both
    return loaded.settled({**settings, f"{key}.{MADE_BY}": made_by}, _ORIGIN)


def _converted_rows(clips: Sequence[ClipFolder]) -> tuple[str, dict[str, Any]] | None:
    """Name and record of the rows of sound that most of the clips came with; None where they came with none."""
    found = [
        (name, record)
        for clip in clips
        for name in clip.meta.get("steps", {})
        if name.startswith(ARTEFACT) and "step" not in (record := clip.record(name))  # a step of ours makes others
    ]
    counts = Counter(name for name, _ in found)
    return max(found, key=lambda entry: counts[entry[0]], default=None)


def _with_servable_stages(loaded: LoadedConfig, clips: Sequence[ClipFolder]) -> LoadedConfig:
    """The configuration without stages that no clip can serve, and with what follows from that."""
    config, model = loaded.config, get_spec(loaded.config.model_name).model
    loaded = _settled(loaded, model, clips[0], [stage.kind for stage in config.stages])
    kept = [stage for stage in config.stages if _serves(loaded.config, model, stage, clips)]
    if len(kept) == len(config.stages):
        return loaded
    if not kept:
        stage = config.stages[0]
        model.plans[stage.kind].dataset(clips, "train", stage.data, loaded.config.model, config.seed)  # says why
    names = {stage.name for stage in kept}
    stages = [stage for stage in to_plain(config)["stages"] if stage["name"] in names]
    return _settled(loaded.settled({"stages": stages}, _ORIGIN), model, clips[0], [stage.kind for stage in kept])


def _settled(
    loaded: LoadedConfig, model: type[TalkingFaceModel], clip: ClipFolder, kinds: Sequence[str]
) -> LoadedConfig:
    """With what the model says of such clips, but for what the user asks for."""
    wanted: Mapping[str, Any] = model.settings_without_videos(clip, kinds)
    asked = loaded.asked("model")
    settings = {f"model.{key}": value for key, value in wanted.items() if f"model.{key}" not in asked}
    return loaded.settled(settings, _ORIGIN) if settings else loaded


def _serves(config: Config, model: type[TalkingFaceModel], stage: StageConfig, clips: Sequence[ClipFolder]) -> bool:
    """Whether some clip can serve a stage; one that the user names is left to say for itself why not."""
    if stage.name == config.stage:
        return True
    level, reason = log.level, ""
    log.setLevel(logging.ERROR)  # of those that some clips serve, training tells which it leaves out
    try:
        for some in (clips[:LOOKED_AT], clips) if len(clips) > LOOKED_AT else (clips,):
            try:
                model.plans[stage.kind].dataset(some, "train", stage.data, config.model, config.seed)
            except DataError as error:
                reason = str(error)
            else:
                return True
    finally:
        log.setLevel(level)
    log.warning("stage %s is left out, the clips have no videos: %s", stage.name, reason)
    return False
