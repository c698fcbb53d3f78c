"""The command line."""

from talkingface.cli.commands import main

__all__ = ["main"]
