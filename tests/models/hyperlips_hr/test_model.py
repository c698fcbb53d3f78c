"""HyperLipsHR's stage and its drawing: terms, frozen judges, published files, sketches in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.drawn_clips import DrawnSource, Speech
from talkingface.config.layers import to_plain
from talkingface.config.sections import StageConfig
from talkingface.errors import CheckpointError, ConfigError
from talkingface.models.hyperlips_hr.data import HRFrameOptions, HRFrames
from talkingface.models.hyperlips_hr.draw import EnlargedDrawer, HRDrawer
from talkingface.models.hyperlips_hr.features import Features
from talkingface.models.hyperlips_hr.losses import lip_l1, relativistic
from talkingface.models.hyperlips_hr.model import HyperLipsHR
from talkingface.networks.losses import weighted_pyramid_l1
from talkingface.plugin.borrowed import with_borrowed
from talkingface.plugin.configuration import load_config
from talkingface.plugin.contract import StepContext
from talkingface.plugin.importing import import_checkpoints
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent

from .conftest import BASE, hr_config

CONTEXT = StepContext(StageConfig(name="hr", kind="hr", max_steps=1))


def build(**sections) -> HyperLipsHR:
    torch.manual_seed(0)
    return HyperLipsHR(hr_config(**sections))


@pytest.fixture
def batch(clips, config):
    data = HRFrames(clips, "train", {}, config, 3)
    return data.collate([data[k] for k in range(4)])


def test_the_objective_is_the_sum_of_its_terms(batch):
    loss = {"reconstruction": "l1_gradient", "lip": 3.0, "content": 2.0, "gradient": 0.5, "adversarial": 0.1}
    model = build(loss=loss).eval()
    decoder, judge = model.hr_step(batch, CONTEXT)
    drawn, target = model.decode(batch)
    pixels, gradients = weighted_pyramid_l1(drawn, target)
    real, fake = model.hr_discriminator(target), model.hr_discriminator(drawn)
    expected = {
        "lip": 3 * lip_l1(drawn, target, batch["boxes"].value),
        "content": 2 * pixels,
        "gradient": 0.5 * gradients,
        "adversarial": 0.1 * relativistic(fake, real),
    }
    assert (decoder.network, judge.network) == ("hr_decoder", "hr_discriminator")
    found = {name: value.item() for name, value in decoder.losses.items()}
    assert found == {name: pytest.approx(value.item(), rel=1e-3) for name, value in expected.items()}
    assert judge.losses["adversarial"].item() == pytest.approx(relativistic(real, fake).item(), rel=1e-3)


def test_the_discriminator_only_judges_in_the_decoders_step_and_may_be_left_out(batch):
    model = build()
    steps = model.hr_step(batch, CONTEXT)
    torch.stack(list(next(steps).losses.values())).sum().backward()
    assert all(p.grad is None for p in model.hr_discriminator.parameters())
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved and all(name.startswith("hr_decoder.") for name in moved)
    alone = build(loss={"reconstruction": "l1_gradient", "adversarial": 0}).hr_step(batch, CONTEXT)
    assert [update.network for update in alone] == ["hr_decoder"]


def test_logits_move_where_probabilities_hardly_do(batch):
    published, free = (
        build(loss={"reconstruction": "l1_gradient", "logits": logits}).eval() for logits in (False, True)
    )
    for model in (published, free):
        torch.nn.init.constant_(model.hr_discriminator.binary_pred[0].bias, 6.0)
    scores = [model._scores(torch.rand(2, 3, 64, 64)).mean().item() for model in (published, free)]
    assert scores[0] < 1 and scores[1] == pytest.approx(6.0, abs=1.0)


def test_perceptual_networks_without_weights_are_refused_with_the_way_around():
    model = HyperLipsHR(hr_config(loss={"reconstruction": "perceptual"}))
    with pytest.raises(CheckpointError, match=r"vgg19, lpips.*--model.loss.reconstruction=l1_gradient"):
        model.initialise(None, CONTEXT)
    build().initialise(None, CONTEXT)


def test_weights_that_leave_nothing_to_compare_are_refused():
    nothing = {"content": 0, "gradient": 0, "lip": 0}
    with pytest.raises(ValueError, match="at least one weight beside adversarial"):
        hr_config(loss={"reconstruction": "l1_gradient", **nothing})
    hr_config(loss={"reconstruction": "perceptual", **nothing})  # VGG19 and LPIPS still do


def test_faces_for_the_sound_of_the_next_frame_must_be_made():
    stages = [StageConfig(name="hr", kind="hr", max_steps=1, data=HRFrameOptions(degrade={"neighbour": 0.2}))]
    with pytest.raises(ConfigError, match=r"stages\.hr\.data\.degrade\.neighbour .* add --model.hyper.neighbour=True"):
        HyperLipsHR.check_stages(hr_config(), stages)
    HyperLipsHR.check_stages(hr_config(hyper={"neighbour": True}), stages)
    HyperLipsHR.check_stages(hr_config(), [StageConfig(name="hr", kind="hr", max_steps=1, data=HRFrameOptions())])


def test_validation_measures_what_people_compare(batch):
    values = build().eval().validation_step(batch, CONTEXT)
    assert set(values) == {"l1", "lip_l1", "ssim", "loss"} and 0 < values["ssim"] < 1


# -- drawing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch):
    """The mesh that is found on Base's faces: one edge, moved a little with every call; None where told to fail."""
    state = {"calls": 0, "fails": set()}

    def find(face):
        k = state["calls"]
        state["calls"] += 1
        points = np.full((478, 2), 0.3 + 0.01 * (k % 7), np.float32)
        points[::2, 1] = 0.8
        return np.full((478, 2), np.nan, np.float32) if k in state["fails"] else points

    monkeypatch.setattr("talkingface.models.hyperlips_hr.draw.MeshFinder", lambda place: find)
    monkeypatch.setattr("talkingface.models.hyperlips_hr.draw.process_resource", lambda key, make: make())
    return state


