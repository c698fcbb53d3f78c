"""LPIPS: distance of generated and real frames in the eyes of a classifier, in the region and in the mouth's box.

The net is part of the figure's name: distances of `alex` and `vgg` do not compare. Crops of face and mouth are resized
to one size, since the distance depends on how many pixels a mouth has; whole frames stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from talkingface.errors import DataError, TalkingFaceError, Unavailable
from talkingface.evaluation.metric import Figure, Metric, mean_of
from talkingface.evaluation.metrics.inference import (
    Weights,
    batch_size,
    batches,
    find_weights,
    hash_of,
    ready,
    to_images,
)
from talkingface.evaluation.sample import EvalSample
from talkingface.faces.regions import crop
from talkingface.networks.lpips import LPIPS as Network
from talkingface.networks.lpips import SMALLEST, bundled_heads
from talkingface.networks.precision import judging, precision_on
from talkingface.packages import install

CROP_SIDE = {"face": 256, "mouth": 128}
"""Pixels a side to which crops are resized."""

TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}
_PIXELS = {"cpu": 1_000_000, "cuda": 16_000_000}
"""Of the pairs in one pass: the first stage of vgg takes half a KiB for each."""

Pair = tuple[np.ndarray, np.ndarray]


class LPIPS(Metric):
    """Perceptual distance to the real frames."""

    name = "LPIPS"
    pointwise = True
    per_frame = True
    figures: ClassVar[dict[str, Figure]] = {
        "lpips": Figure("", False, "perceptual distance, region of evaluation.region"),
        "lpips_mouth": Figure("", False, "perceptual distance in the mouth's box"),
    }
    _network: Network | None = None
    _weights: dict[str, dict[str, Any]]

    def prepare(self) -> None:
        """Load trunk and linear layers once."""
        if self._network is not None:
            return
        settings = self.settings
        trunk = find_weights(TRUNKS[settings.lpips_net], self.weights_dir, settings.lpips_trunk, "lpips_trunk")
        linear = self._linear_layers()
        try:
            self._network = ready(Network(settings.lpips_net).load(trunk.path, linear.path), self.device)
        except TalkingFaceError as error:
            raise Unavailable(str(error)) from error
        self._weights = {"trunk": trunk.definition, "linear": linear.definition}

    def definition(self) -> dict[str, Any]:
        """Net, region, size and weights of both figures."""
        shared = {"net": self.settings.lpips_net, "version": "0.1", "weights": self._weights}
        shared["precision"] = precision_on(self.settings.precision, self.device)
        return {
            key: {**shared, "region": region, **({"resized": CROP_SIDE[region]} if region in CROP_SIDE else {})}
            for key, region in self._regions().items()
        }

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Mean over the frames of the shorter video; frames without the region do not count."""
        if self._network is None:
            self.prepare()
        regions = self._regions()
        boxes = {region: sample.cuts(region) for region in dict.fromkeys(regions.values())}
        values: dict[str, list[float]] = {region: [] for region in boxes}
        for pairs in batches(enumerate(sample.pairs()), batch_size(self.settings, self.device)):
            for region, found in boxes.items():
                values[region] += self._distances([_cut(pair, region, found, index) for index, pair in pairs])
        result = {}
        for key, region in regions.items():
            result[key], frames, excluded = mean_of(values[region])
            sample.count(key, frames, excluded)
        return result

    def _regions(self) -> dict[str, str]:
        return {"lpips": self.settings.region, "lpips_mouth": "mouth"}

    def _linear_layers(self) -> Weights:
        """The file of linear layers: the configured one, or what the package torchmetrics carries."""
        net = self.settings.lpips_net
        path = Path(self.settings.lpips_linear) if self.settings.lpips_linear else bundled_heads(net)
        digest = hash_of(path)
        if digest is None:
            raise Unavailable(f"linear layers of LPIPS not found: {path} ({install('torchmetrics')}, or lpips_linear)")
        return Weights(path, {"file": path.name, "sha256": digest})

    def _distances(self, pairs: Sequence[Pair | None]) -> list[float]:
        """A distance for each pair of equally large pictures, NaN for None; 0 for a picture and itself."""
        # A picture and itself are 0 by definition, and cost no pass through the network.
        values = [math.nan if pair is None else 0.0 for pair in pairs]
        different = [index for index, pair in enumerate(pairs) if pair is not None and pair[0] is not pair[1]]
        if not different:
            return values
        height, width = pairs[different[0]][0].shape[:2]
        kind = "cuda" if self.device.startswith("cuda") else "cpu"
        for part in batches(different, max(1, _PIXELS[kind] // (height * width))):
            for index, value in zip(part, self._compare([pairs[index] for index in part]), strict=True):
                values[index] = value
        return values

    def _compare(self, pairs: Sequence[Pair]) -> list[float]:
        assert self._network is not None
        smallest = SMALLEST[self._network.net]
        if min(pairs[0][0].shape[:2]) < smallest:
            raise DataError(f"frames are too small for LPIPS with {self._network.net}: {smallest} pixels at least")
        with judging(self.settings.precision, self.device):
            generated, real = (2 * to_images(side, self.device) - 1 for side in zip(*pairs, strict=True))
            return self._network(generated, real).flatten().cpu().double().tolist()


def _cut(pair: Pair, region: str, boxes: np.ndarray | None, index: int) -> Pair | None:
    """The region of both frames at one size; None without it."""
    if boxes is None:
        return pair
    if index >= len(boxes):
        return None
    generated, real = (crop(frame, boxes[index]) for frame in pair)
    if generated is None or real is None:
        return None
    # Of a video beside itself one picture is made, and stays the same object for `_distances`.
    resized = _resize(real, CROP_SIDE[region])
    return (resized if pair[0] is pair[1] else _resize(generated, CROP_SIDE[region])), resized


def _resize(picture: np.ndarray, side: int) -> np.ndarray:
    # INTER_AREA averages and so does not alias; enlarged, it would show blocks.
    shrinks = min(picture.shape[:2]) > side
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
