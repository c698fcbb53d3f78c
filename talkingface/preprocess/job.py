"""What is done to every clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkingface.clips.folder import ClipFolder, find_record
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
        force: make everything again,
        spared: but these, which an earlier pass over the clips has just made.
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
    spared: frozenset[str] = frozenset()

    def forced(self, step: Step) -> bool:
        """Whether a step's artefact is made again even where nothing is wrong with it."""
        return self.force and step.artefact not in self.spared

    def fingerprints(
        self, source: Mapping[str, Any], stored: Mapping[str, Any] | None = None, clip: ClipFolder | None = None
    ) -> dict[str, str]:
        """Fingerprint of every artefact for a source with these hashes.

        Args:
            source: hashes of the source files.
            stored: records of the artefacts that there are (`steps` of `clip.json`). One that an earlier version made
                exactly as this one would keeps its fingerprint.
            clip: where they lie, to look whether that is so; what is found is noted in `stored`. Without it, only
                what was noted before counts.
        """
        prints: dict[str, str] = {}
        for step in self.steps:
            needs = [prints[name] for name in step.needs]
            wanted = self._fingerprint(step, step.version, step.params, source, needs)
            record = find_record(stored or {}, step.artefact) or {}
            if clip is not None and record.get("fingerprint") != wanted and clip.has(step.artefact):
                former = [self._fingerprint(step, *version, source, needs) for version in step.former()]
                if record.get("fingerprint") in former and step.still_right(clip):
                    record["serves"] = wanted
            prints[step.artefact] = record["fingerprint"] if record.get("serves") == wanted else wanted
        return prints

    def digest(self, source: Mapping[str, Any]) -> str:
        """What is to be made of a source with these hashes, in one word."""
        return hashlib.sha256(json.dumps(self.fingerprints(source)).encode()).hexdigest()[:20]

    def _fingerprint(
        self, step: Step, version: int, params: Mapping[str, Any], source: Mapping[str, Any], needs: list[str]
    ) -> str:
        content = [source.get("sha256"), source.get("audio_sha256"), self.fps]
        parts = [step.kind, version, params, content, needs]
        if step.takes_landmark_file and "landmarks_sha256" in source:
            parts.append(source["landmarks_sha256"])  # of no other step: the same sound and picture as without it
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]
