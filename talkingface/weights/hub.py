"""Models on the Hugging Face hub: `hub:USER/NAME` or `hub:USER/NAME@REVISION`."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from talkingface.errors import CheckpointError, first_line
from talkingface.packages import need
from talkingface.weights.safe_file import PUBLISHED

log = logging.getLogger("talkingface")

PREFIX = "hub:"
FILES = (PUBLISHED, "README.md", "config.yaml", "metrics.json")
"""What `publish` makes; nothing else is fetched, whatever else lies there."""

_NAME = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def is_on_hub(path: str | Path) -> bool:
    """Whether a checkpoint is named by its place on the hub."""
    return str(path).startswith(PREFIX)


def repository_of(name: str | Path) -> tuple[str, str | None]:
    """Repository and revision that `hub:...` names.

    Raises:
        CheckpointError: it names none.
    """
    found = _NAME.fullmatch(str(name))
    if found is None:
        raise CheckpointError(f"{name}: names no model on the hub; the form is hub:USER/NAME or hub:USER/NAME@REVISION")
    return found["repository"], found["revision"]


def fetch(name: str | Path) -> Path:
    """The folder that a published model was fetched to, in the hub's own cache; without a network what lies there.

    Raises:
        PackageMissing: huggingface_hub is not installed.
        CheckpointError: there is no such model, none of ours, or the hub cannot be reached.
    """
    repository, revision = repository_of(name)
    need("hub", f"{name}")
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # the client, its HTTP library and the hub have classes of their own
        why = f"cannot be fetched ({first_line(error)})"
        raise CheckpointError(f"{name}: {why}; check the name, or log in with `hf auth login`") from None
    if not (folder / PUBLISHED).is_file():
        raise CheckpointError(f"{name}: has no {PUBLISHED}; only what `publish` wrote can be read from the hub")
    log.info("%s lies in %s", name, folder)
    return folder


def upload(folder: Path, name: str | Path) -> str:
    """Put a folder that `publish` made on the hub; the repository is made where there is none, private at first.

    Returns:
        The address of its page.

    Raises:
        PackageMissing: huggingface_hub is not installed.
        CheckpointError: the hub refuses or cannot be reached.
    """
    repository, revision = repository_of(name)
    need("hub", f"publishing to {name}")
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            revision=revision,
            allow_patterns=list(FILES),
            commit_message="talkingface publish",
        )
    except Exception as error:  # see `fetch`
        why = f"cannot be published ({first_line(error)})"
        raise CheckpointError(f"{name}: {why}; log in with `hf auth login`") from None
    return f"{api.endpoint}/{repository}"
