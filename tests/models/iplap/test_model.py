"""IPLAP's steps: what is trained when, by which terms, and that both stages learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from helpers.drawn_clips import make_clip
from talkingface.config.sections import StageConfig
from talkingface.errors import CheckpointError, ConfigError
from talkingface.faces.crop import CropConfig
from talkingface.models.iplap.config import IPLAPConfig
from talkingface.models.iplap.model import IPLAP
from talkingface.models.iplap.pixels import from_network, network_images
from talkingface.networks.losses import feature_matching, lsgan, lsgan_discriminator
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.configuration import load_config
from talkingface.plugin.contract import StepContext
from talkingface.plugin.official import import_official, published_files
from talkingface.plugin.registry import get_spec

CROP = CropConfig(size=32, margin_mode="relative", margin=0.05)
TINY = {
    "crop": CROP,
    "landmark": {"d_model": 16, "layers": 1, "heads": 2, "feedforward": 16, "dropout": 0.0, "width": 0.125},
    "renderer": {"width": 0.125, "spade_hidden": 8, "discriminator_channels": 4},
}


def tiny(**loss) -> IPLAP:
    torch.manual_seed(0)
    return IPLAP(IPLAPConfig(**TINY, loss={"reconstruction": "l1_gradient", "warmup_epochs": 2, **loss}))


def context(kind: str, epoch: int = 5, **stage) -> StepContext:
    return StepContext(StageConfig(name=kind, kind=kind, max_steps=1, **stage), epoch=epoch)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    return [make_clip(root, "a/0", 40, CROP), make_clip(root, "a/1", 40, CROP, phase=0.5)]


def batch_of(clips, kind: str, size: int = 3, references: int = 2):
    data = IPLAP.plans[kind].dataset(clips, "train", {"references": references}, IPLAPConfig(**TINY), 1)
    return default_collate([data[key] for key in range(size)]), data


@pytest.fixture(scope="module")
def faces(clips):
    return batch_of(clips, "render")[0]


def gradients(model: IPLAP, network: str, losses) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward(retain_graph=True)
    return {n: p.grad.clone() for n, p in getattr(model, network).named_parameters() if p.grad is not None}


def test_warm_up_trains_the_alignment_alone(faces):
    model = tiny()
    updates = list(model.render_step(faces, context("render", epoch=1)))
    assert [(u.network, set(u.losses)) for u in updates] == [("renderer", {"warp"})]
    moved = gradients(model, "renderer", updates[0].losses)
    assert moved and all(name.startswith("flow_module.") for name in moved)


def test_published_warm_up_also_trains_the_discriminator(faces):
    model = tiny(warmup_discriminator=True, legacy_disc_grad=True)
    updates = list(model.render_step(faces, context("render", epoch=1)))
    assert [(u.network, set(u.losses)) for u in updates] == [
        ("renderer", {"warp"}),
        ("discriminator", {"realness"}),
    ]


def test_after_the_warm_up_all_terms_are_there(faces):
    model = tiny()
    updates = []
    for update in model.render_step(faces, context("render", epoch=2)):
        updates.append(update)
        if update.network == "renderer":
            moved = gradients(model, "renderer", update.losses)
            assert any(name.startswith("translation.") for name in moved)
            assert all(p.grad is None for p in model.discriminator.parameters())  # frozen while the renderer learns
    assert set(updates[0].losses) == {"warp", "generation", "adversarial", "feature_matching"}
    assert [u.network for u in updates] == ["renderer", "discriminator"]
    assert all(p.requires_grad for p in model.discriminator.parameters())


def test_legacy_discriminator_step_adds_the_generators_terms(faces):
    clean, legacy = tiny(), tiny(legacy_disc_grad=True)
    real = network_images(faces["target"])
    fake = torch.rand_like(real)
    got = gradients(legacy, "discriminator", legacy._discriminator_losses(fake, real, warming_up=False))
    d = clean.discriminator
    terms = {
        "realness": lsgan_discriminator(d(fake), d(real)),
        "generator": 0.25 * lsgan(d(fake), real=True) + 2.5 * feature_matching(d(fake), d(real)),
    }
    wanted = gradients(clean, "discriminator", terms)
    for name, value in wanted.items():
        torch.testing.assert_close(
            got[name], value, rtol=1e-4, atol=1e-5
        )  # biases before an instance norm: 0 but for rounding
    plain = gradients(clean, "discriminator", clean._discriminator_losses(fake, real, warming_up=False))
    assert any(not torch.allclose(plain[name], value, rtol=1e-3) for name, value in wanted.items())


def test_perceptual_gain_multiplies_the_perceptual_terms_alone(faces):
    def losses(gain: float) -> dict[str, torch.Tensor]:
        model = tiny(reconstruction="perceptual", perceptual_gain=gain)
        return next(iter(model.render_step(faces, context("render")))).losses

    one, four = losses(1.0), losses(4.0)
    assert set(four) == {"warp", "generation", "style", "adversarial", "feature_matching"}
    for name, value in one.items():
        factor = 1.0 if name in ("adversarial", "feature_matching") else 4.0
        torch.testing.assert_close(four[name], factor * value, rtol=1e-4, atol=1e-6)


def test_networks_see_bgr_and_pictures_come_back_in_rgb():
    red = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    red[..., 0], red[..., 1] = 200, 7
    images = network_images(red)
    assert images.shape == (1, 3, 4, 4)
    assert images[0, 2].unique().item() == pytest.approx(200 / 255) and images[0, 0].max() == 0
    assert torch.equal(torch.from_numpy(from_network(images)), red)
    assert from_network(torch.full((1, 3, 2, 2), 0.5))[0, 0, 0, 0] == 128  # rounded, not cut off


def test_what_the_losses_do_not_need_is_not_built():
    model = tiny(w_gan=0.0, w_fm=0.0)
    assert model.plans["render"].trains == ("renderer",) and not hasattr(model, "discriminator")
    assert model.plans["render"].frozen == () and not hasattr(model, "vgg19")
    assert IPLAP.plans["render"].frozen == ("vgg19",)


def test_missing_vgg_says_what_to_do(tmp_path, clips):
    model = tiny(reconstruction="perceptual")
    config = load_config("IPLAP", "folder", (), {"weights_dir": str(tmp_path), "experts.vgg19": "nowhere.pth"}).config
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: .*renderer_checkpoint\.pth.*reconstruction=l1_gradient"):
        load_experts(model, config, kinds=["render"])
    with pytest.raises(CheckpointError, match="l1_gradient"):  # random features would train to nonsense silently
        model.initialise(batch_of(clips, "render")[1], context("render"))


def test_output_starts_at_the_mean_only_when_asked(clips):
    _, data = batch_of(clips, "landmark")
    for wanted in (False, True):
        torch.manual_seed(0)
        settings = {**TINY, "landmark": {**TINY["landmark"], "start_at_mean": wanted}}
        model = IPLAP(IPLAPConfig(**settings, loss={"reconstruction": "l1_gradient"}))
        model.initialise(data, context("landmark"))
        points = torch.cat(
            [model.landmark_generator.jaw_keypoint_map.bias, model.landmark_generator.mouse_keypoint_map.bias]
        )
        mean = torch.from_numpy(data.mean_content()).t().reshape(-1)
        assert torch.allclose(points.detach(), mean if wanted else torch.zeros_like(mean))


@pytest.mark.parametrize("kind", ["landmark", "render"])
def test_both_stages_learn_a_tiny_clip(clips, kind):
    model, ctx = tiny(w_gan=0.0, w_fm=0.0, warmup_epochs=0), context(kind)
    batch, data = batch_of(clips, kind, size=6)
    network = model.plans[kind].trains[0]
    optimizer = torch.optim.Adam(getattr(model, network).parameters(), 3e-3)
    values = []
    for _ in range(25):
        for update in model.training_step(batch, ctx):
            loss = torch.stack(list(update.losses.values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]
    model.eval()
    with torch.no_grad():
        held_out = model.validation_step(batch, ctx)
        pictures = model.preview(batch, ctx, data)
    assert {"loss", "l1"} <= set(held_out) if kind == "landmark" else {"loss", "psnr", "mouth_psnr"} <= set(held_out)
    if kind == "render":
        assert pictures["faces"].shape == (3, 4 * 32, 5 * 32) and pictures["clip"].shape == (25, 3, 32, 5 * 32)
        real = [network_images(torch.from_numpy(item["target"])).flip(0) for item in data.stretch(25)]
        torch.testing.assert_close(pictures["clip"][..., -32:], torch.stack(real))
        for k, item in enumerate(data.stretch(25)):  # the targets are frames 2, 3, 4 ... of the first clip
            np.testing.assert_array_equal(item["target"], clips[0].faces(CROP.artefact)[k + 2])
            np.testing.assert_array_equal(item["references"], data.stretch(25)[0]["references"])
    for images in pictures.values():
        assert images.shape[-3] == 3 and images.min() >= 0 and images.max() <= 1


def test_mouth_psnr_looks_at_the_mouth_alone(faces):
    model = tiny().eval()
    clean = model.draw(faces)

    def spoilt(rows: slice):
        real, _, warped = clean
        generated = real.clone()
        generated[..., rows, :] = 1 - generated[..., rows, :]
        model.draw = lambda batch, warp_only=False: (real, generated, warped)
        return model.validation_step(faces, context("render"))

    with torch.no_grad():
        upper, lower = spoilt(slice(0, 10)), spoilt(slice(22, 28))
    assert upper["mouth_psnr"] > 60 and upper["psnr"] < 30
    assert lower["mouth_psnr"] < 30


def test_published_files_fill_the_networks(tmp_path):
    model = tiny()
    lip = {
        f"module.{k}": v + 1 if v.is_floating_point() else v for k, v in model.landmark_generator.state_dict().items()
    }
    face = {f"module.{k}": v for k, v in model.renderer.state_dict().items()}
    face |= {"module.perceptual.model.network.0.weight": torch.zeros(1)}
    extra = {"optimizer": None, "global_step": 1, "global_epoch": 2}
    torch.save({"state_dict": lip, **extra}, tmp_path / "landmarkgenerator_checkpoint.pth")
    torch.save({"state_dict": face, **extra}, tmp_path / "renderer_checkpoint.pth")
    fresh = tiny()
    assert import_official(fresh, published_files(IPLAP, tmp_path)) == ["landmark_generator", "renderer"]
    for name, value in fresh.landmark_generator.state_dict().items():
        assert torch.equal(value, lip[f"module.{name}"])
    config = load_config("IPLAP", "folder", (), {f"model.{k}": v for k, v in IPLAP.official[0].settings.items()})
    crop = config.config.model.inference_crop
    assert (crop.margin_mode, crop.margin) == ("px", 25.0) and config.config.model.crop.margin == 5.0
    del face["module.translation.conv_last.weight"]
    torch.save({"state_dict": face, **extra}, tmp_path / "renderer_checkpoint.pth")
    with pytest.raises(CheckpointError, match=r"1 missing: translation\.conv_last\.weight"):
        import_official(tiny(), published_files(IPLAP, tmp_path))


@pytest.mark.parametrize("profile", [None, "demo", "smoke", "tiny", "hr256"])
def test_profiles_are_valid_and_complete(profile):
    overrides = {} if profile is None else {"profile": profile}
    config = load_config("IPLAP", "folder", (), overrides).config
    assert [stage.name for stage in config.stages] == ["landmark", "render"]
    assert config.stages[1].init_from == ("landmark",)
    model = get_spec("iplap").model(config.model) if profile else None
    if profile == "hr256":
        assert config.model == IPLAPConfig(crop=IPLAPConfig().crop.model_copy(update={"size": 256}))
    elif profile:  # no profile for quick runs needs weights that a fresh machine lacks
        assert model.plans["render"].frozen == ()
    else:
        assert config.model == IPLAPConfig()  # the YAML states the defaults; the two must not drift apart


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.crop.size", 90, "multiple of 4"),
        ("model.landmark.heads", 3, "multiple of landmark.heads"),
        ("model.crop.rule", "mesh", "rule must be iplap"),
        ("model.loss.w_gann", 1.0, "w_gan"),
        ("model.inference.blur", 20, "odd"),
    ],
)
def test_bad_settings_are_named(key, value, message):
    with pytest.raises(ConfigError, match=message):
        load_config("IPLAP", "folder", (), {key: value})


@pytest.mark.parametrize(("profile", "clips", "times"), [("demo", 40, 2), ("smoke", 2, 1), ("tiny", 40, 0)])
def test_videos_are_scored_while_the_renderer_trains(profile, clips, times):
    stage = load_config("IPLAP", "folder", (), {"profile": profile}).config.stages[1]
    per_epoch = max(1, clips * stage.data.repeats // stage.batch_size)
    assert (stage.max_steps // per_epoch // stage.eval_step if stage.eval_step else 0) == times
    assert load_config("IPLAP", "folder", (), {}).config.stages[1].eval_step == 20


def test_another_margin_than_trained_is_said(caplog):
    def said(**asked):
        caplog.clear()
        IPLAP.check_overrides(IPLAPConfig(), IPLAPConfig(**asked))
        return caplog.text

    wider = CropConfig(size=128, margin_mode="px", margin=25.0)
    assert "margin 0.05 relative" in said(crop=wider) and "25.0 px" in caplog.text
    assert not said() and not said(inference={"ref_n": 5})
    assert not said(inference={"margin": 25.0}) and not said(crop=wider, inference={"margin": 25.0})
    assert "and fixed" in said(crop=CropConfig(size=128, margin_mode="relative", margin=0.05, box="fixed"))


@pytest.mark.parametrize(("width", "level"), [(1.0, "WARNING"), (0.125, "INFO")])
def test_few_clips_and_poor_landmarks_are_said(clips, caplog, width, level):
    landmark = {**TINY["landmark"], "width": width}
    model = IPLAP(IPLAPConfig(**{**TINY, "landmark": landmark}, loss={"reconstruction": "l1_gradient"}))
    data, ctx = batch_of(clips, "landmark")[1], context("landmark")
    with caplog.at_level("INFO", "talkingface"):
        model.initialise(data, ctx)
        assert "2 training clips are few" in caplog.text
        model.stage_ended(replace(ctx, best={"val/l1": 0.008}))
        assert "landmark error" not in caplog.text
        model.stage_ended(replace(ctx, best={"val/l1": 0.02}))
        assert "landmark error (val/l1) of 0.0200" in caplog.text
    assert {record.levelname for record in caplog.records} == {level}
