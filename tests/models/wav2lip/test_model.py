"""Wav2Lip's stages: the switch of the sync term, who moves and who does not, published files, given experts."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from helpers.drawn_clips import make_clip
from talkingface.config.sections import StageConfig
from talkingface.devices import seed_everything
from talkingface.errors import CheckpointError, ConfigError, RegistryError
from talkingface.lipsync.expert.inputs import MEL
from talkingface.lipsync.half_face.pixels import from_network, network_faces
from talkingface.models.wav2lip.config import Wav2LipConfig
from talkingface.models.wav2lip.model import Wav2Lip
from talkingface.networks.sync_expert import sync_loss
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.configuration import load_config
from talkingface.plugin.contract import StepContext
from talkingface.plugin.official import import_official, published_files
from talkingface.training.trainer import StageLoop, Trainer
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder

NARROW = {"generator": {"width": 0.125, "discriminator_width": 0.125}, "expert": {"width": 0.125}}
SHORT = {"stages.expert.max_steps": 2, "stages.generator.max_steps": 6}
GAN = {"name": "gan", "kind": "gan", "init_from": ["generator"], "batch_size": 2, "max_steps": 3,
       "optim": {"generator": {"lr": 1e-3}, "discriminator": {"lr": 1e-3}}}  # fmt: skip


def build(size: int = 24, **sections) -> Wav2Lip:
    torch.manual_seed(0)
    return Wav2Lip(Wav2LipConfig(crop={"size": size, "box": "fixed", "rule": "mesh"}, **NARROW, **sections))


def fake_batch(size: int = 24, count: int = 2, frames: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    faces = torch.randint(0, 256, (2, count, frames, size, size, 3), dtype=torch.uint8)
    mels, mel = torch.randn(count, frames, 1, 80, 16), torch.randn(count, 1, 1, 80, 16)
    return {"target": faces[0], "reference": faces[1], "mels": mels, "mel": mel}


def context(kind: str = "generator", **best: float) -> StepContext:
    return StepContext(StageConfig(name=kind, kind=kind, max_steps=1), best={f"val/{k}": v for k, v in best.items()})


def state_of(network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(network, state) -> bool:
    return all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


# -- the switch --------------------------------------------------------------------------------------------------------


def test_the_sync_term_is_on_once_a_validation_was_below_the_threshold():
    model, batch = build().eval(), fake_batch()
    for best, on in (({}, False), ({"sync": 0.76}, False), ({"sync": 0.75}, False), ({"sync": 0.74}, True)):
        (update,) = model.generator_step(batch, context(**best))
        assert set(update.losses) == ({"l1", "sync"} if on else {"l1"})
        drawn, target = model.draw(batch)
        distance = (drawn - target).abs().mean().item()
        assert update.losses["l1"].item() == pytest.approx((0.99 if on else 1.0) * distance, rel=1e-5)
        generator, _ = model.gan_step(batch, context("gan", **best))
        assert generator.losses["l1"].item() == pytest.approx((0.90 if on else 0.93) * distance, rel=1e-5)
        assert ("sync" in generator.losses) == on
    later = build(loss={"sync_start": 0.5}).generator_step(batch, context(sync=0.6))
    assert set(next(later).losses) == {"l1"}


def test_a_stage_under_way_asks_the_expert_where_it_draws_windows_of_five_frames():
    model = build().eval()
    windows, single = (SimpleNamespace(options=SimpleNamespace(frames=frames)) for frames in (5, 1))
    for kind, step in (("generator", model.generator_step), ("gan", model.gan_step)):
        assert "sync" in next(step(fake_batch(), model.under_way(windows, context(kind)))).losses
        alone = next(step(fake_batch(frames=1), model.under_way(single, context(kind))))
        assert "sync" not in alone.losses


def test_the_weight_of_the_mouth_moves_weight_from_the_upper_half():
    model, batch = build(loss={"mouth": 3.0}).eval(), fake_batch()
    (update,) = model.generator_step(batch, context())
    drawn, target = model.draw(batch)
    upper, lower = ((drawn - target)[..., rows, :].abs().mean() for rows in (slice(12), slice(12, 24)))
    assert update.losses["l1"].item() == pytest.approx(((upper + 3 * lower) / 4).item(), rel=1e-5)


@pytest.mark.parametrize("batch_stats", [False, True])
def test_no_step_moves_the_expert(batch_stats):
    model, batch = build(loss={"expert_batch_stats": batch_stats}), fake_batch()
    model.sync_expert.eval().requires_grad_(False)
    before = state_of(model.sync_expert)
    for kind in ("generator", "gan"):
        for update in getattr(model, f"{kind}_step")(batch, context(kind, sync=0.1)):
            torch.stack(list(update.losses.values())).sum().backward()
        model.validation_step(batch, context(kind))
    assert same(model.sync_expert, before) and not model.sync_expert.training
    assert all(parameter.grad is None for parameter in model.sync_expert.parameters())
    assert all(not module.training for module in model.sync_expert.modules())


@pytest.mark.parametrize("batch_stats", [False, True])
def test_batch_statistics_change_the_loss_of_an_item_with_its_company(batch_stats, monkeypatch):
    monkeypatch.setattr("talkingface.lipsync.half_face.model.published_loss", lambda cosine, _: cosine[0])
    model, batch = build(loss={"expert_batch_stats": batch_stats}).eval(), fake_batch(count=3)

    def of_item_0(company: int) -> float:
        pair = {name: value[[0, company]] for name, value in batch.items()}
        return model.sync_loss(network_faces(pair["target"]), pair).item()

    assert (abs(of_item_0(1) - of_item_0(2)) > 1e-3) == batch_stats


def test_a_last_batch_of_one_window_is_judged_without_batch_statistics():
    judged, published = build().eval(), build(loss={"expert_batch_stats": True}).eval()
    values = [model.validation_step(fake_batch(count=1), context())["sync"] for model in (judged, published)]
    assert values[0].item() == values[1].item()
    stage = StageConfig(name="generator", kind="generator", max_steps=1, batch_size=1)
    windows = SimpleNamespace(options=SimpleNamespace(frames=5))
    with pytest.raises(ConfigError, match="stage 'generator': .*expert_batch_stats needs a batch_size of 2"):
        published.initialise(windows, StepContext(stage))
    judged.initialise(windows, StepContext(stage))


def test_a_pair_that_is_utterly_wrong_has_a_bounded_slope(monkeypatch):
    model, batch = build().eval(), fake_batch()
    sounds = torch.eye(4)[:2]
    mouths = (torch.eye(4)[2:] + 1e-9 * sounds).requires_grad_()  # the slope of the logarithm there is 1e9
    monkeypatch.setattr(model.sync_expert, "forward", lambda *_: (sounds, mouths))
    model.sync_loss(network_faces(batch["target"]), batch).backward()
    assert mouths.grad.abs().max() < 1e6


def test_the_discriminator_learns_from_those_it_is_most_sure_of_in_bf16():
    model = build()
    torch.nn.init.constant_(model.discriminator.binary_pred[0].bias, 9.0)
    faces = network_faces(fake_batch()["target"])
    exact = model.discriminator(faces)
    with torch.autocast("cpu", torch.bfloat16):
        opinion = model.discriminator(faces)
        loss = sync_loss(opinion, 0.0)
    loss.backward()
    assert opinion.dtype == torch.float32 and opinion.max() < 1
    assert loss.item() == pytest.approx(9.0, abs=0.2) and sync_loss(exact, 0.0).item() == pytest.approx(9.0, abs=0.2)
    assert model.discriminator.binary_pred[0].bias.grad.item() == pytest.approx(1.0, abs=0.01)


def test_the_sync_loss_stays_in_full_precision_under_autocast():
    model, batch = build().eval(), fake_batch()
    drawn = network_faces(batch["target"])
    exact = model.sync_loss(drawn, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.sync_loss(drawn, batch)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)


def test_validation_reports_both_terms_and_single_frames_have_no_sync():
    model = build().eval()
    values = model.validation_step(fake_batch(), context())
    assert values["loss"].item() == pytest.approx((0.99 * values["l1"] + 0.01 * values["sync"]).item())
    values = model.validation_step(fake_batch(), context("gan"))
    assert values["loss"].item() == pytest.approx((0.97 * values["l1"] + 0.03 * values["sync"]).item())
    assert set(model.validation_step(fake_batch(frames=1), context())) == {"l1", "loss"}


# -- whole stages ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root, crop = tmp_path_factory.mktemp("clips"), config({}).config.model.crop
    made = [make_clip(root, f"a/{k}", 24, crop, phase=k / 3, mel=MEL) for k in range(3)]
    return {"train": made[:2], "val": made[2:]}


def config(overrides):
    base = {"profile": "tiny", "device": "cpu", "show_progress": False, "tensorboard": False, "log_every": 1}
    return load_config("Wav2Lip", "folder", (), {**base, **overrides})


def trainer(folder, clips, **overrides) -> Trainer:
    loaded = config({**({} if "stages" in overrides else SHORT), **overrides})
    seed_everything(loaded.config.seed)
    model = Wav2Lip(loaded.config.model)
    load_experts(model, loaded.config, [stage.kind for stage in loaded.config.stages])
    return Trainer(loaded.config, model, clips, RunFolder(folder))


@pytest.fixture(scope="module")
def first(tmp_path_factory, clips):
    """The folder of a run whose expert and generator were trained a little."""
    folder = tmp_path_factory.mktemp("first")
    trainer(folder, clips).fit()
    return folder


class Killed(BaseException):
    """Stands for a process that ends without a chance to clean up."""


SWITCHING = {"model.loss.sync_start": 1e9, "model.loss.sync": 0.1, "stages.generator.validate_every": {"steps": 2}}


def weights_of(run, stage) -> dict[str, torch.Tensor]:
    networks = checkpoint.load(run / stage / "last.pt").networks
    return {f"{network}.{key}": value for network, state in networks.items() for key, value in state.items()}


def test_the_switch_survives_a_killed_and_resumed_run(tmp_path, clips, monkeypatch):
    whole = trainer(tmp_path / "whole", clips, **SWITCHING)
    whole.fit()
    original = StageLoop._train_batch

    def train_batch(self, batch, ctx):
        if self.stage.name == "generator" and ctx.step == 3:
            raise Killed
        return original(self, batch, ctx)

    with monkeypatch.context() as patch:
        patch.setattr(StageLoop, "_train_batch", train_batch)
        with pytest.raises(Killed):
            trainer(tmp_path / "parts", clips, **SWITCHING).fit()
    trainer(tmp_path / "parts", clips, **SWITCHING).fit()
    for name in ("whole", "parts"):
        records = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        terms = {r["step"]: "train/generator/sync" in r for r in records if "train/generator/l1" in r}
        assert terms == {1: False, 2: False, 3: True, 4: True, 5: True, 6: True}, name
    a, b = (weights_of(tmp_path / name, "generator") for name in ("whole", "parts"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    expert = weights_of(tmp_path / "whole", "expert")
    assert all(torch.equal(a[key], expert[key]) for key in a if key.startswith("sync_expert."))


def test_a_given_expert_replaces_its_stage_and_serves_the_generator(tmp_path, clips, first):
    given = {"experts.sync_expert": str(first), "stages.generator.max_steps": 2}
    second = trainer(tmp_path / "second", clips, **given)
    second.fit()
    assert not (tmp_path / "second/expert/last.pt").exists()
    content = checkpoint.load(tmp_path / "second/generator/last.pt")
    trained = checkpoint.load(first / "expert/best.pt").networks["sync_expert"]
    assert all(torch.equal(content.networks["sync_expert"][key], value) for key, value in trained.items())
    assert set(content.ready) == {"generator", "sync_expert"}


def test_an_expert_of_another_crop_is_remarked(tmp_path, caplog):
    model = build(48)
    content = {"networks": {"sync_expert": model.sync_expert.state_dict()}}
    for name, crop in (
        ("same", {**model.config.crop.model_dump(), "size": 96}),
        ("other", {"margin": 0.0, "box": "frame"}),
    ):
        torch.save({**content, "config": {"model": {"crop": crop}}}, tmp_path / f"{name}.pt")
    torch.save({"state_dict": model.sync_expert.state_dict()}, tmp_path / "published.pth")
    for name in ("same.pt", "published.pth"):
        model.load_expert("sync_expert", tmp_path / name)
    assert not caplog.text
    model.load_expert("sync_expert", tmp_path / "other.pt")
    assert (
        "learnt on faces cut with margin 0.0, box frame, the model's are cut with margin 5.0, box fixed" in caplog.text
    )


def test_a_checkpoint_says_whether_its_expert_was_trained(tmp_path, clips, first):
    alone = {"stages.generator.init_from": [], "stage": "generator", "stages.generator.max_steps": 1}
    trainer(tmp_path / "run", clips, **alone).fit()
    last = tmp_path / "run/generator/last.pt"
    assert checkpoint.load(last).ready == ["generator"]
    with pytest.raises(CheckpointError, match="its 'sync_expert' was never trained"):
        trainer(tmp_path / "other", clips, **{"experts.sync_expert": str(last)})
    content = checkpoint.load(last)
    checkpoint.save(last, replace(content, finished=False))
    # An expert that is given on resume alone is not the one in the checkpoint, whose weights count.
    longer = {**alone, "stages.generator.max_steps": 2, "experts.sync_expert": str(first)}
    trainer(tmp_path / "run", clips, **longer).fit()
    after = checkpoint.load(last)
    assert after.step == 2 and after.ready == ["generator"]
    states = [each.networks["sync_expert"] for each in (content, after)]
    assert all(torch.equal(states[1][key], value) for key, value in states[0].items())


def test_a_stage_in_another_process_has_the_expert_that_its_source_used(tmp_path, clips):
    stages = [*config({}).as_dict()["stages"], GAN]
    stages[0]["max_steps"] = stages[1]["max_steps"] = stages[2]["max_steps"] = 1
    for stage in ("expert", "generator", "gan"):
        trainer(tmp_path / "run", clips, stages=stages, stage=stage).fit()
    experts = [weights_of(tmp_path / "run", stage) for stage in ("expert", "gan")]
    assert all(
        torch.equal(value, experts[1][key]) for key, value in experts[0].items() if key.startswith("sync_expert")
    )
    assert checkpoint.load(tmp_path / "run/gan/last.pt").ready == ["discriminator", "generator", "sync_expert"]


def test_a_gan_stage_trains_both_networks_and_starts_from_the_generator(tmp_path, clips):
    stages = [*config({}).as_dict()["stages"], GAN]
    stages[0]["max_steps"] = stages[1]["max_steps"] = 2
    trainer(tmp_path / "run", clips, stages=stages).fit()
    before, after = weights_of(tmp_path / "run", "generator"), weights_of(tmp_path / "run", "gan")
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"generator", "discriminator"}


def test_a_stage_that_never_switched_says_so(tmp_path, clips, caplog):
    never = {"model.loss.sync_start": 0.0, "stages.generator.max_steps": 1}
    with caplog.at_level(logging.WARNING, "talkingface"):
        trainer(tmp_path / "run", clips, **never).fit()
    assert "never below 0.00: the sync term stayed off" in caplog.text


def test_an_untrained_expert_is_remarked(tmp_path, clips, caplog):
    alone = {"stages.generator.init_from": [], "stage": "generator", "stages.generator.max_steps": 1}
    trainer(tmp_path / "run", clips, **alone).fit()
    assert "the sync expert has no trained weights" in caplog.text
    caplog.clear()
    single = {**alone, "stages.generator.data": {"frames": 1}}
    trainer(tmp_path / "single", clips, **single).fit()
    assert "sync expert" not in caplog.text


def test_faces_without_an_expert_of_their_size_are_resized_for_it():
    model = build(192)
    assert model.sync_expert.size == (48, 96)
    halves = torch.rand(2, 15, 96, 192)
    half_size = torch.nn.functional.interpolate(halves, size=(48, 96), mode="bilinear", align_corners=False)
    model.eval()
    torch.testing.assert_close(model.sync_expert.embed_faces(halves), model.sync_expert.embed_faces(half_size))


# -- sizes and files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [24, 48, 96, 192])
def test_every_size_draws_faces_and_asks_an_expert(size):
    model, batch = build(size).eval(), fake_batch(size)
    drawn, target = model.draw(batch)
    assert drawn.shape == target.shape == (2, 3, 5, size, size)
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert model.sync_loss(drawn, batch).isfinite()
    assert model.discriminator(drawn).shape == (10, 1)
    assert model.sync_expert.size == {24: (48, 96), 48: (24, 48), 96: (48, 96), 192: (48, 96)}[size]


def test_a_narrow_generator_keeps_enough_channels_to_carry_a_picture():
    def channels(width: float, least: int) -> dict[str, int]:
        generator = Wav2LipConfig(generator={"width": width, "least_channels": least}, **{"expert": NARROW["expert"]})
        with torch.device("meta"):  # shapes alone
            network = Wav2Lip(generator).generator
        return {name: len(m.weight) for name, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}

    published, plain, kept = channels(1.0, 16), channels(0.0625, 4), channels(0.0625, 16)
    assert published == channels(1.0, 4)
    assert min(published.values()) == 16 and min(plain.values()) == 4
    assert kept == {name: max(16, count) for name, count in plain.items()}


def test_a_size_without_a_network_is_refused():
    with pytest.raises(ConfigError, match="crop.*24, 48, 96, 192, ... pixels, got 100"):
        config({"model.crop.size": 100})
    with pytest.raises(ConfigError, match=r"gan_sync \+ perceptual must stay below 1, got 1.1"):
        config({"model.loss.gan_sync": 0.6, "model.loss.perceptual": 0.5})


def test_colours_turn_once_each_way():
    faces = torch.randint(0, 256, (2, 1, 8, 8, 3), dtype=torch.uint8)
    images = network_faces(faces)
    assert torch.equal(images[0, 0, 0], faces[0, 0, ..., 2].float() / 255)  # the first channel is blue
    assert torch.equal(torch.from_numpy(from_network(images[:, :, 0])), faces[:, 0])


def published(path, network, prefix: str) -> None:
    """A file in the layout of the authors' programs."""
    state = {prefix + key: value + 1 if value.is_floating_point() else value for key, value in network.items()}
    torch.save({"state_dict": state, "optimizer": None, "global_step": 1, "global_epoch": 2}, path)


