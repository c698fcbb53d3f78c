"""The S3FD face detector against the published implementation: raw heads, decoding, suppression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.faces.s3fd import S3FDDetector, decode, suppress
from talkingface.networks.s3fd import MEANS, S3FD


def check_heads(v, heads):
    for level, (confidence, location) in enumerate(zip(heads[::2], heads[1::2]), start=1):
        v.check(f"cls{level}", confidence)
        v.check(f"reg{level}", location)


@torch.no_grad()
def test_raw_heads_of_a_picture_equal_the_published_ones(vector):
    v = vector("metrics", "s3fd")
    network = v.load(S3FD()).eval()
    pixels = torch.from_numpy(np.floor(256 * v.input("s3fd_img")))
    check_heads(v, network(pixels - torch.tensor(MEANS)[:, None, None]))


@torch.no_grad()
def test_inner_layers_and_heads_of_a_batch_equal_the_published_ones(vector):
    v = vector("faces", "s3fd")
    network = v.load(S3FD()).eval()
    assert sum(p.numel() for p in network.parameters()) == v["parameters"]
    seen = {}
    for name in ("conv2_2", "conv3_3_norm", "conv4_3_norm"):
        getattr(network, name).register_forward_hook(
            lambda module, given, output, name=name: seen.__setitem__(name, output.clone())
        )
    check_heads(v, network(torch.from_numpy(v.input("image"))))
    for name, output in seen.items():
        v.check(name, output)


@torch.no_grad()
def test_the_detector_prepares_pictures_as_published(vector):
    v = vector("metrics", "s3fd")
    network = v.load(S3FD())
    seen = []
    detector = S3FDDetector(network)
    network.register_forward_hook(lambda module, given, output: seen.append(output))
    picture = np.floor(256 * v.input("s3fd_img"))[0].transpose(1, 2, 0).astype(np.uint8)
    detector.detect([picture])
    check_heads(v, seen[0])


def boxes_of(v, names, cls, least):
    heads = []
    for confidence, location in names:
        heads += [torch.from_numpy(cls(v.input(confidence))), torch.from_numpy(v.input(location))]
    return decode(heads, least)[0]


def check_boxes(got, want):
    np.testing.assert_allclose(got[: len(want)], np.array(want), rtol=1e-5, atol=1e-4)


def shifted(x):
    x = 2 * x
    x[:, 0] += 7
    return x


CASES = [
    ("metrics", [(f"head_cls{k}", f"head_reg{k}") for k in range(6)], shifted),
    ("faces", [(f"decode_cls{k}", f"decode_reg{k}") for k in range(1, 7)], lambda x: x),
]


@pytest.mark.parametrize("system, names, cls", CASES, ids=["metrics", "faces"])
def test_decoded_boxes_equal_the_published_ones(vector, system, names, cls):
    v = vector(system, "s3fd")
    stored = v["decode"]
    candidates = boxes_of(v, names, cls, 0.05)
    kept = suppress(candidates, 0.3)
    sure = kept[kept[:, 4] > 0.5]
    if system == "metrics":
        assert len(candidates) == stored["candidates_above_0.05"] and len(kept) == stored["kept_after_nms_0.3"]
        want = stored["kept_after_nms_0.3_and_score_0.5"]
        assert len(sure) == len(want)
    else:
        assert len(candidates) == stored["candidates_over_0.05"]
        want = stored["boxes"]
        assert len(sure) == stored["kept_after_nms_and_0.5"]
    check_boxes(sure, want)


@pytest.mark.parametrize("system, names, cls", CASES, ids=["metrics", "faces"])
def test_shortcuts_change_no_box(vector, system, names, cls):
    v = vector(system, "s3fd")
    kept = suppress(boxes_of(v, names, cls, 0.05), 0.3)
    sure = boxes_of(v, names, cls, 0.5)
    np.testing.assert_array_equal(suppress(sure, 0.3), kept[kept[:, 4] > 0.5])
    np.testing.assert_array_equal(suppress(sure, 0.3, most=1), kept[:1])
