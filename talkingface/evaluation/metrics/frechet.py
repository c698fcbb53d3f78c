"""The Frechet distance of two sets of features: torchmetrics keeps the sums, the distance is computed here.

torchmetrics takes the eigenvalues of the product of two covariances, which is not symmetric: slow, and inexact where
there are fewer samples than features. Here the symmetric form is used, and the root of the real side is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance


class _Given(nn.Module):
    """Takes features instead of pictures, so that those of real frames can be used in several rows of a report."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return features


class FrechetSums(FrechetInceptionDistance):
    """Sums of two sets of features, float64 on the CPU: `update(features, real=True)`, `compute()`, `reset()`.

    Args:
        num_features: D.
    """

    def __init__(self, num_features: int = 2048) -> None:
        # One process evaluates while the others wait elsewhere: nothing may be gathered from them.
        super().__init__(feature=_Given(num_features), sync_on_compute=False)
        # So that `state_dict` holds the sums, which `all_or_nothing` puts back.
        self.persistent(True)
        self._root: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Within: when an exception leaves the block, what was added there is taken back."""
        before = {key: value.clone() for key, value in self.state_dict().items()}
        try:
            yield
        except BaseException:
            self.load_state_dict(before)
            raise

    def counts(self) -> tuple[int, int]:
        """How many samples there are: real, generated."""
        return int(self.real_features_num_samples), int(self.fake_features_num_samples)

    def compute(self) -> Tensor:
        """The distance, a float64 scalar.

        Raises:
            ValueError: a side has fewer than two samples.
        """
        if min(self.counts()) < 2:
            raise ValueError("the Frechet distance needs at least two samples on either side")
        real = _moments(self.real_features_sum, self.real_features_cov_sum, self.real_features_num_samples)
        fake = _moments(self.fake_features_sum, self.fake_features_cov_sum, self.fake_features_num_samples)
        # Heusel et al., section 3: |m1 - m2|^2 + Tr (S1 + S2 - 2 (S1 S2)^(1/2)).
        means = (real[0] - fake[0]).square().sum()
        return means + real[1].trace() + fake[1].trace() - 2 * self._trace_of_root(real[1], fake[1])

    def _trace_of_root(self, real: Tensor, fake: Tensor) -> Tensor:
        """Tr (S1 S2)^(1/2), from the eigenvalues of R^T S2 R with R R^T = S1; rounding makes some slightly negative.

        R has as many columns as S1 has rank: the square roots of rounding noise in the others would add up.
        """
        if self._root is None or not torch.equal(self._root[0], real):
            values, vectors = torch.linalg.eigh(real)
            some = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
            self._root = (real, vectors[:, some] * values[some].sqrt())
        root = self._root[1]
        return torch.linalg.eigvalsh(root.T @ fake @ root).clamp_min(0).sqrt().sum()


def _moments(total: Tensor, products: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) with N - 1."""
    mean = total / count
    return mean, (products - count * torch.outer(mean, mean)) / (count - 1)
