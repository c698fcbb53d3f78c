"""`doctor --model --dataset`: what one task has and lacks."""

from __future__ import annotations

from talkingface.cli.arguments import Arguments
from talkingface.cli.configuration import load


def report_task(arguments: Arguments) -> int:
    """Print what a model on a data set has and lacks.

    Returns:
        1 if something is missing without which it cannot be trained.
    """
    arguments.overrides["weights_dir"] = arguments["weights_dir"]
    loaded = load(arguments)
    from talkingface.task import examine

    print(f"{loaded.config.model_name} on {loaded.config.dataset}")
    missing = 0
    for finding in examine(loaded):
        print(f"  {finding.state:<8} {finding.text}", flush=True)
        missing += finding.state == "MISSING"
    print(f"{missing} things are missing" if missing else "ready to train; what stands behind `about` is estimated")
    return 1 if missing else 0
