"""HyperLipsBase's stage: terms and their weights, who moves, memory over windows, published files."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from talkingface.config.layers import to_plain
from talkingface.config.sections import StageConfig
from talkingface.errors import CheckpointError, ConfigError
from talkingface.lipsync.expert.data import SyncWindowOptions
from talkingface.lipsync.half_face.data import FaceWindowOptions
from talkingface.lipsync.half_face.pixels import network_faces
from talkingface.models.hyperlips_base.config import BaseStageOptions, HyperLipsBaseConfig
from talkingface.models.hyperlips_base.model import HyperLipsBase
from talkingface.models.hyperlips_base.networks.discriminator import HalfFaceDiscriminator
from talkingface.networks.sync_expert import sync_loss
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.borrowed import with_borrowed
from talkingface.plugin.configuration import load_config
from talkingface.plugin.contract import StepContext
from talkingface.plugin.importing import import_checkpoints
from talkingface.plugin.registry import get_spec
from talkingface.plugin.trained import read_trained
from talkingface.readiness import check_training
from talkingface.sharing.card import Statement
from talkingface.sharing.publish import publish
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent
from talkingface.weights.runs import RunFolder

NARROW = {"generator": {"width": 0.125, "discriminator_width": 0.125}, "expert": {"width": 0.0625, "side": 48}}


def build(**sections) -> HyperLipsBase:
    torch.manual_seed(0)
    given = {**NARROW, **sections}
    return HyperLipsBase(HyperLipsBaseConfig(crop={"size": 32, "box": "fixed", "rule": "mesh"}, **given))


def fake_batch(count: int = 2, frames: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    faces = torch.randint(0, 256, (2, count, frames, 32, 32, 3), dtype=torch.uint8)
    windows = max(1, frames - 4)
    sounds = torch.randn(count, frames, 1, 80, 16), torch.randn(count, windows, 1, 80, 16)
    return {"target": faces[0], "reference": faces[1], "mels": sounds[0], "mel": sounds[1]}


def context(options: BaseStageOptions | None = None, **best: float) -> StepContext:
    stage = StageConfig(name="base", kind="base", max_steps=1, options=options or BaseStageOptions())
    return StepContext(stage, best={f"val/{name}": value for name, value in best.items()})


def test_all_terms_count_from_the_first_step_with_the_published_weights():
    model, batch = build().eval(), fake_batch()
    generator, judge = model.base_step(batch, context())
    drawn, target = model.draw(batch)
    expected = {
        "l1": 0.77 * (drawn - target).abs().mean(),
        "sync": 0.03 * model.sync_loss(drawn, batch),
        "perceptual": 0.2 * sync_loss(model.discriminator(drawn), 1.0),
    }
    assert generator.network == "generator" and judge.network == "discriminator"
    found = {name: value.item() for name, value in generator.losses.items()}
    assert found == {name: pytest.approx(value.item(), rel=1e-4) for name, value in expected.items()}
    assert judge.losses["real"].item() == pytest.approx(sync_loss(model.discriminator(target), 1.0).item(), rel=1e-4)
    assert judge.losses["fake"].item() == pytest.approx(sync_loss(model.discriminator(drawn), 0.0).item(), rel=1e-4)


def test_sync_start_keeps_the_expert_out_until_it_is_content():
    model = build(loss={"sync_start": 0.75}).eval()
    for best, on in (({}, False), ({"sync": 0.8}, False), ({"sync": 0.7}, True)):
        generator, _ = model.base_step(fake_batch(), context(**best))
        assert ("sync" in generator.losses) == on


def test_without_weight_the_discriminator_takes_no_step_and_a_stage_may_have_weights_of_its_own():
    model, batch = build().eval(), fake_batch()
    (alone,) = model.base_step(batch, context(BaseStageOptions(perceptual=0, sync=0)))
    assert set(alone.losses) == {"l1"}
    drawn, target = model.draw(batch)
    assert alone.losses["l1"].item() == pytest.approx((drawn - target).abs().mean().item(), rel=1e-4)
    generator, _ = model.base_step(batch, context(BaseStageOptions(sync=0.5)))
    assert generator.losses["l1"].item() == pytest.approx(0.3 * alone.losses["l1"].item(), rel=1e-4)
    (single,) = model.base_step(fake_batch(frames=1), context(BaseStageOptions(perceptual=0)))
    assert set(single.losses) == {"l1"}, "one frame has no window of five"


def test_weights_that_leave_nothing_for_l1_are_refused():
    model = build()
    model.sync_expert.face_encoder[0].conv_block[1].num_batches_tracked += 1
    data = SimpleNamespace(options=SimpleNamespace(frames=5))
    model.initialise(data, context(BaseStageOptions(sync=0.7)))
    with pytest.raises(ConfigError, match=r"stage 'base': sync \+ perceptual must stay below 1, got 1.1"):
        model.initialise(data, context(BaseStageOptions(sync=0.9)))


def test_no_gradient_reaches_who_only_judges():
    model = build()
    model.sync_expert.eval().requires_grad_(False)
    generator, judge = model.base_step(fake_batch(), context())
    torch.stack(list(generator.losses.values())).sum().backward()
    assert all(p.grad is None for p in model.discriminator.parameters())
    assert all(p.grad is None for p in model.sync_expert.parameters())
    moved = [p.grad is not None for p in model.generator.parameters()]
    assert any(moved)
    before = [None if p.grad is None else p.grad.clone() for p in model.generator.parameters()]
    torch.stack(list(judge.losses.values())).sum().backward()
    after = [p.grad for p in model.generator.parameters()]
    assert all(a is b or torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_every_window_of_five_frames_is_judged():
    model, batch = build(generator={**NARROW["generator"], "temporal": True}, inference={"fps": 25}), fake_batch(1, 8)
    model.eval()
    faces = network_faces(batch["target"])
    together = model.sync_loss(faces, batch)
    single = [
        model.sync_loss(faces[:, :, k : k + 5], {"mel": batch["mel"][:, k : k + 1]}) for k in range(4)
    ]  # fmt: skip
    assert together.item() == pytest.approx(torch.stack(single).mean().item(), rel=1e-4)


def test_a_temporal_window_remembers_and_reaches_the_kernels_of_its_memory():
    model = build(generator={**NARROW["generator"], "temporal": True}, inference={"fps": 25})
    generator, _ = model.base_step(fake_batch(2, 6), context())
    torch.stack(list(generator.losses.values())).sum().backward()
    gru = model.generator.decoder.decode3.gru
    hidden = gru.ih[0].weight.grad[:, gru.channels :]
    assert hidden.abs().max() > 0
    plain = build()
    generator, _ = plain.base_step(fake_batch(2, 6), context())
    torch.stack(list(generator.losses.values())).sum().backward()
    gru = plain.generator.decoder.decode3.gru
    assert gru.ih[0].weight.grad is None or not gru.ih[0].weight.grad[:, gru.channels :].any()


def test_validation_tells_all_terms_and_both_opinions():
    model = build().eval()
    values = model.validation_step(fake_batch(), context())
    assert set(values) == {"l1", "sync", "perceptual", "real", "fake", "loss"}
    weighted = 0.77 * values["l1"] + 0.03 * values["sync"] + 0.2 * values["perceptual"]
    assert values["loss"].item() == pytest.approx(weighted.item(), rel=1e-4)


def test_sizes_that_do_not_fit_and_memory_at_another_rate_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        HyperLipsBaseConfig(crop={"size": 72})
    with pytest.raises(ValueError, match=r"25 per second: set inference.fps to 25"):
        HyperLipsBaseConfig(generator={"temporal": True})


def test_a_memory_that_nothing_has_trained_is_refused():
    plain, temporal = build().config, build(generator={"temporal": True}, inference={"fps": 25}).config
    with pytest.raises(ConfigError, match="never trained"):
        HyperLipsBase.check_overrides(plain, temporal)
    HyperLipsBase.check_overrides(temporal, temporal)
    HyperLipsBase.check_overrides(temporal, plain)


@pytest.mark.parametrize("lengths", [(1,), (4,), (5, 1), (1, 26)])
def test_the_last_stage_trains_the_memory_as_it_is_used(lengths):
    plain, temporal = build().config, build(generator={"temporal": True}, inference={"fps": 25}).config
    HyperLipsBase.check_stages(plain, stages(*lengths))
    told = rf"stages\.s{len(lengths)}\.data\.frames is {lengths[-1]}: .* windows of 5 to 25 frames"
    with pytest.raises(ConfigError, match=told):
        HyperLipsBase.check_stages(temporal, stages(*lengths))


def test_stages_before_that_do_not_train_the_memory_are_told(caplog):
    caplog.set_level("INFO", logger="talkingface")
    temporal = build(generator={"temporal": True}, inference={"fps": 25}).config
    HyperLipsBase.check_stages(temporal, stages(1, 25))
    assert caplog.messages == ["stage s1: windows of 1; s2 trains the memory that is used"]


def stages(*lengths: int) -> list[StageConfig]:
    """The expert's, and one of kind `base` for each length of windows."""
    windows = [FaceWindowOptions(frames=length) for length in lengths]
    drawn = [StageConfig(name=f"s{k}", kind="base", max_steps=1, data=data) for k, data in enumerate(windows, 1)]
    return [StageConfig(name="expert", kind="expert", max_steps=1, data=SyncWindowOptions()), *drawn]


