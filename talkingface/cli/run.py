"""`run`, `preprocess`, `train`: from videos to a trained and evaluated model, as a whole or in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from talkingface.cli import earlier_script
from talkingface.cli.arguments import Arguments, Command, Option
from talkingface.cli.configuration import CONFIGURED, load, print_config
from talkingface.cli.seeds import SEEDS, once_or_by_seed

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig

_RUN_KEPT = "what was finished is kept, --resume=auto goes on with a training run"


def run(arguments: Arguments) -> int:
    """Everything that is missing; prints the table of the evaluation, if there is one."""
    return once_or_by_seed(arguments, _run)


def _run(loaded: LoadedConfig) -> None:
    from talkingface.workflow import run_configured

    result = run_configured(loaded)
    if result is not None:
        print(result.table())


def preprocess(arguments: Arguments) -> None:
    """What training needs, or the artefacts of `--only`, also where `need_preprocess` is off."""
    names = [name.strip() for name in (arguments["only"] or "").split(",") if name.strip()]
    earlier_script.check_alone(arguments)
    earlier = earlier_script.is_asked(arguments)
    if earlier:
        arguments, more = earlier_script.translated(arguments)
        names += more
    loaded = load(arguments)
    if arguments["print_config"]:
        return print_config(loaded)
    from talkingface import workflow

    if names or not earlier:
        workflow.preprocess(loaded, names, arguments["merge"])
    if report := earlier_script.export(arguments, loaded.config):
        print(report.table())


def train(arguments: Arguments) -> int:
    """Training on clips that are prepared already."""
    return once_or_by_seed(arguments, _train)


def _train(loaded: LoadedConfig) -> None:
    from talkingface.workflow import train

    train(loaded)


RUN = Command(
    line="preprocess what is missing, train all stages, evaluate (the default command)",
    options=(SEEDS, *CONFIGURED),
    run=run,
    takes_keys=True,
    kept=_RUN_KEPT,
)

PREPROCESS = Command(
    line="make what training needs from the data set's videos",
    options=(
        Option("only", "make these artefacts and what they need, no others: --only=landmarks,mel"),
        Option("merge", "make nothing: put together what all of --preprocess.shard=1/n ... n/n have made", flag=True),
        *CONFIGURED,
        *earlier_script.OPTIONS,
    ),
    run=preprocess,
    takes_keys=True,
    kept="clips that were finished are kept, the same command goes on with the others",
)

TRAIN = Command(
    line="train only; preprocessing must have been done",
    options=(SEEDS, *CONFIGURED),
    run=train,
    takes_keys=True,
    kept=_RUN_KEPT,
)
