from __future__ import annotations

import hashlib
import math
import tracemalloc

import numpy as np
import pytest
import torch

from helpers.clips import write_clip
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError, MediaError, Unavailable
from talkingface.evaluation.metric import make_metric
from talkingface.evaluation.metrics import lse
from talkingface.evaluation.metrics.inference import Weights
from talkingface.evaluation.sample import EvalSample
from talkingface.lipsync.public.windows import LipWindows, embed, lip_input
from talkingface.networks.syncnet_v2 import SyncNetV2
from talkingface.sound import mfcc as mfcc_module
from talkingface.sound.mfcc import energies, mfcc, pcm16


class Averages(torch.nn.Module):
    """Stands in for SyncNet: embeddings are plain statistics of the windows."""

    def forward_lip(self, windows):
        return torch.stack([windows[:, 0].mean((1, 2, 3)), windows[:, 2].mean((1, 2, 3))], dim=1)

    def forward_audio(self, windows):
        return windows.mean((1, 2, 3))[:, None].expand(-1, 2)


def numbered(count, size=(20, 30)):
    """Frames whose red value is their number and whose blue is twice that."""
    for number in range(count):
        yield np.full((*size, 3), (number, 0, 2 * number), np.uint8)


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_lip_windows_are_bgr_and_do_not_depend_on_the_batch(batch):
    windows = LipWindows(Averages(), batch=batch)
    for frame in numbered(12):
        windows.add(lip_input(frame))
    got = windows.finish()
    centre = np.arange(2, 10)  # mean number of frames v .. v+4
    np.testing.assert_allclose(got, np.stack([2 * centre, centre], axis=1))


def test_the_last_window_is_left_out_and_the_shorter_stream_decides():
    pcm = np.zeros(640 * 10 + 639, np.int16)
    assert len(embed(Averages(), numbered(30), pcm)[0]) == 5
    lip, audio = embed(Averages(), numbered(9), pcm)
    assert len(lip) == len(audio) == 4
    with pytest.raises(DataError, match="at least 6 frames"):
        embed(Averages(), numbered(5), pcm)
    with pytest.raises(DataError, match="there are 0"):
        embed(Averages(), numbered(9), pcm[:100])


def test_scores_by_hand():
    lip = np.zeros((40, 4), np.float32)
    audio = np.zeros((40, 4), np.float32)
    lip[:, 0] = np.arange(40) % 7
    audio[3:, 0] = lip[:-3, 0]  # the sound comes three frames late
    score = lse.score_embeddings(lip, audio, padding="valid")
    assert score.offset == -3
    assert score.distance == pytest.approx(2e-6, abs=1e-9)  # four times 1e-6, squared, summed, rooted
    by_hand = [
        np.mean([abs(lip[t, 0] - audio[t + s, 0]) for t in range(40) if 0 <= t + s < 40]) for s in range(-15, 16)
    ]
    assert score.confidence == pytest.approx(np.median(by_hand), abs=1e-5)


@pytest.mark.parametrize("shift", [-10, -1, 0, 4, 10])
def test_shifting_the_sound_moves_the_offset_by_as_much(shift):
    base = np.random.default_rng(0).normal(size=(100, 32)).astype(np.float32)
    for padding in ("zero", "valid"):
        assert lse.score_embeddings(base[20:80], base[20 + shift : 80 + shift], padding=padding).offset == shift


def test_pcm_from_a_file_comes_back_exactly():
    pcm = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    assert np.array_equal(pcm16(pcm.astype(np.float32) / 32768), pcm)
    assert pcm16(pcm) is pcm
    assert pcm16(np.array([1.5, -1.5, 0.1], np.float32)).tolist() == [32767, -32768, 3277]


@pytest.mark.parametrize("samples, frames", [(0, 1), (1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16000, 99)])
def test_mfcc_length(samples, frames):
    assert mfcc(np.ones(samples, np.int16)).shape == (frames, 13)


def test_missing_weights_are_not_available(tmp_path):
    with pytest.raises(Unavailable, match=r"weights not found: .*LSE.syncnet_v2\.model"):
        make_metric("lse", weights_dir=tmp_path).prepare()
    (tmp_path / "LSE").mkdir()
    (tmp_path / "LSE" / "syncnet_v2.model").write_bytes(b"not weights")
    with pytest.raises(Unavailable, match="not the published file"):
        make_metric("LSE", weights_dir=tmp_path).prepare()
    own = EvaluationConfig(lse_checkpoint=str(tmp_path / "LSE" / "syncnet_v2.model"))
    with pytest.raises(Unavailable, match="syncnet_v2"):
        make_metric("LSE", own).prepare()


