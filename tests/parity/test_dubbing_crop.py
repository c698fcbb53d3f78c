"""Frontalisation, holes and paste of LawDNet are as published."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.faces.affine import crop_by_matrix, mapped, paste_scattered
from talkingface.faces.dubbing_crop import crop_hw, frontal_matrices, frontal_template
from talkingface.networks.dubbing.geometry import feather, hide, soft_hole


@pytest.fixture(scope="module")
def v(vector):
    return vector("lawdnet", "frontalisation")


@pytest.fixture(scope="module")
def frames(v):
    return v.input("frame").transpose(0, 2, 3, 1) * 255


def planes(pictures: list[np.ndarray]) -> np.ndarray:
    return np.stack(pictures).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def matrices(v):
    return frontal_matrices(np.array(v["literal_inputs"]["landmarks"]), v["constructor"]["out_W"])


def test_landmarks_give_the_published_matrices(v, matrices):
    v.check("template25", frontal_template(v["constructor"]["ratio"]), 1e-6)
    bottom = np.broadcast_to([[0.0, 0.0, 1.0]], (len(matrices), 1, 3))
    v.check("matrix", np.concatenate([matrices, bottom], axis=1), 1e-6)
    v.check("landmarks_in_crop", mapped(np.array(v["literal_inputs"]["landmarks"]), matrices), 1e-6)


def test_matrices_give_the_published_crops_and_pastes(v, frames, matrices):
    size = crop_hw(v["constructor"]["out_W"])
    crops = [crop_by_matrix(frame, matrix, size, half_pixel=True) for frame, matrix in zip(frames, matrices)]
    v.check("crop", planes(crops), 1e-4)
    faces = v.input("face").transpose(0, 2, 3, 1) * 255
    v.check("recovered_frame", planes([paste_scattered(*each) for each in zip(frames, faces, matrices)]), 1e-6)


def test_holes_and_feather_are_the_published_ones(v, frames):
    size = crop_hw(v["constructor"]["out_W"])
    hole = soft_hole(*size)
    v.check("soft_mask_64", 1 - hole, 1e-6)
    v.check("soft_mask_288", 1 - soft_hole(468, 360), 1e-6)
    v.check("masked_64", hide(torch.from_numpy(v.input("mask_input")), hole), 1e-6)
    weights = feather(hole).numpy()
    corner = planes(list(frames))[..., : size[0], : size[1]]
    v.check("feathered", weights * v.input("face") * 255 + (1 - weights) * corner, 1e-6)