def test_published_files_are_imported_with_and_without_prefix(tmp_path):
    source, model = build(), build()
    published(tmp_path / "wav2lip.pth", source.generator.state_dict(), "module.")
    published(tmp_path / "lipsync_expert.pth", source.sync_expert.state_dict(), "")
    published(tmp_path / "visual_quality_disc.pth", source.discriminator.state_dict(), "module.")
    assert import_official(model, published_files(Wav2Lip, tmp_path)) == ["generator", "sync_expert", "discriminator"]
    for name in ("generator", "sync_expert", "discriminator"):
        for key, value in getattr(model, name).state_dict().items():
            old = getattr(source, name).state_dict()[key]
            assert torch.equal(value, old + 1 if value.is_floating_point() else old)


def test_what_was_not_imported_is_not_ready(tmp_path):
    from talkingface.plugin.importing import import_checkpoints

    narrow = {"model.crop.size": 24, **{f"model.generator.{key}": 0.125 for key in ("width", "discriminator_width")}}
    published(tmp_path / "wav2lip.pth", build().generator.state_dict(), "module.")
    imported = import_checkpoints("Wav2Lip", str(tmp_path), str(tmp_path / "imported.pt"), narrow)
    assert imported.networks == ("generator",)
    assert imported.missing == {"sync_expert": "lipsync_expert.pth", "discriminator": "visual_quality_disc.pth"}
    content = checkpoint.load(tmp_path / "imported.pt")
    assert content.ready == ["generator"]
    assert content.config["model"]["inference"]["precision"] == "32"  # the published numbers
    asked = {**narrow, "model.inference.precision": "bf16"}
    import_checkpoints("Wav2Lip", str(tmp_path), str(tmp_path / "imported.pt"), asked)
    assert checkpoint.load(tmp_path / "imported.pt").config["model"]["inference"]["precision"] == "bf16"


