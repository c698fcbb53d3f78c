"""Fixtures shared by all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def toys(monkeypatch):
    """Makes the toy plug-in known for one test."""
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "toys.toy_gan")
    import toys.toy_gan

    return toys.toy_gan