def test_weights_are_loaded_and_their_hash_is_reported(tmp_path):
    torch.manual_seed(0)
    state = {k: v for k, v in SyncNetV2().state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "mine.model")
    metric = make_metric("LSE", EvaluationConfig(lse_checkpoint=str(tmp_path / "mine.model")))
    metric.prepare()
    weights = metric.definition()["lse"]["weights"]
    assert weights["sha256"] == hashlib.sha256((tmp_path / "mine.model").read_bytes()).hexdigest()
    assert weights["published"] is False
    assert not math.isnan(float(metric._network.forward_audio(torch.zeros(1, 1, 13, 20)).sum()))


@pytest.mark.parametrize("shift", [-7, 0, 4])
def test_the_curve_for_the_report_has_its_valley_at_the_offset(tmp_path, monkeypatch, shift):
    base = np.random.default_rng(0).normal(size=(100, 32)).astype(np.float32)
    score = lse.score_embeddings(base[20:80], base[20 + shift : 80 + shift])
    metric = make_metric("LSE")
    metric._network = Averages()
    monkeypatch.setattr(metric, "_score_clip", lambda sample, pcm: score)
    clip = write_clip(tmp_path / "clip.mp4")
    sample = EvalSample("a", "real", clip, clip)
    assert metric.score(sample)["av_offset"] == shift
    assert len(sample.curves["lse"]) == 31 and int(np.argmin(sample.curves["lse"])) - 15 == shift
    assert metric.definition()["lse_c"] == {"variant": "clip"}


def peak(work, *arguments) -> int:
    """Bytes that were allocated at once at most."""
    tracemalloc.start()
    try:
        work(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_twice_the_length_takes_little_more_memory_than_the_results():
    """Of a second of sound the spectra are 0.4 MB, of a window the float64 copies 34 kB."""
    pcm = np.random.default_rng(0).integers(-3000, 3000, 16000 * 50).astype(np.int16)
    sound = pcm.astype(np.float32) / 40000
    half = len(pcm) // 2
    for work, data, result in ((mfcc, pcm, 13 * 8 / 160), (pcm16, sound, 2)):
        assert peak(work, data) - peak(work, data[:half]) < 1.5 * result * half, work
    lip, audio = np.random.default_rng(0).normal(size=(2, 800, 1024)).astype(np.float32)
    growth = peak(lse.score_embeddings, lip, audio) - peak(lse.score_embeddings, lip[:400], audio[:400])
    assert growth < 2000 * 400


def test_blocks_make_no_difference(monkeypatch):
    pcm = np.random.default_rng(0).integers(-3000, 3000, 160 * 37 + 55).astype(np.int16)
    sound = pcm.astype(np.float32) / 40000
    lip, audio = np.random.default_rng(0).normal(size=(2, 70, 32)).astype(np.float32)

    def results():
        scores = [lse.score_embeddings(lip, audio, padding=padding) for padding in ("zero", "valid")]
        return [mfcc(pcm), *energies(pcm), pcm16(sound), *(s.mean_distance for s in scores)]

    whole = results()
    monkeypatch.setattr(mfcc_module, "BLOCK", 7)
    monkeypatch.setattr(lse, "BLOCK", 9)
    for one, other in zip(whole, results(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-13)
    assert np.array_equal(whole[3], results()[3])


def test_float64_is_done_with_before_the_network_moves_to_its_device(tmp_path, monkeypatch):
    """Apple's GPUs have no float64, in which batch norms are folded."""
    folded, fold = [], SyncNetV2.fold
    monkeypatch.setattr(SyncNetV2, "load", lambda self, path: self)
    monkeypatch.setattr(
        SyncNetV2, "fold", lambda self: folded.append(next(self.parameters()).device.type) or fold(self)
    )
    monkeypatch.setattr(lse, "find_weights", lambda *_: Weights(tmp_path, {}))
    metric = make_metric("LSE", device="meta")
    metric.prepare()
    assert folded == ["cpu"] and next(iter(metric._network.state_dict().values())).device.type == "meta"


def test_a_damaged_video_is_reported_while_it_is_read_ahead(tmp_path):
    def frames():
        yield from numbered(10)
        raise MediaError("cut.mp4: truncated")

    with pytest.raises(MediaError, match=r"cut\.mp4: truncated"):
        embed(Averages(), frames(), np.zeros(16000, np.int16))
