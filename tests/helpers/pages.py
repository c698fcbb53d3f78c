"""README and the pages of the documentation, and the code in them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from helpers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "checkpoints" / "README.md", ROOT / "dataset" / "README.md"]
_BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]+) -->\n)?^ *```(?P<lang>\w+)\n(?P<body>.*?)^ *```", re.M | re.S)


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """(comment above, content) of the fenced blocks in these languages; indented blocks lose their indent."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [(m["note"] or "", textwrap.dedent(m["body"])) for m in found if m["lang"] in languages]
