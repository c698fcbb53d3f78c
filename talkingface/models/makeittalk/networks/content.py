"""Speech content branch: where the points of a neutral, unturned face go when these words are said.

Paper: Y. Zhou et al., "MakeItTalk: Speaker-Aware Talking-Head Animation", ACM TOG 39(6) 221, 2020, section 4.1. Keys
equal those of the published `ckpt_content_branch.pth`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from talkingface.models.makeittalk.networks.pieces import FACE, WINDOW, heard, windows_of


class ContentBranch(nn.Module):
    """Window of sound and a face at rest -> displacement of its points in the window's first row.

    Args:
        bands: width of a row of sound.
        hidden: size of the layers.
        prior: size of what the LSTM reads.
        depth: layers of the LSTM.
        dropout: between layers of the LSTM, in training.
    """

    def __init__(
        self, bands: int = 80, hidden: int = 256, prior: int = 161, depth: int = 3, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.fc_prior = nn.Sequential(
            nn.Linear(bands, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, prior)
        )
        self.fc = nn.Sequential(
            nn.Linear(hidden + FACE, 2 * hidden),
            nn.BatchNorm1d(2 * hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, FACE),
        )
        # Kept: the key says otherwise, but it runs forwards only.
        self.bilstm = nn.LSTM(prior, hidden, depth, batch_first=True, dropout=dropout if depth > 1 else 0.0)

    @torch.no_grad()
    def rest_at_start(self) -> None:
        """Zero the last layer, so that training begins with a face at rest.

        As published it begins with displacements far larger than any lip makes, and stays deaf for hundreds of steps:
        what lowers the loss first is to make the output small, whatever the sound.
        """
        last = self.fc[-1]
        last.weight.zero_()
        last.bias.zero_()

    def forward(self, windows: Tensor, face: Tensor) -> Tensor:
        """Displacements of N windows.

        Args:
            windows: (N, 18, bands) normalised mel.
            face: (N or 1, 204) face at rest, in the canonical space.

        Returns:
            (N, 204), to be added to `face`.
        """
        # Every row of every window goes through the norm, as published: its statistics are over all of them.
        prior = self.fc_prior(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        return self._displaced(prior, face)

    def follow(self, rows: Tensor, face: Tensor, window: int = WINDOW) -> Tensor:
        """The same for all windows of a sound, in eval mode: what is one per row is computed once per row.

        Args:
            rows: (T, bands).
            face: (1, 204).
            window: rows in a window.

        Returns:
            (T - window + 1, 204).

        Raises:
            ValueError: fewer rows than a window has; or training mode, in which the norms need the windows.
        """
        if self.training:
            raise ValueError("follow() is for eval mode; in training the norms need the windows")
        return self._displaced(windows_of(self.fc_prior(rows), window), face)

    def _displaced(self, prior: Tensor, face: Tensor) -> Tensor:
        sound = heard(self.bilstm, prior)
        return self.fc(torch.cat([sound, face.expand(sound.shape[0], -1)], dim=-1))
