"""Metrics against numbers taken from the published implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.evaluation.metrics import image, lmd, lse
from talkingface.lipsync.public.face_track import running_median
from talkingface.lipsync.public.windows import embed, windows_scored
from talkingface.networks.syncnet_v2 import SyncNetV2
from talkingface.sound import mfcc


def pcm_of(v):
    return mfcc.pcm16(v.signal())


def images(v, case):
    """The pair (real, generated) of a case, (N, H, W, 3) uint8."""
    base = v.input(f"img_{case}").repeat(8, axis=1).repeat(8, axis=2)
    real = np.clip(np.floor(200 * base + 20 + 6 * v.input(f"noise2_{case}")), 0, 255).astype(np.uint8)
    noisy = 0.9 * real.astype(np.float64) + (8 + 12 * v.input(f"noise_{case}"))
    return real, np.clip(np.floor(noisy), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("stored, variant", [
    ("piq_ssim", "piq"),
    ("skimage_ssim_gray224_uniform7", "gray224"),
    ("skimage_ssim_rgb_uniform7", "skimage"),
    ("skimage_ssim_rgb_gauss_wang", "wang"),
    ("piq_psnr", "piq"),
    ("skimage_psnr_uint8_255", "skimage"),
])  # fmt: skip
def test_image_scores_equal_the_published_ones(vector, stored, variant):
    v = vector("metrics", "ssim_psnr")
    function, tolerance = (image.psnr, 1e-4) if "psnr" in stored else (image.ssim, 5e-6)
    for case, values in v["values"].items():
        real, generated = images(v, case)
        if variant == "gray224":  # the vector's arrays are BGR
            real, generated = real[..., ::-1], generated[..., ::-1]
        got = [function(g, r, variant) for g, r in zip(generated, real)]
        assert got == pytest.approx(values[stored], abs=tolerance), case


def test_piq_without_pooling_is_wang(vector):
    v = vector("metrics", "ssim_psnr")
    for case, values in v["values"].items():
        real, generated = images(v, case)
        got = [image.ssim(g, r, "wang") for g, r in zip(generated, real)]
        assert got == pytest.approx(values["piq_ssim_no_downsample"], abs=1e-5), case


def test_equal_images_score_as_published(vector):
    v = vector("metrics", "ssim_psnr")
    real = images(v, "s512")[0][0]
    stored = v["identical_images_s512"]
    assert image.psnr(real, real, "piq") == pytest.approx(stored["piq_psnr_identical"], abs=1e-6)
    assert image.ssim(real, real, "piq") == pytest.approx(stored["piq_ssim_identical"], abs=1e-9)


def test_landmark_distances_equal_the_published_ones(vector):
    v = vector("metrics", "lmd")
    k = np.arange(68)
    base = np.stack([60 + 140 * k / 67, 80 + 60 * np.sin(9 * k / 67)], axis=1)
    real = base + 3 * v.input("lm_gt").astype(np.float64)
    generated = real + 2 * v.input("lm_err").astype(np.float64)
    got = {key: value.mean() for key, value in lmd.landmark_distances(generated, real).items()}
    names = {
        "lip_lmd_vico": "vico_lip_mean_abs_coordinate",
        "f_lmd": "F_LMD_euclid_all68",
        "m_lmd": "M_LMD_euclid_lips",
        "m_lmd_aligned": "M_LMD_euclid_lips_centred_on_mouth",
        "m_lmd_iod": "lip_euclid_over_interocular",
        "jaw_lip_lmd": "jaw_plus_lip_euclid",
    }
    for ours, theirs in names.items():
        assert got[ours] == pytest.approx(v["values"][theirs], rel=1e-9), ours


def test_mfcc_equals_python_speech_features(vector):
    v = vector("metrics", "mfcc")
    pcm = pcm_of(v)
    bands, energy = mfcc.energies(pcm)
    v.check("filterbank", mfcc.filterbank(), 1e-8)
    v.check("filterbank_energies", bands, 1e-8)
    v.check("frame_energy", energy, 1e-8)
    v.check("mfcc", mfcc.mfcc(pcm), 1e-8)
    v.check("mfcc_of_1600_zeros", mfcc.mfcc(np.zeros(1600, np.int16)), 1e-8)


def check_score(v, score, stored, rtol, confidence):
    assert score.offset == stored["offset"]
    assert score.distance == pytest.approx(stored["min_distance"], rel=rtol)
    assert score.median == pytest.approx(stored["median"], rel=rtol)
    assert score.confidence == pytest.approx(stored["confidence"], abs=confidence)
    v.check_stored(stored["mean_distance_per_shift"], score.mean_distance, rtol)
    v.check_stored(stored["framewise_distance"], score.framewise_distance, rtol)


def test_scores_from_embeddings_equal_the_published_ones(vector):
    v = vector("metrics", "lse_from_embeddings")
    for case in v["cases"]:
        frames, shift = case["frames"], case["shift"]
        base, noise = v.input(f"lse_base_{case['case']}"), v.input(f"lse_noise_{case['case']}")
        lip = base[20 : 20 + frames] + np.float32(case["noise"]) * noise
        audio = base[20 + shift : 20 + shift + frames]
        score = lse.score_embeddings(lip, audio, case["vshift"])
        stored = case["result"]
        check_score(v, score, stored, rtol=1e-5, confidence=1e-4 * stored["median"])
        v.check_stored(stored["framewise_confidence"], score.framewise_confidence, 1e-4)
        v.check_stored(stored["framewise_confidence_medfilt9"], running_median(score.framewise_confidence, 9), 1e-4)


@pytest.mark.parametrize("folded", [False, True])
def test_a_clip_scores_as_published(vector, folded):
    v = vector("metrics", "lse_end_to_end")
    syncnet = v.sibling("syncnet_v2")
    network = syncnet.load(SyncNetV2(syncnet["constructor"]["num_layers_in_fc_layers"])).eval()
    network = network.fold() if folded else network
    bgr = np.floor(256 * v.input("e2e_frames")).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    pcm = pcm_of(v)[: v["pcm_samples"]]
    assert windows_scored(len(bgr), len(pcm)) == v["windows_scored"]
    with torch.no_grad():
        lip, audio = embed(network, bgr[..., ::-1], pcm)
    v.check("lip_embeddings", lip)
    v.check("audio_embeddings", audio)
    check_score(v, lse.score_embeddings(lip, audio, v["constructor"]["vshift"]), v["result"], 1e-4, confidence=0.05)
