"""`check-expert`: what a lip-sync expert of DINet's kind is worth on real clips."""

from __future__ import annotations

from talkingface.cli.arguments import Arguments, Command
from talkingface.cli.configuration import CONFIGURED, load, print_config
from talkingface.errors import ConfigError

MODEL = "SyncNetDINet"
"""Whose settings are asked where no model is named."""


def check_expert(arguments: Arguments) -> int | None:
    """Print the table.

    Returns:
        1 if the expert is not good enough to train against.

    Raises:
        ConfigError: not one expert is named, or the model has none of this kind.
    """
    if len(arguments.words) != 1:
        raise ConfigError("`check-expert` needs the expert: check-expert RUN_OR_FILE --model=DINet --dataset=NAME")
    if not arguments["model"] and not arguments["config_files"]:
        arguments.options["model"] = MODEL
    loaded = load(arguments)
    if arguments["print_config"]:
        print_config(loaded)
        return None
    from talkingface.devices import limit_threads, resolve_device
    from talkingface.lipsync.dubbing import check
    from talkingface.lipsync.dubbing.config import DubbingDataConfig
    from talkingface.workflow import prepared_clips

    config = loaded.config
    if not isinstance(config.model, DubbingDataConfig):
        raise ConfigError(f"--model={config.model_name}: has no expert of DINet's kind; DINet, LawDNet, {MODEL} do")
    limit_threads(config.threads)
    clips = prepared_clips(config)
    # Held-out clips decide, as before a clip stage; those of the training list only where there are no others.
    lists = {name: clips.get(name, []) for name in ("val", "test", "unseen")}
    lists = lists if any(lists.values()) else {"train": clips.get("train", [])}
    found = check.check_expert(arguments.words[0], lists, config.model, str(resolve_device(config.device)))
    print(found.table())
    return None if found.passed else 1


CHECK_EXPERT = Command(
    line="what a sync expert of DINet's kind is worth on prepared clips: a table, exit code 1 below `expert.least`",
    options=CONFIGURED,
    run=check_expert,
    takes_keys=True,
    takes_words=True,
)
