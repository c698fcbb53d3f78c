"""FID: Frechet distance between the Inception features of generated and of real frames, all clips together.

It has no value for a single clip. It shrinks as pictures are added: compare figures of one and the same number only,
which the report names, and read nothing into it below 2048 pictures a side, where the covariance is singular. The
`real` row is 0, the real frames against themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from talkingface.errors import DataError, TalkingFaceError, Unavailable
from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.metrics.inference import Weights, batch_size, batches, find_weights, ready, to_images
from talkingface.evaluation.sample import EvalSample
from talkingface.faces.regions import crop
from talkingface.networks.precision import judging, precision_on

if TYPE_CHECKING:
    from talkingface.evaluation.metrics.frechet import FrechetSums
    from talkingface.networks.inception import FIDInception

log = logging.getLogger("talkingface")

ENOUGH = 2048
"""Pictures a side below which the covariance of 2048 features is singular."""

KEEP_BYTES = 256 * 2**20
"""Room for features of real frames (8 KiB each), which every row needs again; beyond it they are computed again."""

PIXELS = {"cpu": 4_000_000, "cuda": 16_000_000}
"""Of the real pictures in one pass; each takes 30 bytes or so before it is resized."""


class FID(Metric):
    """Frechet distance of Inception features between generated and real frames."""

    name = "FID"
    figures: ClassVar[dict[str, Figure]] = {
        "fid": Figure("", False, "Frechet distance of Inception features, all clips together, evaluation.region"),
    }
    _network: FIDInception | None = None
    _sums: FrechetSums
    _weights: Weights
    _warned = False
    _only_real = True  # so far every video was compared with itself
    _row = ""  # of the last clip since `reset`

    def prepare(self) -> None:
        """Load the network once; an evaluation begins."""
        self._images: dict[str, dict[str, int]] = {}
        if self._network is not None:
            # The room went to the first clips of the last evaluation; this one may look at others.
            if self._real.full:
                self._real = _Kept(KEEP_BYTES)
            return
        self._weights = find_weights("inception", self.weights_dir, self.settings.fid_weights_path, "fid_weights_path")
        from talkingface.evaluation.metrics.frechet import FrechetSums
        from talkingface.networks.inception import FIDInception

        try:
            self._network = ready(FIDInception().load(self._weights.path), self.device)
        except TalkingFaceError as error:
            raise Unavailable(str(error)) from error
        self._sums = FrechetSums(self._network.num_features)
        self._real = _Kept(KEEP_BYTES)

    def definition(self) -> dict[str, Any]:
        """Variant, region, weights, and how many pictures stand behind each row."""
        few = any(min(counts.values()) < ENOUGH for counts in self._images.values())
        remark = (
            {"remark": f"fewer than {ENOUGH} pictures a side: only for comparison on the same clips"} if few else {}
        )
        return {
            "fid": {
                "variant": "inception-2015-12-05",
                "region": self.settings.region,
                "resize": "bilinear to 299x299, not antialiased",
                "precision": precision_on(self.settings.precision, self.device),
                "weights": self._weights.definition,
                "pictures": self._images,
                **remark,
            }
        }

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Add the frames of one clip, or none of them where it fails; a clip has no figure of its own."""
        if self._network is None:
            self.prepare()
        # The `real` row compares every video with itself: its features are computed once.
        same, done = sample.generated == sample.reference, 0
        key = (sample.reference, sample.reference.stat().st_mtime_ns, sample.fps)
        excluded: list[int] = []
        with self._sums.all_or_nothing():
            for pairs in self._passes(sample, excluded):
                real = self._real.get(key, done, len(pairs))
                if real is None:
                    real = self._real.put(key, done, self._features([real for _, real in pairs]))
                fake = real if same else self._features([generated for generated, _ in pairs])
                self._sums.update(real, real=True)
                self._sums.update(fake, real=False)
                done += len(pairs)
            if not done:
                raise DataError(f"{sample.generated}: no frame with the region '{self.settings.region}'")
        self._only_real &= same
        sample.count("fid", done, len(excluded))
        self._row = sample.row
        self._note_counts(sample.row)
        return {}

    def _note_counts(self, row: str) -> None:
        real_count, fake_count = self._sums.counts()
        self._images[row] = {"generated": fake_count, "real": real_count}

    def part(self) -> dict[str, Any]:
        """Beside the clips the sums over their pictures."""
        return super().part() | {"sums": self._sums.state_dict(), "only_real": self._only_real, "row": self._row}

    def join(self, parts: Sequence[Mapping[str, Any]], order: Mapping[str, int]) -> None:
        """Add up the sums of all processes."""
        super().join(parts, order)
        keys = self._sums.state_dict().keys()
        self._sums.load_state_dict({key: sum(part["sums"][key] for part in parts) for key in keys})
        self._only_real = all(part["only_real"] for part in parts)
        for row in {part["row"] for part in parts} - {""}:
            self._note_counts(row)

    def compute(self) -> dict[str, float]:
        """The distance over all clips since `reset`; nothing where a side has fewer than two pictures."""
        if not self._clips or min(self._sums.counts()) < 2:
            return {}
        if min(self._sums.counts()) < ENOUGH and not self._warned:
            self._warned = True
            real, fake = self._sums.counts()
            log.warning("FID of %d generated and %d real pictures: below %d a side it says little", fake, real, ENOUGH)
        # Equal sets are 0 by definition; the eigenvalues would only add rounding noise.
        return {"fid": 0.0 if self._only_real else max(0.0, float(self._sums.compute()))}

    def scored(self) -> dict[str, int]:
        """Number of clips whose frames take part."""
        return {"fid": len(self._clips)}

    def reset(self) -> None:
        """Forget the clips; the network and the features of real frames stay."""
        super().reset()
        self._only_real, self._row = True, ""
        if self._network is not None:
            self._sums.reset()

    def _pictures(self, sample: EvalSample, excluded: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of pictures in the region; `excluded` gets the frames without it."""
        boxes = None if self.settings.region == "frame" else sample.boxes(self.settings.region)
        for index, pair in enumerate(sample.pairs()):
            if boxes is None:
                yield pair
                continue
            parts = [crop(frame, boxes[index]) if index < len(boxes) else None for frame in pair]
            if parts[0] is None or parts[1] is None:
                excluded.append(index)
            else:
                yield parts[0], parts[1]

    def _passes(self, sample: EvalSample, excluded: list[int]) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """What `_pictures` gives, in lists that fit into memory."""
        most = PIXELS["cuda" if self.device.startswith("cuda") else "cpu"]
        size = batch_size(self.settings, self.device)
        return batches(self._pictures(sample, excluded), size, lambda pair: pair[1].shape[0] * pair[1].shape[1], most)

    def _features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, 2048) on the CPU, from (H, W, 3) uint8 RGB pictures, each of any size."""
        from talkingface.networks.inception import to_side

        assert self._network is not None
        with judging(self.settings.precision, self.device):
            # Regions differ in size from frame to frame; each is then brought to the network's size by itself.
            if len({picture.shape for picture in pictures}) == 1:
                images = to_images(pictures, self.device)
            else:
                images = torch.cat([to_side(to_images([picture], self.device)) for picture in pictures])
            return self._network(images).cpu()


class _Kept:
    """Features of real frames by clip, up to a number of bytes.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.room = limit
        self.full = False
        self._rows: dict[Hashable, list[torch.Tensor]] = {}

    def get(self, key: Hashable, start: int, count: int) -> torch.Tensor | None:
        """Rows start to start + count, None unless all are there."""
        rows = self._rows.get(key, [])
        return torch.stack(rows[start : start + count]) if len(rows) >= start + count else None

    def put(self, key: Hashable, start: int, features: torch.Tensor) -> torch.Tensor:
        """Keep those of the rows start to start + B that follow on the kept ones, while there is room; returns all."""
        rows = self._rows.setdefault(key, [])
        size = features.element_size() * features.shape[1]
        for position, row in enumerate(features, start):
            self.full = self.full or self.room < size
            # Rows are kept without gaps, so that `get` may take any stretch from the start.
            if position == len(rows) and not self.full:
                rows.append(row.clone())
                self.room -= size
        return features
