"""`compare`: several evaluated runs in one report."""

from __future__ import annotations

from talkingface.cli.arguments import HELP, Arguments, Command, Option


def compare(arguments: Arguments) -> None:
    """Write the report; prints the table, what a reader must know, and the differences that are clear."""
    from talkingface.evaluation.report.compare import Wanted, compare_runs, remarks_and_verdicts
    from talkingface.evaluation.report.seed_table import printed_seeds

    figures = tuple(filter(None, (name.strip() for name in (arguments["figures"] or "").split(","))))
    wanted = Wanted(arguments["group"], arguments["latex"], arguments["markdown"], figures)
    found = compare_runs(arguments.words, arguments["output"], wanted)
    if found.groups:
        print(printed_seeds(found.groups, found.comparison) + "\n")
    print(found.comparison.merged().table())
    for line in remarks_and_verdicts(found.comparison):
        print(line)
    for file in found.files:
        if file.name in ("report.html", "table.tex", "table.md"):
            print(f"wrote {file}")


COMPARE = Command(
    line="one report about several evaluated runs: compare RUN RUN ...",
    options=(
        Option("output", "folder of the report", default="comparison"),
        Option("group", "put runs together that differ in their seed only: mean and deviation", flag=True),
        Option("latex", "also write table.tex, for booktabs", flag=True),
        Option("markdown", "also write table.md", flag=True),
        Option("figures", "columns of these tables: --figures=lse_c,ssim; default: the main ones"),
        HELP,
    ),
    run=compare,
    takes_words=True,
)
