"""Tools that tests share: drawn clips, media files of every kind, promises of every model."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
"""The checkout: `run_talkingface.py`, README.md, docs/ and properties/ lie here."""
