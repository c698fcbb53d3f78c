"""Pasting by parsed skin: the mask of hand-made cases, and the parser's door."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.errors import CheckpointError, DataError
from talkingface.faces.parsing import PASTED, FaceParser, box_blur, parsed_weights
from talkingface.networks.bisenet import CLASSES, SIDE, BiSeNet

FULL = np.ones((SIDE, SIDE), bool)


def test_the_mask_is_the_lower_half_without_the_sides_eroded_and_softened():
    weights = parsed_weights(FULL, 100, 200, blur=3)
    # 15 % of 200 px off on both sides, the upper 50 rows off, 2 px eroded, and 1 px softened around that edge. At the
    # box's lower border the mask ends as at any other edge.
    solid = np.flatnonzero((weights == 255).any(axis=0))
    assert (solid[0], solid[-1]) == (30 + 2 + 1, 200 - 30 - 1 - 2 - 1)
    rows = np.flatnonzero((weights == 255).any(axis=1))
    assert (rows[0], rows[-1]) == (50 + 2 + 1, 100 - 1 - 2 - 1)
    assert not weights[:50].any() and not weights[:, :30].any() and not weights[:, 170:].any()
    assert weights[75, 32] == round(255 * 0.75)  # the 3-tap Gaussian is 1/4, 1/2, 1/4


def test_nothing_that_is_no_skin_is_replaced_however_wide_the_softening():
    skin = FULL.copy()
    skin[:, SIDE // 2 :] = False
    weights = parsed_weights(skin, 256, 256, blur=75)
    assert weights[:, :126].any() and not weights[:, 130:].any()


def test_the_softening_follows_the_box():
    assert box_blur(500, 500) == 75
    assert box_blur(100, 100) == 15
    assert box_blur(4, 4) == 3

    def difference(blur: int | None) -> float:
        narrow, wide = (parsed_weights(FULL, side, side, blur) for side in (100, 400))
        return float(np.abs(wide[::4, ::4].astype(int) - narrow).mean())

    # The same mask at another size, but for the erosion, which counts pixels.
    assert difference(None) < difference(75) / 2


def test_the_parser_finds_the_pixels_of_skin_mouth_and_lips(tmp_path):
    """A network that calls the left half skin, the right half hair, whatever it sees."""

    class Halves(torch.nn.Module):
        def forward(self, images):
            scores = torch.zeros(len(images), len(CLASSES), *images.shape[-2:])
            scores[:, CLASSES.index("skin"), :, : SIDE // 2] = 1
            scores[:, CLASSES.index("hair"), :, SIDE // 2 :] = 1
            return scores

    faces = [np.zeros((60, 40, 3), np.uint8), np.zeros((30, 90, 3), np.uint8)]
    skin = FaceParser(Halves()).skin(faces)
    assert skin.shape == (2, SIDE, SIDE) and skin[:, :, : SIDE // 2].all() and not skin[:, :, SIDE // 2 :].any()
    assert FaceParser(Halves()).skin([]).shape == (0, SIDE, SIDE)
    assert [CLASSES.index(name) for name in PASTED] == [1, 11, 12, 13]


def test_the_parser_takes_its_file_and_no_other(tmp_path):
    path = tmp_path / "face_segmentation.pth"
    with pytest.raises(DataError, match="paste=contour"):
        FaceParser.load(path)
    state = BiSeNet().state_dict()
    torch.save(state, path)
    assert FaceParser.load(path).network.conv_out.conv_out.weight.equal(state["conv_out.conv_out.weight"])
    state.pop("conv_out.conv_out.weight")
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="conv_out"):
        FaceParser.load(path)
