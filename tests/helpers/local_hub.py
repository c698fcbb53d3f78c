"""A folder that stands in for the Hugging Face hub."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any


class LocalHub:
    """Keeps repositories as folders below `root`, and answers the calls that `weights.hub` makes.

    Attributes:
        private: names of repositories that were made, and whether they are private.
    """

    def __init__(self, root: Path, monkeypatch: Any) -> None:
        import huggingface_hub

        self.root, self.private = root, {}
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", self.create_repo)
        monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", self.upload_folder)

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
        """Make a repository."""
        assert exist_ok
        (self.root / "repositories" / repo_id).mkdir(parents=True, exist_ok=True)
        self.private.setdefault(repo_id, private)

    def upload_folder(
        self, repo_id: str, folder_path: Path, revision: str | None, allow_patterns: list[str], commit_message: str
    ) -> None:
        """Copy what is allowed."""
        assert commit_message
        self._copy(Path(folder_path), self.root / "repositories" / repo_id, allow_patterns)

    def snapshot_download(self, repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        """Copy it to a cache; raises what the client raises where there is nothing."""
        import huggingface_hub

        kept = self.root / "repositories" / repo_id
        if not kept.is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError(f"no repository {repo_id}")
        cache = self.root / "cache" / repo_id / (revision or "main")
        self._copy(kept, cache, allow_patterns)
        return str(cache)

    @staticmethod
    def _copy(source: Path, target: Path, patterns: list[str]) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in patterns):
                shutil.copyfile(file, target / file.name)
