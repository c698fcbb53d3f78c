"""The command line: the only place that knows arguments, prints and exit codes; one file per group of commands."""

from talkingface.cli.commands import main

__all__ = ["main"]