def test_of_two_generators_the_plain_one_counts(tmp_path):
    plain, gan, model = build(), build(), build()
    torch.nn.init.constant_(gan.generator.output_block[1].bias, 7.0)
    published(tmp_path / "wav2lip_gan.pth", gan.generator.state_dict(), "module.")
    assert import_official(model, published_files(Wav2Lip, tmp_path)) == ["generator"]
    assert (model.generator.output_block[1].bias == 8).all()
    published(tmp_path / "wav2lip.pth", plain.generator.state_dict(), "module.")
    assert import_official(model, published_files(Wav2Lip, tmp_path)) == ["generator"]
    assert torch.equal(model.generator.output_block[1].bias, plain.generator.output_block[1].bias + 1)


def test_a_file_that_does_not_fit_is_named(tmp_path):
    published(tmp_path / "wav2lip.pth", build(48).generator.state_dict(), "module.")
    with pytest.raises(CheckpointError, match=r"wav2lip.pth does not fit: .* missing: face_encoder_blocks"):
        import_official(build(96), published_files(Wav2Lip, tmp_path))


def test_published_weights_bring_their_settings():
    settings = {f"model.{key}": value for each in Wav2Lip.official for key, value in each.settings.items()}
    model = config({**settings, "profile": None}).config.model
    assert (model.crop.size, model.crop.margin, model.inference.pads) == (96, 0.0, (0, 10, 0, 0))
    assert (model.inference.mel_offset, model.inference.smooth) == (0, "published")


def test_the_gan_is_a_profile_and_no_name_of_the_model():
    with pytest.raises(RegistryError, match="unknown model 'Wav2Lip-GAN', did you mean 'Wav2Lip'"):
        load_config("Wav2Lip-GAN", "folder", (), {})
    assert [stage.kind for stage in config({"profile": "gan"}).config.stages] == ["expert", "generator", "gan"]