def test_a_checkpoint_of_single_frames_alone_does_not_speak_with_a_memory(tmp_path):
    temporal = {"model.generator.temporal": True, "model.inference.fps": 25, "profile": "demo"}
    config = load_config("HyperLipsBase", "folder", (), temporal).config
    model = HyperLipsBase(config.model)
    for stage in ("frames", "base"):
        made = CheckpointContent(
            model="HyperLipsBase",
            config=to_plain(config),
            networks={"generator": model.generator.state_dict()},
            stage=stage,
            ready=["generator"],
        )
        checkpoint.save(tmp_path / f"{stage}.pt", made)
    from talkingface.pipeline import Pipeline

    with pytest.raises(CheckpointError, match=r"holds no trained memory \(model.generator.temporal\).*stage 'frames'"):
        Pipeline.from_checkpoint("HyperLipsBase", tmp_path / "frames.pt", "cpu")
    Pipeline.from_checkpoint("HyperLipsBase", tmp_path / "frames.pt", "cpu", {"model.generator.temporal": False})
    Pipeline.from_checkpoint("HyperLipsBase", tmp_path / "base.pt", "cpu")


# -- published files ---------------------------------------------------------------------------------------------------


def discriminator_of(**overrides) -> int:
    """Number of parameters of the discriminator that a configuration builds."""
    settings = {f"model.{key}": value for key, value in overrides.items()}
    with torch.device("meta"):
        model = HyperLipsBase(load_config("HyperLipsBase", "lrs2", (), settings).config.model)
    return sum(p.numel() for p in model.discriminator.parameters())


