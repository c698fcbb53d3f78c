"""The list of clips that preprocessing turned away or failed on: `rejections.csv` beside the prepared clips."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from talkingface.errors import OutputError
from talkingface.files import atomic_output, csv_text
from talkingface.preprocess.outcome import OK, Outcome

log = logging.getLogger("talkingface")
FILE = "rejections.csv"
COLUMNS = ("clip", "status", "filter", "measured", "limit", "reason")


def rejection_rows(outcomes: Iterable[Outcome]) -> list[tuple[Any, ...]]:
    """One row per clip that is not usable, in the order of the data set; see `COLUMNS`.

    `filter` names the filter, or the step that could not use the clip (`landmarks`: too few faces; `audio`: no sound).
    """
    return [(o.clip_id, o.status, o.by, o.measured, o.limit, o.reason) for o in outcomes if o.status != OK]


def write_rejections(outcomes: Iterable[Outcome], root: Path) -> Path:
    """Write the list, with its header alone when every clip is usable; a file that says the same is left as it is.

    A folder that cannot be written is only warned of: the clips themselves are there.
    """
    path = root / FILE
    text = csv_text([COLUMNS, *rejection_rows(outcomes)])
    content = text.encode(errors="backslashreplace")  # names may hold bytes that are no UTF-8
    try:
        if not path.is_file() or path.read_bytes() != content:
            # A power cut may leave it empty: then it says something else, and is written at the next start.
            with atomic_output(path, durable=False) as temporary:
                temporary.write_bytes(content)
    except (OSError, OutputError) as error:
        log.warning("%s: not written (%s)", path, error)
    return path
