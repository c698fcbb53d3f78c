"""Trees of DINet or LawDNet that are converted together: their videos by the names of the clips they become."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from talkingface.clips.dubbing_tree import CROPS, DubbingTree
from talkingface.errors import DataError
from talkingface.preprocess.converters.crop_landmarks import read_crop_landmarks
from talkingface.preprocess.converters.dubbing_lists import ListedVideo, PictureName, is_list, read_lists
from talkingface.preprocess.converters.dubbing_video import OldVideo


class DubbingForest:
    """One tree, whose clips are named `<video>`, or several, `<folder of the tree>/<video>`.

    Args:
        roots: the folders that were given.

    Attributes:
        trees: what was found in them.
        places: tree and video of each clip.

    Raises:
        DataError: a folder holds no tree, or a list or landmark file of one is damaged.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.trees = [_tree(root) for root in roots]
        self._lists = {tree.base: _lists_of(tree) for tree in self.trees}
        self._landmarks = {tree.base: _landmarks_of(tree) for tree in self.trees}
        self.places: dict[str, tuple[DubbingTree, str]] = {}
        for tree, prefix in zip(self.trees, _prefixes(self.trees), strict=True):
            names = sorted({*tree.videos(), *self._lists[tree.base]})
            self.places |= {f"{prefix}{name}": (tree, name) for name in names}
        self._namesakes: dict[str, list[str]] = {}  # clips by the name of their video, in the order of their trees
        for clip_id, (_, name) in self.places.items():
            self._namesakes.setdefault(name, []).append(clip_id)

    def video(self, clip_id: str) -> OldVideo:
        """What there is of a clip."""
        tree, name = self.places[clip_id]
        return OldVideo(tree, name, self._lists[tree.base].get(name), self._landmarks[tree.base])

    def twin(self, clip_id: str) -> str | None:
        """The clip of an earlier tree with the same pictures."""
        tree, name = self.places[clip_id]
        earlier = list(takewhile(lambda other: other != clip_id, self._namesakes[name]))
        mine = _pictures_of(tree, name) if earlier else []
        return next((other for other in earlier if mine and _pictures_of(*self.places[other]) == mine), None)


def _tree(root: Path) -> DubbingTree:
    tree = DubbingTree.near(root)
    if tree is None:
        raise DataError(f"{root}: neither a folder *{CROPS} nor a training_json.json found here")
    return tree


def _prefixes(trees: list[DubbingTree]) -> list[str]:
    """Fronts of the names of clips: the folder given, numbered where two have one name; of one tree nothing."""
    if len(trees) == 1:
        return [""]
    names = [tree.root.resolve().name for tree in trees]
    return [f"{name}_{k + 1}/" if names.count(name) > 1 else f"{name}/" for k, name in enumerate(names)]


def _lists_of(tree: DubbingTree) -> dict[str, ListedVideo]:
    """All lists of a tree; a video in two of them has the clips of both, and of one clip what the later file says."""
    found: dict[str, ListedVideo] = {}
    for path in filter(is_list, tree.lists()):
        for name, video in read_lists(path).items():
            clips = {tuple(clip.pictures): clip for clip in (*found.get(name, video).clips, *video.clips)}
            found[name] = ListedVideo(list(clips.values()), max(video.counted, found.get(name, video).counted))
    return found


def _landmarks_of(tree: DubbingTree) -> dict[PictureName, np.ndarray | None]:
    return {name: face for path in tree.landmark_files() for name, face in read_crop_landmarks(path).items()}


def _pictures_of(tree: DubbingTree, name: str) -> list[tuple[str, int]]:
    """Names and sizes of the pictures of a video."""
    folders = tree.clips(name).values()
    return sorted((f"{p.parent.name}/{p.name}", p.stat().st_size) for folder in folders for p in folder.iterdir())
