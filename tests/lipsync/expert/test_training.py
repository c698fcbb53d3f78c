"""Objectives of the lip-sync expert, its embeddings, and the figures that say how well it decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from helpers.sync_clips import people
from talkingface.config.sections import StageConfig
from talkingface.errors import ConfigError
from talkingface.lipsync.expert import embedding as sync_embedding
from talkingface.lipsync.expert.causes import unit_vectors
from talkingface.lipsync.expert.data import SyncWindows
from talkingface.lipsync.expert.embedding import (
    ClipEmbeddings,
    batch_statistics,
    cosines,
    embed_clip,
    embed_clips,
    embed_mixed,
    expert_input,
    pair_scores,
    score_of,
)
from talkingface.lipsync.expert.objectives import in_clip_loss, published_loss
from talkingface.lipsync.expert.scores import Sweep, clip_figures, mean_figures, pair_figures, sweep_of
from talkingface.lipsync.expert.training import expert_size
from talkingface.models.syncnet.model import SyncNet, SyncNetConfig
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert
from talkingface.networks.sync_expert import SyncExpert
from talkingface.plugin.configuration import load_config
from talkingface.plugin.contract import StepContext

CROP = {"size": 48, "margin_mode": "relative", "margin": 0.05, "box": "fixed", "rule": "mesh"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    clips = people(tmp_path_factory.mktemp("clips"), 3, frames=40)
    return SyncWindows(clips, "val", {}, SyncNetConfig(crop=CROP))


@pytest.fixture(scope="module")
def expert():
    """A small expert whose running averages are not those of its first batch."""
    torch.manual_seed(3)
    network = SyncExpert((24, 48), 0.0625)
    network(torch.randn(6, 1, 80, 16), torch.rand(6, 15, 24, 48))
    return network.eval()


# -- objectives --------------------------------------------------------------------------------------------------------


def test_in_clip_loss_weighs_the_true_pairs_as_much_as_all_others():
    cosine = torch.tensor([[[0.9, 0.2], [0.4, 0.6]], [[0.5, 0.5], [0.5, 0.5]]])
    true = np.mean([-math.log(0.9), -math.log(0.6), -math.log(0.5), -math.log(0.5)])
    others = np.mean([-math.log(0.8), -math.log(0.6), -math.log(0.5), -math.log(0.5)])
    assert in_clip_loss(cosine).item() == pytest.approx((true + others) / 2, abs=1e-6)


def test_published_loss_is_the_cross_entropy_of_one_pair_per_item():
    cosine = torch.tensor([0.8, 0.3, 0.6]).reshape(3, 1, 1)
    expected = np.mean([-math.log(0.8), -math.log(0.7), -math.log(0.6)])
    assert published_loss(cosine, torch.tensor([[1.0], [0.0], [1.0]])).item() == pytest.approx(expected, abs=1e-6)


def test_cosines_beyond_their_range_give_bounded_losses_and_slopes():
    cosine = torch.tensor([[[0.0, 1.0], [1.0 + 1e-6, -1e-6]]], requires_grad=True)
    loss = in_clip_loss(cosine)
    loss.backward()
    assert 10 < loss.item() < 20
    assert cosine.grad.abs().max() < 1e6


def test_the_cosines_are_computed_in_float32_under_autocast(expert, dataset):
    batch = {name: torch.from_numpy(value)[None] for name, value in dataset[0].items()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cosine = pair_scores(expert, batch)
    assert cosine.dtype == torch.float32
    assert len(np.unique(cosine.numpy())) > 60  # bf16 knows 128 values from 0.5 to 1


def test_the_networks_input_is_bgr_frame_after_frame(expert):
    faces = torch.randint(0, 256, (2, 5, 24, 48, 3), dtype=torch.uint8)
    stacked = expert_input(faces)
    assert stacked.shape == (2, 15, 24, 48)
    np.testing.assert_allclose(stacked[1, 3 * 2 + 0], faces[1, 2, ..., 2] / 255)  # third frame, blue
    whole = torch.zeros(2, 3, 5, 48, 48)
    whole[..., 24:, :] = faces.permute(0, 4, 1, 2, 3) / 255
    np.testing.assert_allclose(stacked, expert.window(whole), atol=1e-7)


def test_pairs_stand_in_rows_of_mouths_and_columns_of_sounds(expert, dataset):
    items = [dataset.windows(clip, [0, 7, 20]) for clip in dataset.clips[:2]]
    batch = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
    with torch.no_grad():
        cosine = pair_scores(expert, batch)
        mouth = expert.embed_faces(expert_input(batch["faces"][1, 2][None]))
        sound = expert.embed_audio(batch["mel"][1, 0][None])
    assert cosine.shape == (2, 3, 3)
    assert cosine[1, 2, 0].item() == pytest.approx((mouth * sound).sum().item(), abs=1e-6)


# -- embeddings --------------------------------------------------------------------------------------------------------


def test_embeddings_do_not_depend_on_the_batch(expert, dataset):
    parts = [embed_clip(expert, *dataset.whole(dataset.clips[0]), batch=size) for size in (1, 7, 64)]
    for other in parts[1:]:
        np.testing.assert_allclose(parts[0].mouths, other.mouths, atol=1e-6)
        np.testing.assert_allclose(parts[0].sounds, other.sounds, atol=1e-6)


def test_mixed_batches_give_every_clip_its_own_embeddings_back(expert, dataset, monkeypatch):
    monkeypatch.setattr(sync_embedding, "batch_statistics", lambda network: torch.no_grad())
    rng = np.random.default_rng(0)
    mixed = embed_mixed(expert, dataset, dataset.clips, rng, batch=10)
    for one, other in zip(mixed, embed_clips(expert, dataset, dataset.clips), strict=True):
        np.testing.assert_array_equal(one.starts, other.starts)
        np.testing.assert_allclose(one.mouths, other.mouths, atol=1e-6)
        np.testing.assert_allclose(one.sounds, other.sounds, atol=1e-6)


def test_batch_statistics_depend_on_the_batch_and_leave_the_running_averages_alone(expert):
    before = {name: value.clone() for name, value in expert.state_dict().items()}
    mel = torch.randn(4, 1, 80, 16)
    frozen = expert.embed_audio(mel)
    with batch_statistics(expert):
        assert expert.state_dict().keys() == before.keys()
        inside = expert.embed_audio(mel)
        torch.testing.assert_close(inside, expert.train().embed_audio(mel))
        expert.eval()
    assert (inside - frozen).abs().max() > 1e-3
    torch.testing.assert_close(expert.embed_audio(mel), frozen)
    assert not any(module.training for module in expert.modules())


def test_batch_statistics_are_those_of_training(expert):
    mel = torch.randn(4, 1, 80, 16)
    with batch_statistics(expert):
        inside = expert.embed_audio(mel)
    before = {name: value.clone() for name, value in expert.state_dict().items()}
    training = expert.train().embed_audio(mel)
    expert.load_state_dict(before)
    expert.eval()
    torch.testing.assert_close(inside, training)


# -- figures -----------------------------------------------------------------------------------------------------------


def test_pair_figures_by_hand():
    cosine = np.array([[0.8, 0.7, 0.1], [0.2, 0.4, 0.4], [0.6, 0.2, 0.9]])
    figures = pair_figures(cosine, np.array([0, 2, 10]), negative_shift=5)
    # True pairs: 0.8, 0.4, 0.9. Far pairs: (0,2) 0.1, (1,2) 0.4, (2,0) 0.6, (2,1) 0.2.
    assert figures["accuracy"] == pytest.approx(0.5 * (2 / 3 + 3 / 4))
    assert figures["accuracy_any_shift"] == pytest.approx(0.5 * (2 / 3 + 4 / 6))
    assert figures["two_alternative"] == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert figures["positive"] == pytest.approx(0.7) and figures["negative"] == pytest.approx(1.3 / 4)


def clip_with_shift(shift: int, count: int = 40) -> ClipEmbeddings:
    """Mouth t shows what is heard `shift` frames earlier."""
    rng = np.random.default_rng(0)
    pool = np.abs(rng.normal(size=(count + 20, 16))) ** 3
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    return ClipEmbeddings(np.arange(count), pool[10 - shift : 10 - shift + count], pool[10 : 10 + count])


@pytest.mark.parametrize("shift", [-10, -3, 0, 1, 10])
def test_the_sweep_peaks_at_the_shift_and_positive_means_earlier_sound(shift):
    sweep = sweep_of(clip_with_shift(shift))
    assert sweep.peak == shift and sweep.prominence > 0.3
    assert sweep.hit == (shift == 0)
    assert np.nanmax(sweep.curve) == pytest.approx(1.0)


def test_a_sweep_counts_real_pairs_alone():
    clip = clip_with_shift(0)
    gap = np.r_[0:10, 15:18]
    some = ClipEmbeddings(clip.starts[gap], clip.mouths[gap], clip.sounds[gap])
    cosine, offset = some.scores, some.starts[:, None] - some.starts
    sweep = sweep_of(some, 20)
    for shift in range(-20, 21):
        pairs = cosine[offset == shift]
        expected = pairs.mean() if len(pairs) else np.nan
        assert sweep.curve[shift + 20] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(sweep.curve[[0, -1]]).all()


def test_the_mean_of_sweeps_leaves_out_offsets_that_a_clip_does_not_have():
    mean = Sweep.mean([Sweep(np.array([np.nan, 0.2, np.nan])), Sweep(np.array([0.4, 0.6, np.nan]))])
    np.testing.assert_allclose(mean.curve, [0.4, 0.4, np.nan])


def test_a_very_long_clip_is_judged_on_evenly_spread_windows(monkeypatch):
    monkeypatch.setattr("talkingface.lipsync.expert.scores.MOST_WINDOWS", 10)
    clip = clip_with_shift(0)
    chosen = np.linspace(0, 39, 10).round().astype(int)
    assert clip_figures(clip) == pair_figures(clip.scores[np.ix_(chosen, chosen)], chosen)


class OwnMind(torch.nn.Module):
    """An expert that says the cosine of its features, but is asked for it as one that has a mind of its own."""

    cosine = False

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.asked = 0

    def scores(self, mouths, sounds):
        self.asked = max(self.asked, len(mouths) * len(sounds))
        return mouths.flatten(1) @ sounds.T


@pytest.mark.parametrize("shift", [-3, 0, 10])
def test_an_expert_that_is_no_cosine_gets_the_figures_of_its_scores(shift):
    network, clip = OwnMind(), clip_with_shift(shift, 100)
    gap = np.r_[0:50, 57:100]
    clip = clip.some(gap)
    own = clip._replace(mouths=clip.mouths.reshape(-1, 4, 2, 2), score=score_of(network))
    np.testing.assert_allclose(sweep_of(own, 20).curve, sweep_of(clip, 20).curve, atol=1e-12)
    assert network.asked <= 32 * 72 + 7  # near pairs alone, a block at a time
    assert clip_figures(own) == pytest.approx(clip_figures(clip))


def test_offsets_that_a_scored_clip_does_not_have_are_unknown():
    clip = clip_with_shift(0, 5)._replace(score=score_of(OwnMind()))
    assert np.isnan(sweep_of(clip, 6).curve).tolist() == [True, True, *[False] * 9, True, True]


@torch.no_grad()
def test_the_expert_of_dinet_is_judged_by_its_score_maps():
    torch.manual_seed(0)
    network = MouthSyncExpert(0.25).eval()
    network.merge_encoder[2].bias.fill_(0.5)
    mouths, rows = torch.rand(12, 15, 64, 64), torch.randn(12, 29, 9)
    features = (network.embed_faces(mouths).numpy(), network.embed_audio(rows).numpy())
    clip = ClipEmbeddings(np.arange(12), *features, score_of(network))
    for offset in (0, 3):
        pairs = network(mouths[offset:], rows[: 12 - offset]).mean()
        assert sweep_of(clip, 5).curve[5 + offset] == pytest.approx(pairs.item(), abs=1e-5)
    assert clip_figures(clip)["positive"] == pytest.approx(network(mouths, rows).mean().item(), abs=1e-5)


def test_features_of_any_length_are_held_against_each_other_as_unit_vectors():
    vectors = unit_vectors(np.array([[[3.0, 4.0]], [[0.0, 0.0]]]))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0]])


def test_the_scores_of_a_cosine_expert_are_its_cosines(expert):
    random = torch.Generator().manual_seed(0)
    mouths, sounds = (torch.nn.functional.normalize(torch.rand(n, 8, generator=random)) for n in (3, 2))
    np.testing.assert_allclose(expert.scores(mouths, sounds), cosines(mouths.numpy(), sounds.numpy()), atol=1e-6)
    assert score_of(expert) is cosines


# -- the model ---------------------------------------------------------------------------------------------------------


def test_the_crop_chooses_the_form_of_the_expert():
    assert [expert_size(size) for size in (48, 96, 128)] == [(24, 48), (48, 96), (64, 128)]
    for size in (48, 96, 128):
        model = SyncNet(SyncNetConfig(crop={**CROP, "size": size}, expert={"width": 0.0625}))
        assert model.sync_expert.size == (size // 2, size)
    with pytest.raises(ConfigError, match=r"crop\.size must be one of 48, 96, 128"):
        load_config("SyncNet", "demo", (), {"model.crop.size": 64})


def test_older_names_lead_to_the_same_model():
    for name in ("SyncNetColor", "SyncNet_color"):
        assert load_config(name, "demo", (), {}).config.model_name == "SyncNet"


@pytest.mark.parametrize(("file", "size"), [("lipsync_expert.pth", 96), ("pretrain_sync_expert.pth", 128)])
def test_each_published_file_brings_its_own_form(tmp_path, file, size):
    from talkingface.plugin.importing import import_checkpoints
    from talkingface.weights import checkpoint

    torch.manual_seed(0)
    state = SyncExpert((size // 2, size), 0.0625).state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "global_step": 1}, tmp_path / file)
    output = tmp_path / "imported.pt"
    imported = import_checkpoints("SyncNet", str(tmp_path), str(output), {"model.expert.width": 0.0625})
    assert (imported.path, imported.networks, imported.missing) == (output, ("sync_expert",), {})
    content = checkpoint.load(output, "SyncNet")
    crop = content.config["model"]["crop"]
    assert (crop["size"], crop["margin"], crop["box"], crop["rule"]) == (size, 0.0, "frame", "mesh")
    assert content.ready == ["sync_expert"]
    for key, value in state.items():
        torch.testing.assert_close(content.networks["sync_expert"][key], value)


def test_validation_judges_all_windows_of_the_clips(expert, dataset, tmp_path):
    model = SyncNet(SyncNetConfig(crop=CROP, expert={"width": 0.0625, "sweep_clips": 2, "alarm": {"windows": None}}))
    model.sync_expert.load_state_dict(expert.state_dict())
    model.eval()
    ctx = StepContext(StageConfig(name="expert", kind="expert", max_steps=1))
    with torch.no_grad():
        batch = {name: torch.from_numpy(value)[None] for name, value in dataset[0].items()}
        assert set(model.validation_step(batch, ctx)) == {"loss"}
        values = model.after_validation({}, ctx, dataset, dataset, tmp_path)
    chosen = list(embed_clips(expert, dataset, [dataset.clips[0], dataset.clips[2]]))
    expected = mean_figures([clip_figures(clip) for clip in chosen])
    assert {name: values[name] for name in expected} == expected and len(chosen[0].starts) > 30


def test_the_published_profile_trains_to_its_end():
    (stage,) = load_config("SyncNet", "folder", (), {"profile": "published"}).config.stages
    assert stage.patience is None and stage.val_batches == 1400 and stage.data.objective == "published"


def test_a_trained_expert_tells_true_pairs_from_others_on_held_out_clips(sync_run):
    import json

    records = [json.loads(line) for line in (sync_run / "log.jsonl").read_text().splitlines()]
    last = next(record for record in reversed(records) if "val/accuracy" in record)
    assert last["val/accuracy"] > 0.7 and last["val/two_alternative"] > 0.8
    assert last["val/positive"] > last["val/negative"] + 0.2
    assert last["val/sweep_peak"] == 0 and last["val/sweep_prominence"] > 0.3 and last["val/sweep_hits"] > 0.5
    plot = sync_run / "expert" / f"sweep_{last['step']:07d}.png"
    assert plot.read_bytes()[:4] == b"\x89PNG" and plot.stat().st_size > 10_000
