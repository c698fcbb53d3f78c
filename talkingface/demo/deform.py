"""Per-frame geometry: blend shapes, then head pose; everything in the pixels of the internal picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.demo import mesh
from talkingface.demo.identity import Identity
from talkingface.faces.warp import signed_areas, untangle


@dataclass(frozen=True)
class FrameState:
    """What a face does in one frame: mouth parameters as in `MouthTracks`, brow 0..1, blink 0..1, pose (5,)."""

    jaw: float = 0.0
    width: float = 0.0
    press: float = 0.0
    tuck: float = 0.0
    brow: float = 0.0
    blink: float = 0.0
    pose: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)


def pose_points(identity: Identity, state: FrameState) -> tuple[np.ndarray, np.ndarray]:
    """Move the mesh.

    Returns:
        Points (V, 2) of the frame in internal pixels, and the mouth gap (11,) along the lip before the head pose.
    """
    moves = identity.moves
    # Width is one number for two movements: spreading a mouth is not the opposite of rounding it.
    points = identity.rest + (
        state.jaw * moves["jaw"]
        + max(state.width, 0.0) * moves["spread"]
        + max(-state.width, 0.0) * moves["round"]
        + state.press * moves["press"]
        + state.tuck * moves["tuck"]
        + state.brow * moves["brow"]
    )
    # Lips never cross: where they would, both meet half way and the mouth is closed there.
    upper, lower = mesh.UPPER_INNER, mesh.LOWER_INNER
    crossing = np.maximum(points[upper, 1] - points[lower, 1], 0) / 2
    crossing[[0, -1]] = 0
    points[upper, 1] -= crossing
    points[lower, 1] += crossing
    # Measured before the head turns: how far a mouth is open does not depend on where the head looks.
    gap = points[lower, 1] - points[upper, 1]
    points = _turn_head(identity, points, state.pose)
    # Strong shapes on top of each other may fold a triangle over its neighbour. A few sweeps do: what still overlaps,
    # the rasteriser leaves out.
    if (signed_areas(points, identity.triangles) <= 0).any():
        points = untangle(points, identity.triangles, identity.movable, 4, identity.neighbours)
    return points, gap


def _turn_head(identity: Identity, points: np.ndarray, pose: tuple[float, float, float, float, float]) -> np.ndarray:
    """Rotate about a pivot 0.35 face heights behind the face, project orthographically, shift.

    Args:
        identity: gives depth, face height and how much each point follows the head.
        points: (V, 2) in internal pixels.
        pose: yaw, pitch, roll in degrees; shift in x and y in face heights.
    """
    yaw, pitch, roll = np.radians(pose[:3])
    height = identity.face_height
    # A head turns on its neck, not in the plane of its face: with the pivot behind, the nose travels further than the
    # ears.
    pivot = np.append((identity.rest[mesh.FOREHEAD] + identity.rest[mesh.CHIN]) / 2, 0.35 * height)
    local = np.column_stack([points, identity.depth]) - pivot
    # Only two rows of the rotation: the projection is orthographic and drops the depth.
    turned = local @ _rotation(yaw, pitch, roll)[:2].T
    shift = turned + pivot[:2] + np.array(pose[3:]) * height - points
    # Points around the head follow it less and less, so that the still background joins without a seam.
    return points + identity.follow[:, None] * shift


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def frame_landmarks(identity: Identity, points: np.ndarray) -> np.ndarray:
    """(468, 2) landmarks in pixels of the finished frame (after shrinking and mirroring).

    In mirrored identities point 61 shows up at the other corner of the mouth: the numbers are not swapped here, only
    for the lips in `lip_landmarks`.
    """
    scale = identity.size / identity.side
    # Pixel centres lie at whole numbers, picture borders at -0.5: half a pixel is added before scaling, taken off
    # after.
    placed = (points[: mesh.POINTS] + 0.5) * scale - 0.5
    if identity.mirror:
        placed[:, 0] = identity.size - 1 - placed[:, 0]
    return placed


def lip_landmarks(identity: Identity, landmarks: np.ndarray) -> np.ndarray:
    """(40, 2): the 20 outer and the 20 inner lip points, numbered as a detector would number them in the frame."""
    lips = landmarks[mesh.LIP_LANDMARKS]
    if identity.mirror:  # the loops start at the left corner and run over the upper lip: mirror = reverse both halves
        order = [*range(10, -1, -1), *range(19, 10, -1)]
        lips = np.concatenate([lips[:20][order], lips[20:][order]])
    return lips


def measures(landmarks: np.ndarray) -> tuple[float, float]:
    """(opening, width) of the mouth over face height: |13 - 14| and |61 - 291| over |10 - 152|."""

    def distance(a: int, b: int) -> float:
        return float(np.linalg.norm(landmarks[a] - landmarks[b]))

    height = distance(mesh.FOREHEAD, mesh.CHIN)
    return distance(13, 14) / height, distance(61, 291) / height