def trained(**sections) -> HyperLipsHR:
    model = build(**sections)
    model.train()
    for _ in range(3):
        model.generator(torch.randn(8, 1, 80, 16), torch.rand(8, 6, 32, 32))
        model.hr_decoder(torch.rand(8, 6, 32, 32))
    return model.eval()


def drawn(model, **settings) -> np.ndarray:
    model.config = model.config.model_copy(
        update={"inference": model.config.inference.model_copy(update={"precision": "32", "paste": "box", **settings})}
    )
    return np.stack(list(model.generate(DrawnSource(12, gone=(7,)), Speech(0.6))))


def test_faces_are_drawn_at_the_decoders_size_and_a_blank_sketch_changes_them(seen, monkeypatch):
    model = trained()
    drawer = model.drawer()
    assert type(drawer) is HRDrawer
    faces, box = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8), np.tile([0, 0, 60, 60], (3, 1))
    mel, follows = np.random.default_rng(1).normal(size=(3, 1, 80, 16)).astype(np.float32), np.zeros(3, bool)
    sketched = drawer(faces, faces, mel, follows, box).numpy()
    assert sketched.shape == (3, 64, 64, 3)
    monkeypatch.setattr(HRDrawer, "sketches", lambda self, drawn, follows, boxes: np.zeros(drawn.shape[:3], np.uint8))
    assert (model.drawer()(faces, faces, mel, follows, box).numpy() != sketched).any()


def test_batches_and_the_memory_of_smoothing_make_no_difference(seen):
    made = []
    for size in (1, 5, 16):
        seen["calls"] = 0
        made.append(drawn(trained(), batch=size))
    for other in made[1:]:
        assert np.abs(made[0].astype(int) - other).max() <= 1


def test_features_are_smoothed_at_the_rate_of_the_video(seen, monkeypatch):
    rates = []
    monkeypatch.setattr(
        "talkingface.models.hyperlips_hr.draw.Features",
        lambda config, size, fps: rates.append(fps) or Features(config, size, fps),
    )
    source = DrawnSource(3)
    source.fps = 50.0
    list(trained().generate(source, Speech(0.2)))
    assert rates == [50.0]


def test_where_no_mesh_is_found_the_last_one_serves():
    points, none = np.full((478, 2), 0.4), np.full((478, 2), np.nan)
    features = Features(hr_config().sketch.model_copy(update={"smooth": "none"}), 32)
    assert features.next(none, False) is None and not features.sketch(none, True, 60).any()
    np.testing.assert_array_equal(features.next(points, False), points)
    np.testing.assert_array_equal(features.next(none, True), points)


def test_figures_stand_beside_those_of_enlarged_base(seen, monkeypatch):
    model = trained()
    kinds = []

    def scores(of, clips, donors, make=None):
        kinds.append(type(make() if make else of.drawer()))
        return {"face_l1": float(len(kinds))}

    monkeypatch.setattr("talkingface.models.hyperlips_hr.model.face_scores", scores)
    assert model.stage_scores([], []) == {"face_l1": 1.0, "base_face_l1": 2.0}
    assert kinds == [HRDrawer, EnlargedDrawer]


def test_base_draws_as_precisely_as_is_asked_for():
    for precision in ("32", "bf16"):
        model = build(inference={"precision": precision})
        assert model.base.inference_precision == model.inference_precision == precision


