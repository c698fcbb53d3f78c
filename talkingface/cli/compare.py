"""`compare`: several evaluated runs in one report."""

from __future__ import annotations

from pathlib import Path

from talkingface.cli.arguments import HELP, Arguments, Command, Option


def compare(arguments: Arguments) -> None:
    """Write the report; prints the table, what a reader must know, and the differences that are clear."""
    from talkingface.evaluation.report.compare import compare_runs, remarks_and_verdicts

    comparison = compare_runs(arguments.words, arguments["output"])
    print(comparison.merged().table())
    for line in remarks_and_verdicts(comparison):
        print(line)
    print(f"wrote {Path(arguments['output']) / 'report.html'}")


COMPARE = Command(
    line="one report about several evaluated runs: compare RUN RUN ...",
    options=(Option("output", "folder of the report", default="comparison"), HELP),
    run=compare,
    takes_words=True,
)
