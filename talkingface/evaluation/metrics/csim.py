"""CSIM: is it still the same person? Cosine of the ArcFace embeddings of generated and real frame.

Faces are moved onto the template that ArcFace was trained with, each by its own landmarks. Where the detector finds
face boxes only, a square around the box is taken, without any detector the middle of the frame; notes and the
definition say so. `csim_aggregation: vico` is what the ViCo script computes, only for comparison with papers: whole
frames, and the mean over all pairs of frames of all clips, different people included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from talkingface.errors import DataError, TalkingFaceError, Unavailable
from talkingface.evaluation.metric import Figure, Metric, mean_of
from talkingface.evaluation.metrics.inference import Weights, batch_size, batches, find_weights, ready, to_images
from talkingface.evaluation.sample import EvalSample
from talkingface.faces.regions import region_boxes
from talkingface.networks.iresnet import IResNet
from talkingface.networks.precision import judging, precision_on

if TYPE_CHECKING:
    import torch

SIDE = 112
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Eye on the left of the picture, eye on the right, tip of the nose, corners of the mouth, in a 112x112 face."""

ALIGNED = "five points of each frame, ArcFace template"
BOXED = "square around the face box of each frame, not aligned"
MIDDLE = "middle of the frame, not aligned"

Pair = tuple[np.ndarray, np.ndarray]


def five_points(points: np.ndarray) -> np.ndarray:
    """The points of `TEMPLATE`, (..., 5, 2), from iBUG points (..., 68, 2)."""
    eyes = [points[..., 36:42, :].mean(axis=-2), points[..., 42:48, :].mean(axis=-2)]
    return np.stack([*eyes, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)


def similarity(points: np.ndarray, target: np.ndarray = TEMPLATE) -> np.ndarray:
    """(2, 3) rotation, scale and shift (no reflection) that bring points (K, 2) nearest to `target`, least squares."""
    x, y = points.astype(np.float64).T
    one, none = np.ones_like(x), np.zeros_like(x)
    # Linear in a = s cos, b = s sin and the shift: x' = a x - b y + right, y' = b x + a y + down.
    rows = np.concatenate([np.stack([x, -y, one, none], axis=1), np.stack([y, x, none, one], axis=1)])
    a, b, right, down = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, right], [b, a, down]])


