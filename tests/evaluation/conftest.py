"""Tiny clips that are prepared and ready to be scored, made once."""

from __future__ import annotations

import pytest

from helpers.toy_evaluation import make_clip


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    return [
        make_clip(root, "ann", "one", shade=120),
        make_clip(root, "ann", "two", shade=120),
        make_clip(root, "bob", "one", frames=26, shade=140),
    ]
