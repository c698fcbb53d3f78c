"""Names that become folders: they stay where they are put, on any system."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
MOST_BYTES = 200  # file systems allow 255, of which suffixes take some


def text(value: Any) -> Any:
    """A number written without quotes where a word is meant, as in `precision: 32`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def check_folder_name(value: str) -> str:
    """The name itself.

    Raises:
        ValueError: it leads elsewhere, is reserved, or holds what a terminal would not show.
    """
    if not value.strip(" .") or value != value.strip():
        raise ValueError(f"must be the name of a folder, got {value!r}")
    if re.search(r'[/\\:*?"<>|]', value) or not value.isprintable():
        raise ValueError(f'must be one name, without / \\ : * ? " < > | and unseen characters, got {value!r}')
    if _RESERVED.fullmatch(value) or len(value.encode(errors="replace")) > MOST_BYTES:
        raise ValueError(f"is reserved by some systems, or longer than {MOST_BYTES} bytes: {value[:40]!r}")
    return value


FolderName = Annotated[str, BeforeValidator(text), AfterValidator(check_folder_name)]
"""A word that names one folder below another one."""
