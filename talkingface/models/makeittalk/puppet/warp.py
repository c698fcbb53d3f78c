"""A puppet moved by its triangles. Source: what MakeItTalk's warping program draws, without its repeated texture."""

from __future__ import annotations

import cv2
import numpy as np

from talkingface.faces.warp import TriangleWarp
from talkingface.models.makeittalk.config import Anchor, Interior
from talkingface.models.makeittalk.head_mesh import darken, lip_colour
from talkingface.models.makeittalk.puppet.mesh import mouth_gap, vertices
from talkingface.models.makeittalk.puppet.puppet import Puppet

OPEN = 0.06
"""Shares of the mouth's width that lie between the lips of a mouth that counts as open."""


class PuppetWarp:
    """Draws a puppet with its landmarks elsewhere.

    Triangles are drawn in the order of their file, later ones over earlier ones, whichever side they show. Beyond the
    picture its border goes on.

    Args:
        puppet: what is moved.
        anchor: see `config.Anchor`.
        interior: see `config.Interior`.
    """

    def __init__(self, puppet: Puppet, anchor: Anchor = "far", interior: Interior = "auto") -> None:
        self.puppet, self.anchor = puppet, anchor
        self.dark = interior == "dark" or (interior == "auto" and mouth_gap(puppet.points) < OPEN)
        source = vertices(puppet.points, puppet.size, puppet.layout, anchor)
        self._warp = TriangleWarp(source, puppet.triangles, puppet.size, both_sides=True)
        self._lips = lip_colour(puppet.shown, puppet.points)
        # What is seen on white mixes like premultiplied colour: nothing that is hidden bleeds into the edges.
        self._texture = np.ascontiguousarray(np.dstack([puppet.shown, puppet.opacity]))

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The puppet with its landmarks at (68, 2) pixels: (H, W, 3) uint8 RGB on white, and its opacity (H, W)."""
        puppet = self.puppet
        moved = self._warp(self._texture, vertices(points, puppet.size, puppet.layout, self.anchor))
        shown, opacity = cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), cv2.extractChannel(moved, 3)
        if self.dark:
            darken(shown, points, puppet.points, self._lips)
        return shown, opacity