def test_the_discriminator_has_the_width_and_the_side_of_the_settings():
    published = discriminator_of()
    assert published == 14_113_793
    assert discriminator_of(**{"generator.discriminator_width": 0.5}) < 0.3 * published
    assert discriminator_of(**{"crop.size": 64}) < published, "one halving less"


@pytest.fixture
def earlier(tmp_path):
    """A run of a version whose discriminator had neither: its checkpoint file."""
    given = {"saved_dir": str(tmp_path), "run_name": "earlier", "profile": "tiny"}
    config = load_config("HyperLipsBase", "demo", (), given).config
    torch.manual_seed(4)
    model = HyperLipsBase(config.model)
    model.discriminator = HalfFaceDiscriminator(1)
    names = ("generator", "discriminator", "sync_expert")
    content = CheckpointContent(
        model="HyperLipsBase",
        config=to_plain(config),
        networks={name: getattr(model, name).state_dict() for name in names},
        stage="base",
        trained=list(names[:2]),
        ready=list(names),
        finished=False,
    )
    run = RunFolder(tmp_path / "HyperLipsBase-demo" / "earlier")
    (run.path / "base").mkdir(parents=True)
    run.set_status("running")
    checkpoint.save(run.stage("base") / "last.pt", content)
    return run.stage("base") / "last.pt"


def test_runs_with_the_earlier_discriminator_make_videos_and_lend(earlier, tmp_path):
    trained = read_trained("HyperLipsBase", earlier)
    assert trained.content.ready == ["generator", "sync_expert"] == list(trained.content.networks)
    stored = checkpoint.load(earlier).networks["generator"]
    assert all(torch.equal(value, stored[key]) for key, value in trained.model.generator.state_dict().items())
    given = {"saved_dir": str(tmp_path), "profile": "tiny", "experts.generator": str(earlier)}
    borrower = with_borrowed(load_config("HyperLipsHR", "demo", (), given)).config
    model = get_spec("HyperLipsHR").model(borrower.model)
    load_experts(model, borrower, kinds=["hr"])
    assert all(torch.equal(value, stored[key]) for key, value in model.generator.state_dict().items())


def test_runs_with_the_earlier_discriminator_do_not_train_on(earlier, tmp_path):
    given = {"saved_dir": str(tmp_path), "profile": "tiny", "resume": str(earlier.parent.parent)}
    config = load_config("HyperLipsBase", "demo", (), given).config
    with pytest.raises(CheckpointError, match=r"last\.pt: discriminator does not fit: .*\(--resume=none\)$") as caught:
        check_training(config, afterwards=False, prepares=False)
    assert "\n" not in str(caught.value)


