"""The manifest of prepared clips, `manifest.jsonl` beside them: what lies there, byte for byte, and nothing else.

It holds no times, paths or machines. Whoever has prepared the same videos with the same settings has the same
manifest, whatever the number of processes, machines and interruptions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from talkingface.clips.meta import read_meta
from talkingface.errors import OutputError
from talkingface.files import atomic_output
from talkingface.preprocess.outcome import Outcome

log = logging.getLogger("talkingface")
FILE = "manifest.jsonl"


def manifest_line(outcome: Outcome, root: Path) -> str:
    """One clip: its name, what became of it, and every artefact with fingerprint, facts and hashes of its files.

    Reasons, which may name paths, stand in `rejections.csv`. Hashes are null for files that were made before hashes
    were noted.
    """
    steps = read_meta(root / outcome.clip_id).get("steps", {})
    content = {
        "clip": outcome.clip_id,
        "status": outcome.status,
        "rejected_by": outcome.by,
        "frames": outcome.frames,
        "artefacts": {name: _artefact(record) for name, record in steps.items()},
    }
    return json.dumps(content, sort_keys=True, default=str)


def _artefact(record: Mapping[str, Any]) -> dict[str, Any]:
    hashes = record.get("sha256") or {}
    return {
        "fingerprint": record.get("fingerprint"),
        "facts": record.get("facts", {}),
        "files": {name: hashes.get(name) for name in record.get("files", ())},
    }


def write_manifest(outcomes: Iterable[Outcome], root: Path) -> Path:
    """Write the manifest, in the order of the data set; a folder that cannot be written is only warned of."""
    path = root / FILE
    try:
        # As `clip.json` is: a power cut may leave it empty, and the next command that prepares clips writes it anew.
        with atomic_output(path, durable=False) as temporary, temporary.open("w", encoding="ascii") as file:
            file.writelines(manifest_line(outcome, root) + "\n" for outcome in outcomes)
    except (OSError, OutputError) as error:
        log.warning("%s: not written (%s)", path, error)
    return path
