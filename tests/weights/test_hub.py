"""Models by `hub:USER/NAME`: which names there are, and what is fetched and put there."""

from __future__ import annotations

import pytest

from talkingface.errors import CheckpointError
from talkingface.weights import hub


@pytest.mark.parametrize(
    ("name", "found"),
    [("hub:me/lips", ("me/lips", None)), ("hub:a.b/c-d@v1.0", ("a.b/c-d", "v1.0")), ("hub:a/b@f/x", ("a/b", "f/x"))],
)
def test_a_name_has_a_repository_and_perhaps_a_revision(name, found):
    assert hub.is_on_hub(name) and hub.repository_of(name) == found


@pytest.mark.parametrize(
    "name", ["hub:", "hub:lips", "hub:me/", "hub:me/lips/x", "hub:me/../x", "hub:me/lips@", "hub:ä/b"]
)
def test_what_names_no_model_is_one_line(name):
    with pytest.raises(CheckpointError, match=r"the form is hub:USER/NAME"):
        hub.repository_of(name)


def test_a_path_is_not_on_the_hub():
    assert not hub.is_on_hub("saved/hub:me") and not hub.is_on_hub("me/lips")


def test_what_the_client_says_becomes_one_line(monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fails(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fails)
    with pytest.raises(CheckpointError, match=r"hub:me/lips: cannot be fetched \(no route\); check the name"):
        hub.fetch("hub:me/lips")
    with pytest.raises(CheckpointError, match=r"hub:me/lips: cannot be published \(no route\); log in"):
        hub.upload(".", "hub:me/lips")
