"""SSIM and PSNR in the variants that papers use; the numbers differ a lot, so the variant is named in every report.

`piq` (default) is what IP_LAP's evaluation and the ViCo script compute, `gray224` the earlier framework, `skimage` and
`wang` are common elsewhere. The functions are pure; the classes add regions, means and the report's keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numpy as np

from talkingface.evaluation.metric import Figure, Metric, mean_of
from talkingface.evaluation.sample import EvalSample
from talkingface.faces.regions import crop

K1, K2 = 0.01, 0.03
_ENOUGH = 16  # pixels: any window fits


def ssim(first: np.ndarray, second: np.ndarray, variant: str = "piq") -> float:
    """Structural similarity of two frames, 1 for equal ones.

    Args:
        first: (H, W, 3) uint8 RGB.
        second: the same shape.
        variant: `piq`, `gray224`, `skimage` or `wang`.

    Returns:
        The mean over pixels and channels; NaN for frames smaller than the window (11 pixels, 7 in `skimage`).
    """
    if variant == "gray224":
        return _ssim(_gray224(first), _gray224(second), _uniform7, 255.0)
    if variant == "piq":
        # Python's round: half goes to even, as published. float32 as published too, and three times faster.
        factor = max(1, round(min(first.shape[:2]) / 256))
        a, b = (_pool(frame.astype(np.float32) / np.float32(255), factor) for frame in (first, second))
        return _ssim(a, b, _gauss11, 1.0)
    a, b = first.astype(np.float64), second.astype(np.float64)
    if variant == "skimage":
        return _ssim(a, b, _uniform7, 255.0)
    if variant == "wang":
        return _ssim(a, b, _gauss11, 255.0)
    raise ValueError(f"unknown SSIM variant {variant!r}")


def psnr(first: np.ndarray, second: np.ndarray, variant: str = "piq") -> float:
    """Peak signal-to-noise ratio of two frames in dB.

    Args:
        first: (H, W, 3) uint8 RGB.
        second: the same shape.
        variant: `piq` adds 1e-8 to the error, so that equal frames give 80 dB; the others give infinity there.
    """
    error = float(np.mean(np.square(first.astype(np.float64) - second.astype(np.float64)))) / 255.0**2
    if variant == "piq":
        return -10.0 * math.log10(error + 1e-8)
    return -10.0 * math.log10(error) if error else math.inf


def psnr_variant(ssim_variant: str) -> str:
    """The PSNR that goes with an SSIM variant: all but `piq` use the plain definition."""
    return "piq" if ssim_variant == "piq" else "skimage"


def _ssim(a: np.ndarray, b: np.ndarray, window: Callable[[np.ndarray], np.ndarray], data_range: float) -> float:
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    size = 7 if window is _uniform7 else 11
    if min(a.shape[:2]) < size:
        return math.nan
    mean_a, mean_b = window(a), window(b)
    # The uniform variants use the sample covariance (N - 1), the gaussian ones the population's.
    unbias = 49 / 48 if window is _uniform7 else 1.0
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    # Only the sum of the two variances is needed: one window less.
    variances = unbias * (window(a * a + b * b) - squares)
    covariance = unbias * (window(a * b) - product)
    quotient = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return float(quotient.mean(dtype=np.float64))


def _uniform7(image: np.ndarray) -> np.ndarray:
    """Mean of every full 7x7 window, (H-6, W-6[, C])."""
    return cv2.boxFilter(image, cv2.CV_64F, (7, 7))[3:-3, 3:-3]


def _gauss11(image: np.ndarray) -> np.ndarray:
    """Weighted mean of every full 11x11 window, sigma 1.5, (H-10, W-10[, C])."""
    # Separable: two passes of 11 instead of 121 products for a pixel.
    kernel = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    return cv2.sepFilter2D(image, -1, kernel, kernel)[5:-5, 5:-5]


def _pool(image: np.ndarray, factor: int) -> np.ndarray:
    """Average pooling with equal kernel and stride; rows and columns left over are dropped."""
    if factor == 1:
        return image
    height, width = (side // factor for side in image.shape[:2])
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    return blocks.mean(axis=(1, 3))


def _gray224(frame: np.ndarray) -> np.ndarray:
    """(224, 224) float64: resized in colour as uint8, then made gray as uint8, both by OpenCV, as published."""
    small = cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float64)


class FrameMetric(Metric):
    """Mean over frames of a function of frame pairs, in `evaluation.region` and always in the mouth's box too.

    The function gives one and the same value for any two equal frames.
    """

    pointwise = True
    per_frame = True
    function: ClassVar[Callable[..., float]]
    key: ClassVar[str]
    unit: ClassVar[str]
    about: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Name both figures."""
        super().__init_subclass__(**kwargs)
        cls.figures = {
            cls.key: Figure(cls.unit, True, f"{cls.about}, region of evaluation.region"),
            f"{cls.key}_mouth": Figure(cls.unit, True, f"{cls.about} in the mouth's box"),
        }

    @property
    def variant(self) -> str:
        """Name of the definition in use."""
        return self.settings.ssim_variant

    def definition(self) -> dict[str, Any]:
        """Variant and region of both figures."""
        return {
            self.key: {"variant": self.variant, "region": self.settings.region},
            f"{self.key}_mouth": {"variant": self.variant, "region": "mouth"},
        }

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Mean over the frames of the shorter video; frames without the region do not count."""
        regions = {self.key: self.settings.region, f"{self.key}_mouth": "mouth"}
        boxes = {region: sample.cuts(region) for region in dict.fromkeys(regions.values())}
        values: dict[str, list[float]] = {region: [] for region in boxes}
        for index, (generated, real) in enumerate(sample.pairs()):
            for region, found in boxes.items():
                # One pass over both videos for all regions: decoding takes longer than comparing.
                values[region].append(self._compare(generated, real, found, index))
        result = {}
        for key, region in regions.items():
            result[key], frames, excluded = mean_of(values[region])
            sample.count(key, frames, excluded)
        return result

    def _compare(self, generated: np.ndarray, real: np.ndarray, boxes: np.ndarray | None, index: int) -> float:
        same = generated is real
        if boxes is not None:
            if index >= len(boxes):
                return math.nan
            parts = crop(generated, boxes[index]), crop(real, boxes[index])
            if parts[0] is None or parts[1] is None:
                return math.nan
            generated, real = parts
        if same:  # the real row: one answer for all frames that are large enough
            generated = real = generated[:_ENOUGH, :_ENOUGH]
        return type(self).function(generated, real, self.variant)


class SSIM(FrameMetric):
    """Structural similarity to the real frames."""

    name, key, unit, about = "SSIM", "ssim", "", "structural similarity"
    function = staticmethod(ssim)


class PSNR(FrameMetric):
    """Peak signal-to-noise ratio to the real frames."""

    name, key, unit, about = "PSNR", "psnr", "dB", "peak signal-to-noise ratio"
    function = staticmethod(psnr)

    @property
    def variant(self) -> str:
        """Name of the definition in use."""
        return psnr_variant(self.settings.ssim_variant)
