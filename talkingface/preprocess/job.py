"""What is done to every clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkingface.config.sections import PreprocessConfig
from talkingface.preprocess.step import CACHE_BYTES, Step


@dataclass(frozen=True)
class Job:
    """What is done to every clip.

    Attributes:
        root: folder of the prepared clips.
        steps: in order.
        settings: `preprocess:` of the configuration.
        fps: frame rate of all artefacts.
        force: make everything again.
        cache_bytes: decoded frames that one process may keep for the next step.
        optional: artefacts that a clip converted from older code may lack, for training does without them.
    """

    root: Path
    steps: tuple[Step, ...]
    settings: PreprocessConfig
    fps: float
    force: bool = False
    cache_bytes: int = CACHE_BYTES
    optional: tuple[str, ...] = ()

    def fingerprints(self, source: Mapping[str, Any]) -> dict[str, str]:
        """Fingerprint of every artefact for a source with these hashes."""
        prints: dict[str, str] = {}
        content = [source.get("sha256"), source.get("audio_sha256"), self.fps]
        for step in self.steps:
            parts = [step.kind, step.version, step.params, content, [prints[name] for name in step.needs]]
            if step.takes_landmark_file and "landmarks_sha256" in source:
                parts.append(source["landmarks_sha256"])  # of no other step: the same sound and picture as without it
            text = json.dumps(parts, sort_keys=True, default=str)
            prints[step.artefact] = hashlib.sha256(text.encode()).hexdigest()[:20]
        return prints

    def digest(self, source: Mapping[str, Any]) -> str:
        """What is to be made of a source with these hashes, in one word."""
        return hashlib.sha256(json.dumps(self.fingerprints(source)).encode()).hexdigest()[:20]
