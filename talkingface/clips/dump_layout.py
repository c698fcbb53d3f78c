"""The layout of clips that a converter makes of MakeItTalk's dumps: they have no videos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.clips.dump_tree import STATUSES, DumpTree
from talkingface.clips.layout import ClipItem, Layout, register_layout
from talkingface.clips.prepared import converted_ids
from talkingface.errors import DataError

if TYPE_CHECKING:
    from talkingface.config.sections import Config

_FORMER = "dump"
"""Folder of the dumps below that of the weights, in earlier toolkits."""


@register_layout("dumps")
class DumpLayout(Layout):
    """Clips `<status>/<number>_<name>` of dumps, `<number>_<name>` of text trees; which part is which, dumps say."""

    tree = "{root}/dump/<prefix>_train_au.pickle beside <prefix>_train_fl.pickle, or {root}/raw_fl3d and {root}/raw_wav"
    source = "Dumps are MakeItTalk's own training data; `convert-data --kind=makeittalk --export=DIR` writes some."
    held_out = 0.05
    converter = "makeittalk"

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, list[str]] = {}

    def old_data(self, config: Config) -> Mapping[str, Path]:
        """Below the data root, else where earlier toolkits had them, beside the weights."""
        for place in (Path(config.data_root), Path(config.weights_dir) / _FORMER):
            tree = DumpTree(place)
            if tree.has_dumps or tree.has_texts:
                return {"root": place}
        return {}

    def find(self, config: Config) -> list[ClipItem]:
        """The clips that have been converted.

        Raises:
            DataError: there are none.
        """
        self.check_lists(config)
        ids = self._ids(config)
        if not ids:
            raise DataError(self.missing_message(config))
        return [self.item(Path(config.data_root), clip_id) for clip_id in ids]

    def item(self, root: Path, clip_id: str) -> ClipItem:
        """A clip; there is no video."""
        return ClipItem(clip_id, root / f"{clip_id}.mp4", self.speaker(clip_id))

    def scan(self, root: Path) -> list[ClipItem]:
        """Nothing: what there is, `find` knows."""
        return []

    def missing_message(self, config: Config) -> str:
        """What to do when there are no dumps, or none that were converted."""
        if roots := self.old_data(config):
            told = f"convert-data --kind={self.converter} --root={roots['root']} --out={config.preprocessed_root}"
            return f"{roots['root']}: is not converted yet; a run does it where need_preprocess is on, or `{told}`"
        tree = self.tree.format(root=config.data_root or "dataset/audio2landmark_content/data")
        return f"no dumps of MakeItTalk found. Expected: {tree}. {self.source} To try now: --dataset=demo"

    def speaker(self, clip_id: str) -> str:
        """The name of the video, which shows one person."""
        return clip_id.rpartition("/")[2].partition("_")[2]

    def listed_ids(self, config: Config, split: str) -> list[str] | None:
        """The clips of a list, else those of the dump of that name; None where there is neither."""
        if (listed := super().listed_ids(config, split)) is not None or split not in STATUSES:
            return listed
        return [clip_id for clip_id in self._ids(config) if clip_id.startswith(f"{split}/")] or None

    def _ids(self, config: Config) -> list[str]:
        """Clips that have been converted from what is there now, looked for once by each layout."""
        root = config.preprocessed_root
        if not self._known.get(root):
            self._known[root] = converted_ids(root)
        return self._known[root]