def test_where_the_expert_of_such_a_run_has_ended_a_new_run_is_told_to_take_it(earlier, tmp_path):
    content = checkpoint.load(earlier)
    expert = RunFolder(earlier.parent.parent).stage("expert")
    expert.mkdir()
    for name in ("best.pt", "last.pt"):
        ended = replace(content, stage="expert", trained=["sync_expert"], ready=["sync_expert"], finished=True)
        checkpoint.save(expert / name, ended)
    earlier.unlink()
    given = {"saved_dir": str(tmp_path), "profile": "tiny", "resume": str(expert.parent)}
    with pytest.raises(CheckpointError, match=r"discriminator does not fit: ") as caught:
        check_training(load_config("HyperLipsBase", "demo", (), given).config, afterwards=False, prepares=False)
    option = f"--experts.sync_expert={expert / 'best.pt'}"
    assert str(caught.value).endswith(f"(--resume=none {option})")
    anew = {**given, "resume": "none", "experts.sync_expert": str(expert / "best.pt")}
    check_training(load_config("HyperLipsBase", "demo", (), anew).config, afterwards=False, prepares=False)


@pytest.mark.parametrize("place", ["checkpoint", "published folder"])
@pytest.mark.parametrize("expert", ["trained first", "given", "taken along"])
def test_to_begin_with_the_generator_of_such_a_run_its_discriminator_is_left_out(earlier, tmp_path, place, expert):
    origin = str(earlier)
    if place == "published folder":
        pytest.importorskip("safetensors")
        origin = publish(earlier, tmp_path / "shared", Statement())
    entries = ["expert", origin] if expert == "trained first" else [origin]
    given = {"saved_dir": str(tmp_path), "profile": "tiny", "resume": "none", "stages.base.init_from": entries}
    if expert == "given":
        given["experts.sync_expert"] = str(earlier)
    with pytest.raises(CheckpointError) as caught:
        check_training(load_config("HyperLipsBase", "demo", (), given).config, afterwards=False, prepares=False)
    error = str(caught.value)
    assert ("discriminator does not fit" if place == "checkpoint" else "no trained discriminator") in error
    names = {"trained first": "expert, {}:generator", "given": "{}:generator"}.get(
        expert, "{0}:generator, {0}:sync_expert"
    )
    told = names.format(origin)
    assert "\n" not in error and error.endswith(f"; to begin without discriminator: --stages.base.init_from='[{told}]'")
    given["stages.base.init_from"] = told.split(", ")
    check_training(load_config("HyperLipsBase", "demo", (), given).config, afterwards=False, prepares=False)


def test_a_generator_of_another_width_is_not_left_out(earlier, tmp_path):
    given = {"saved_dir": str(tmp_path), "profile": "tiny", "resume": "none", "model.generator.width": 0.25}
    given["stages.base.init_from"] = str(earlier)
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        check_training(load_config("HyperLipsBase", "demo", (), given).config, afterwards=False, prepares=False)
    assert "to begin without" not in str(caught.value)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Files of the published size, wrapped as they are published; the expert's with `module.`."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(3)
    model = HyperLipsBase(HyperLipsBaseConfig())
    for name, network, prefix in (
        ("hyperlipsbase_lrs2.pth", model.generator, ""),
        ("pretrain_sync_expert.pth", model.sync_expert, "module."),
    ):
        state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
        torch.save({"state_dict": state, "optimizer": None, "global_step": 9, "global_epoch": 1}, folder / name)
    return folder


def test_published_files_become_a_checkpoint_that_draws_as_published(published, tmp_path):
    made = import_checkpoints("HyperLipsBase", str(published), str(tmp_path / "imported.pt"), {})
    assert set(made.networks) == {"generator", "sync_expert"}
    from talkingface.pipeline import Pipeline

    model = Pipeline.from_checkpoint("HyperLipsBase", made.path, "cpu").model
    settings = model.config.inference
    assert (settings.mel_offset, settings.reference, settings.pads) == (0, "first", (0, 10, 0, 0))
    assert model.inference_precision == "32" and model.config.crop.size == 128


def test_a_memory_of_published_weights_is_refused_at_import(published, tmp_path):
    asked = {"model.generator.temporal": True, "model.inference.fps": 25}
    with pytest.raises(ConfigError, match="never trained"):
        import_checkpoints("HyperLipsBase", str(published), str(tmp_path / "imported.pt"), asked)


def test_a_file_of_another_network_is_refused_by_name(published, tmp_path):
    with pytest.raises(CheckpointError, match=r"pretrain_sync_expert.pth.*does not fit"):
        import_checkpoints(
            "HyperLipsBase",
            None,
            str(tmp_path / "x.pt"),
            {},
            {"generator": str(published / "pretrain_sync_expert.pth")},
        )