def test_a_base_that_remembers_has_its_rate_and_is_not_switched_on_afterwards():
    temporal = {**BASE, "generator": {**BASE["generator"], "temporal": True}, "inference": {"fps": 25}}
    with pytest.raises(ValueError, match=r"its Base remembers.*set inference.fps to 25"):
        hr_config(base=temporal)
    asked = hr_config(base=temporal, inference={"fps": 25})
    with pytest.raises(ConfigError, match="never trained"):
        HyperLipsHR.check_overrides(hr_config(), asked)
    HyperLipsHR.check_overrides(asked, asked)


def lend(file: Path, stage: str = "base", **settings) -> dict[str, str]:
    """Settings that borrow from a checkpoint of Base, which is written for it."""
    lender = load_config("HyperLipsBase", "folder", (), {"profile": "tiny", **settings}).config
    networks = {"generator": get_spec("HyperLipsBase").model(lender.model).generator.state_dict()}
    content = CheckpointContent("HyperLipsBase", to_plain(lender), networks, stage, ready=["generator"])
    checkpoint.save(file, content)
    return {"profile": "tiny", "experts.generator": str(file)}


def test_a_base_whose_memory_nothing_has_trained_lends_nothing(tmp_path):
    temporal = {"profile": "demo", "model.generator.temporal": True, "model.inference.fps": 25}
    asked = lend(tmp_path / "base.pt", "frames", **temporal) | {"model.inference.fps": 25}
    with pytest.raises(CheckpointError, match=r"base.pt: holds no trained memory .* for experts.generator"):
        with_borrowed(load_config("HyperLipsHR", "folder", (), asked))
    with_borrowed(load_config("HyperLipsHR", "folder", (), lend(tmp_path / "base.pt", **temporal) | asked))


def test_the_reference_comes_along_from_base_and_generation_may_change_it_with_a_warning(tmp_path, caplog):
    asked = lend(tmp_path / "base.pt", **{"model.inference.reference": "first"})
    trained = with_borrowed(load_config("HyperLipsHR", "folder", (), asked)).config.model
    assert trained.inference.reference == trained.base.inference.reference == "first"
    with pytest.raises(ConfigError, match="inference.reference is 'typical', its network was trained with 'first'"):
        with_borrowed(load_config("HyperLipsHR", "folder", (), {**asked, "model.inference.reference": "typical"}))
    typical = trained.inference.model_copy(update={"reference": "typical"})
    for inference, told in ((trained.inference, 0), (typical, 1)):
        HyperLipsHR.check_overrides(trained, trained.model_copy(update={"inference": inference}))
        assert caplog.text.count("reference is typical; faces to learn from were drawn with first") == told


# -- published files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    for scale, side in ((1, 128), (2, 256), (4, 512)):
        model = HyperLipsHR(
            hr_config(base={}, decoder={"scale": scale, "width": 1.0}, loss={"reconstruction": "l1_gradient"})
        )
        state = {f"module.{k}": v for k, v in model.hr_decoder.state_dict().items()}
        torch.save(
            {"state_dict": state, "optimizer": None, "global_step": 1, "global_epoch": 1}, folder / f"{side}.pth"
        )
    torch.save({"state_dict": model.generator.state_dict()}, folder / "hyperlipsbase_lrs2.pth")
    return folder


@pytest.mark.parametrize(("side", "scale"), [(128, 1), (256, 2), (512, 4)])
def test_the_scale_of_a_published_file_is_read_from_it(published, tmp_path, side, scale):
    use = {"hr_decoder": str(published / f"{side}.pth"), "generator": str(published / "hyperlipsbase_lrs2.pth")}
    made = import_checkpoints("HyperLipsHR", None, str(tmp_path / "x.pt"), {}, use)
    from talkingface.pipeline import Pipeline

    model = Pipeline.from_checkpoint("HyperLipsHR", made.path, "cpu").model
    assert model.config.decoder.scale == scale and model.drawn_size == side and model.config.crop.size == 128
    assert model.config.sketch.style == "upstream_infer" and model.config.inference.mel_offset == 0


def test_a_wrong_scale_is_refused_and_a_decoder_alone_does_not_speak(published, tmp_path):
    use = {"hr_decoder": str(published / "128.pth")}
    with pytest.raises(CheckpointError, match=r"128.pth.*does not fit"):
        import_checkpoints("HyperLipsHR", None, str(tmp_path / "x.pt"), {"model.decoder.scale": 2}, use)
    made = import_checkpoints("HyperLipsHR", None, str(tmp_path / "x.pt"), {}, use)
    from talkingface.pipeline import Pipeline

    with pytest.raises(CheckpointError, match="holds no trained generator"):
        Pipeline.from_checkpoint("HyperLipsHR", made.path, "cpu")