def align(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face of a frame as ArcFace knows faces, (112, 112, 3); `points` are `five_points` in pixels of the frame."""
    return cv2.warpAffine(frame, similarity(points), (SIDE, SIDE))


def around(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The square around the middle of a box `(x1, y1, x2, y2)`, as large as its longer side, (112, 112, 3)."""
    side = max(box[2] - box[0], box[3] - box[1], 1.0)
    scale = SIDE / side
    # Centre less half a side.
    left, top = (box[:2] + box[2:] - side) / 2
    return cv2.warpAffine(frame, scale * np.array([[1, 0, -left], [0, 1, -top]]), (SIDE, SIDE))


def cosines(generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """(B,) float64 cosines of embeddings (B, D)."""
    return (_directions(generated) * _directions(real)).sum(dim=1)


class AllPairs:
    """Mean cosine over every pair of a generated and a real frame, from sums: the matrix itself is never made."""

    def __init__(self) -> None:
        self._sums: list[torch.Tensor | float] = [0.0, 0.0]
        self._counts = [0, 0]

    def add(self, generated: torch.Tensor, real: torch.Tensor) -> None:
        """Take in embeddings, (B, D) each."""
        for side, embeddings in enumerate((generated, real)):
            self._sums[side] = self._sums[side] + _directions(embeddings).sum(dim=0)
            self._counts[side] += len(embeddings)

    def merge(self, other: AllPairs) -> None:
        """Take in what another one has seen."""
        self._sums = [own + new for own, new in zip(self._sums, other._sums, strict=True)]
        self._counts = [own + new for own, new in zip(self._counts, other._counts, strict=True)]

    def mean(self) -> float:
        """The mean over all pairs seen so far."""
        generated, real = (total / count for total, count in zip(self._sums, self._counts, strict=True))
        # The mean over all pairs of cosines is the product of the two mean directions.
        return float((generated * real).sum())


class CSIM(Metric):
    """Likeness of the person: cosine of ArcFace embeddings of generated and real frames."""

    name = "CSIM"
    per_frame = True
    uses_landmarks = True
    figures: ClassVar[dict[str, Figure]] = {
        "csim": Figure("", True, "cosine of the ArcFace embeddings of generated and real frame"),
    }
    _network: IResNet | None = None
    _weights: Weights
    _pairs: AllPairs | None = None

    @property
    def vico(self) -> bool:
        """Whether all pairs count, as the ViCo script has it."""
        return self.settings.csim_aggregation == "vico"

    def prepare(self) -> None:
        """Load the network once; an evaluation begins."""
        self._cut_at: Counter[str] = Counter()  # videos by the way their faces were cut out
        self._joined: Counter[str] = Counter()  # those of earlier rows that all processes know
        if self._network is not None:
            return
        name = self.settings.csim_network
        self._weights = find_weights(
            f"arcface_{name}", self.weights_dir, self.settings.csim_checkpoint, "csim_checkpoint"
        )
        try:
            self._network = ready(IResNet(name).load(self._weights.path), self.device)
        except TalkingFaceError as error:
            raise Unavailable(str(error)) from error

    def definition(self) -> dict[str, Any]:
        """Network, weights, and which frames are compared how; says what was done, not what should have been."""
        ways = [f"{way} ({count} videos)" if len(self._cut_at) > 1 else way for way, count in self._cut_at.items()]
        return {
            "csim": {
                "network": self.settings.csim_network,
                "aggregation": self.settings.csim_aggregation,
                "alignment": "none, whole frames" if self.vico else "; ".join(ways) or ALIGNED,
                "precision": precision_on(self.settings.precision, self.device),
                "weights": self._weights.definition,
            }
        }

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Mean over the frames in which both faces are known; nothing for a clip alone in the `vico` aggregation."""
        if self._network is None:
            self.prepare()
        found, total = AllPairs(), 0
        values: list[float] = []
        for pairs in batches(self._faces(sample), batch_size(self.settings, self.device)):
            total += len(pairs)
            values += self._compare([pair for pair in pairs if pair is not None], found)
        sample.count("csim", len(values), total - len(values))
        if not values:
            raise DataError(f"{sample.generated}: no frame has a face in both this and the real video")
        if not self.vico:
            return {"csim": mean_of(values)[0]}
        self._pairs = self._pairs or AllPairs()
        self._pairs.merge(found)
        return {}

    def compute(self) -> dict[str, float]:
        """Mean over clips, or over all pairs of frames of all clips."""
        if not self.vico:
            return super().compute()
        return {} if self._pairs is None else {"csim": self._pairs.mean()}

    def scored(self) -> dict[str, int]:
        """Number of clips behind the figure."""
        return {"csim": len(self._clips)} if self.vico else super().scored()

    def part(self) -> dict[str, Any]:
        """Beside the clips the sums over their pairs of faces, and how many faces were cut out which way."""
        return super().part() | {"pairs": self._pairs, "cut_at": self._cut_at - self._joined}

    def join(self, parts: Sequence[Mapping[str, Any]], order: Mapping[str, int]) -> None:
        """Add up what all processes have seen."""
        super().join(parts, order)
        self._pairs = None
        for pairs in (part["pairs"] for part in parts if part["pairs"] is not None):
            self._pairs = self._pairs or AllPairs()
            self._pairs.merge(pairs)
        self._cut_at = self._joined = sum((part["cut_at"] for part in parts), self._joined)

    def reset(self) -> None:
        """Forget the clips, keep the network."""
        super().reset()
        self._pairs = None

    def _faces(self, sample: EvalSample) -> Iterator[Pair | None]:
        """Faces of 112x112 (generated, real), None where one has no landmarks; one and the same for a video itself."""
        places = (None, None) if self.vico else self._places(sample)
        for index, frames in enumerate(sample.pairs()):
            real = self._face(frames[1], places[1], index)
            # Identity tells `_compare` that this is a video beside itself.
            generated = real if frames[0] is frames[1] else self._face(frames[0], places[0], index)
            yield None if generated is None or real is None else (generated, real)

    def _face(self, frame: np.ndarray, places: np.ndarray | None, index: int) -> np.ndarray | None:
        if places is None:
            return _resize(frame if self.vico else _middle(frame))
        if index >= len(places) or not np.isfinite(places[index]).all():
            return None
        return align(frame, places[index]) if places.ndim == 3 else around(frame, places[index])

    def _places(self, sample: EvalSample) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Where the faces of the generated and of the real video are, NaN without a face.

        (F, 5, 2) points where both have landmarks, else (F, 4) boxes; None where nothing can find any.
        """
        try:
            tracks = sample.generated_track(), sample.real_track()
        except Unavailable as error:
            self._cut_at[MIDDLE] += 1
            sample.notes.append(f"CSIM: faces are not aligned but the middle of the frame is taken ({error})")
            return None, None
        # Aligned only where both can be: one side aligned and the other not would compare ways of cropping.
        if all(track.has_points for track in tracks):
            self._cut_at[ALIGNED] += 1
            return five_points(tracks[0].ibug68()), five_points(tracks[1].ibug68())
        self._cut_at[BOXED] += 1
        boxes = next(track.provider for track in tracks if not track.has_points) or "the detector"
        sample.notes.append(f"CSIM: faces are not aligned but cut out around their boxes ({boxes} finds no landmarks)")
        return region_boxes(tracks[0], "face"), region_boxes(tracks[1], "face")

    def _compare(self, pairs: list[Pair], found: AllPairs) -> list[float]:
        """Cosines of pairs of faces, which also go into `found`; a video compared with itself needs no network."""
        if not pairs:
            return []
        same = all(generated is real for generated, real in pairs)
        # In the `vico` aggregation even these are embedded: every frame is paired with those of other clips.
        if same and not self.vico:
            return [1.0] * len(pairs)
        real = self._embed([real for _, real in pairs])
        generated = real if same else self._embed([generated for generated, _ in pairs])
        found.add(generated, real)
        return cosines(generated, real).tolist()

    def _embed(self, faces: list[np.ndarray]) -> torch.Tensor:
        """(B, 512) float32 on the CPU, from (112, 112, 3) uint8 RGB."""
        assert self._network is not None
        with judging(self.settings.precision, self.device):
            return self._network(2 * to_images(faces, self.device) - 1).float().cpu()


def _middle(frame: np.ndarray) -> np.ndarray:
    """The largest square in the middle."""
    side = min(frame.shape[:2])
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    return frame[top : top + side, left : left + side]


def _resize(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def _directions(embeddings: torch.Tensor) -> torch.Tensor:
    """Embeddings over their length, float64."""
    wide = embeddings.double()
    return wide / wide.norm(dim=1, keepdim=True).clamp_min(1e-12)
