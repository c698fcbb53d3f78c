"""`publish`: a trained model for other people."""

from __future__ import annotations

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.errors import ConfigError


def publish(arguments: Arguments) -> None:
    """Write the folder or put it on the hub, and say where it is.

    Raises:
        ConfigError: not exactly two words.
        CheckpointError: the run cannot be used, or the hub refuses.
        OutputError: the folder holds something, or cannot be written.
        PackageMissing: what writes the files is not installed.
    """
    if len(arguments.words) != 2:
        raise ConfigError("`publish` takes two words: publish RUN DIR, or publish RUN hub:USER/NAME")
    from talkingface.sharing.card import Statement
    from talkingface.sharing.publish import publish as give_away

    run, target = arguments.words
    named = ("licence", "data_licence", "author", "intended_use")
    stated = Statement(**{name: arguments[name] or "" for name in named})
    print(f"published {run} to {give_away(run, target, stated)}")
    if not (stated.licence and stated.data_licence):
        print("its card says that licences are not stated; --licence=... and --data_licence=... state them")


PUBLISH = Command(
    line="a folder with weights, configuration, figures and a model card: publish RUN DIR, or RUN hub:USER/NAME",
    options=(
        Option("licence", "of the weights, as the hub calls it: --licence=cc-by-nc-4.0"),
        Option("data_licence", "of the training data and the consent of who is shown, in words"),
        Option("author", "who made it"),
        Option("intended_use", "what it is for; default: research, with the consent of all who are shown"),
        HELP,
    ),
    run=publish,
    takes_words=True,
)
