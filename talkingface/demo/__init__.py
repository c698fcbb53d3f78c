"""Demo corpus: synthetic talking-face clips made on the spot, with ground-truth mouth tracks.

For demonstrations, tests and tutorials only: its manifest says ``synthetic: true`` and scores on it mean nothing
absolute. See ``docs/data_layout.md``.
"""

from __future__ import annotations

from talkingface.demo.corpus import CorpusInfo, make_corpus
from talkingface.demo.truth import load_lips, load_tracks
from talkingface.demo.visemes import MouthTracks

__all__ = ["CorpusInfo", "MouthTracks", "load_lips", "load_tracks", "make_corpus"]
