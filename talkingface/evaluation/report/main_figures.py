"""Which figures are told first, wherever there is room for a few."""

from __future__ import annotations

from collections.abc import Collection, Sequence

ORDER = (
    *("mouth_corr", "lse_c", "lse_d", "fid", "ssim_mouth", "m_lmd_aligned", "psnr_mouth"),
    *("expert_sync", "lpips_mouth", "csim", "jitter_mouth", "ssim", "psnr", "m_lmd", "lpips", "av_corr"),
)
"""Lip sync first, then pictures, then the calm of the face."""

MAIN = 6
"""So many are shown unfolded."""


def main_figures(known: Sequence[str], directed: Collection[str], most: int = MAIN) -> list[str]:
    """At most `most` of the figures `known`: those of `ORDER` first, then others of which one way is better.

    Where no figure is better one way, the first ones.
    """
    order = [*(key for key in ORDER if key in known), *(key for key in known if key in directed)]
    return list(dict.fromkeys(order or known))[:most]
