"""The clips of a run: made where they are missing, and sorted into those that are usable and those that are not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.clips.folder import ClipFolder, among, usable_clips
from talkingface.clips.layouts import SPLITS, UNSEEN, make_layout
from talkingface.clips.prepared import conversion_advice
from talkingface.demo.corpus import ensure_demo_corpus
from talkingface.errors import ConfigError, DataError
from talkingface.plugin.registry import get_spec
from talkingface.preprocess.plan import named_artefacts, plan_steps
from talkingface.preprocess.prepare import ensure
from talkingface.training.launchers import is_child_process

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.plugin.configuration import LoadedConfig

log = logging.getLogger("talkingface")
Clips = dict[str, "list[ClipFolder]"]


def prepare(
    loaded: LoadedConfig,
    always: bool = False,
    evaluate_only: bool = False,
    only: Sequence[str] = (),
    merge: bool = False,
) -> Clips:
    """Make what is missing (the demo corpus, preprocessed clips) and return the usable clips of every split.

    Args:
        loaded: the configuration.
        always: also when `need_preprocess` is off.
        evaluate_only: make and ask for no more than scoring needs.
        only: make and ask for these artefacts alone; `faces` stands for every variant that the model reads.
        merge: make nothing, put together what the processes of all shards have made.

    Returns:
        The clips of every split; of a shard none, for it does not know the others.

    Raises:
        ConfigError: no step makes one of them, or a share of the clips is to be trained or scored on.
        DataError: the data are missing, or no clip is usable.
    """
    config = loaded.config
    if config.preprocess.shard is not None and not always:
        raise ConfigError("--preprocess.shard is for `preprocess`: after all shards `preprocess --merge`, then `run`")
    model = get_spec(config.model_name).model
    artefacts = model.evaluation_artefacts if evaluate_only else model.artefacts_for(config.model)
    if only:
        artefacts = named_artefacts(only, artefacts)
        plan_steps(artefacts, model.step_settings(config.model), config.preprocess)  # refuses a name before any work
    if (config.need_preprocess or always) and not is_child_process():
        if config.layout == "demo":
            ensure_demo_corpus(config, redraw=not evaluate_only)
        ensure(config, model, config.model, force=config.preprocess.force, artefacts=artefacts, merge=merge)
    if config.preprocess.shard is not None:
        return {}
    return prepared_clips(config, artefacts)


def prepared_clips(config: Config, artefacts: Sequence[str] | None = None) -> Clips:
    """Usable preprocessed clips of `train`, `val`, `test` and `unseen`.

    They have all of `artefacts` (the model's) but those that training does without.

    Raises:
        DataError: no training clip is usable, with the reasons.
    """
    layout = make_layout(config)
    model = get_spec(config.model_name).model
    artefacts = model.artefacts_for(config.model) if artefacts is None else artefacts
    artefacts = [name for name in artefacts if not among(name, model.trains_without)]
    root = Path(config.preprocessed_root)
    clips: Clips = {}
    named = 0
    for split in (*SPLITS, UNSEEN):
        ids = layout.split_ids(config, split) if split != UNSEEN else layout.listed_ids(config, UNSEEN) or []
        named += len(ids)
        # What the layout says of speakers now, not what it said when the clips were prepared.
        found = (ClipFolder(root / i, clip_id=i, speaker=layout.speaker(i), split=split) for i in ids)
        kept, dropped = usable_clips(found, artefacts)
        if dropped:
            shown = "; ".join(f"{i}: {reason}" for i, reason in dropped[:3])
            more = f" and {len(dropped) - 3} more" if len(dropped) > 3 else ""
            log.warning("%s list: %d of %d clips left out: %s%s", split, len(dropped), len(ids), shown, more)
        clips[split] = kept
    if not named and config.train_filelist and Path(config.train_filelist).is_file():
        raise DataError(f"{config.train_filelist}: names no clip, nor do the other lists; write one clip name per line")
    if not any(clips.values()):
        command = f"python run_talkingface.py preprocess --model={config.model_name} --dataset={config.dataset}"
        advice = conversion_advice(root) or f"run `{command}` and read its table of reasons"
        raise DataError(f"{root}: no usable preprocessed clip; {advice}")
    return clips
