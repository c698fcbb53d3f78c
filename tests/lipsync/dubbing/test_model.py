"""What DINet and LawDNet train: who moves when, what is compared, who is refused, and how published files come in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.dubbing_clips import make_clip
from talkingface.config.layers import to_plain
from talkingface.errors import CheckpointError, ConfigError, NothingLearnt
from talkingface.lipsync.dubbing.expert import learnt_otherwise, load_mouth_expert
from talkingface.lipsync.dubbing.judge import StoredExpert
from talkingface.lipsync.dubbing.response import audio_response
from talkingface.lipsync.dubbing.settings import DubbingStageOptions
from talkingface.lipsync.expert.judge import ExpertFile
from talkingface.models.dinet.networks.generator import DINetGenerator
from talkingface.models.lawdnet.networks.generator import LawDNetGenerator
from talkingface.networks.dubbing.discriminator import DubbingDiscriminator
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert
from talkingface.plugin.configuration import load_config
from talkingface.plugin.contract import StepContext
from talkingface.plugin.importing import import_checkpoints
from talkingface.plugin.registry import get_spec
from talkingface.sound import front_ends
from talkingface.sound.front_ends import FrontEnd, register_front_end
from talkingface.training.start import StageStart
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent
from talkingface.weights.runs import RunFolder


def configured(name="DINet", **overrides):
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_config(name, "folder", (), {"profile": "tiny", **changes}).config


def clips_of(root, name="DINet"):
    config, rng = configured(name).model, np.random.default_rng(0)
    return [make_clip(root, f"s/{n}", 40, config=config, signal=rng.uniform(size=40)) for n in range(3)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return clips_of(tmp_path_factory.mktemp("clips"))


def built(name="DINet", stage="clip", **overrides):
    """A model in one of its stages, with the context of its first step."""
    config = configured(name, **overrides)
    torch.manual_seed(0)
    model = get_spec(name).model(config.model)
    model.stage = next(each for each in config.stages if each.name == stage)
    return model, StepContext(model.stage, epoch_length=4)


def data_of(model, clips, split="train"):
    return model.plans[model.stage.kind].dataset(clips, split, model.stage.data, model.config, 1)


def batch_of(model, clips, count=3):
    data = data_of(model, clips)
    return data.collate([data[k] for k in range(count)])


@pytest.mark.parametrize("name", ["DINet", "LawDNet"])
def test_discriminators_move_before_the_generator_and_no_gradient_reaches_who_only_judges(name, tmp_path):
    clips = clips_of(tmp_path, name)
    model, ctx = built(name)
    updates = []
    for update in model.clip_step(batch_of(model, clips, 2), ctx):
        torch.stack(list(update.losses.values())).sum().backward()
        updates.append(update)
        if update.network != "generator":
            assert all(p.grad is None for p in model.generator.parameters())
    assert [update.network for update in updates] == ["discriminator", "clip_discriminator", "generator"]
    terms = {"pixels", "gradients", "frame", "clip", "sync"} | ({"image"} if name == "LawDNet" else set())
    assert set(updates[-1].losses) == terms
    judged = [p.grad.clone() for p in model.discriminator.parameters()]
    (again,) = (u for u in model.clip_step(batch_of(model, clips, 2), ctx) if u.network == "generator")
    torch.stack(list(again.losses.values())).sum().backward()
    assert all(torch.equal(p.grad, before) for p, before in zip(model.discriminator.parameters(), judged))


def test_clip_discriminator_and_expert_see_the_frames_of_one_clip_whatever_the_batch(clips):
    model, ctx = built()
    model.eval()
    batch = batch_of(model, clips)
    alone = [{name: values[k : k + 1] for name, values in batch.items()} for k in range(3)]
    with torch.no_grad():
        together = {u.network: u.losses for u in model.clip_step(batch, ctx)}
        parts = [{u.network: u.losses for u in model.clip_step(each, ctx)} for each in alone]
        fake, real = model.draw(batch)
        stacked = model.clips(batch).stacked(real)
    for network, term in (("clip_discriminator", "clip"), ("generator", "clip"), ("generator", "sync")):
        mean = torch.stack([part[network][term] for part in parts]).mean()
        torch.testing.assert_close(together[network][term], mean, rtol=1e-4, atol=1e-6)
    shades = (stacked[:, ::3].mean((2, 3)) * 255).round().int()
    for clip, seen in zip(batch["faces"], shades):
        assert seen.tolist() == clip[:, 0, 0, 0].tolist()
    assert fake.shape == real.shape == (15, 3, 52, 40)


def test_a_weight_of_zero_leaves_a_judge_out_and_a_stage_may_have_weights_of_its_own(clips):
    model, ctx = built(stage="coarse")
    off = replace(ctx, stage=ctx.stage.model_copy(update={"options": DubbingStageOptions(frame=0)}))
    (alone,) = model.frame_step(batch_of(model, clips), off)
    assert alone.network == "generator" and set(alone.losses) == {"pixels", "gradients"}
    judge, _ = model.frame_step(batch_of(model, clips), ctx)
    assert judge.network == "discriminator"


def test_a_stage_may_leave_the_averages_of_norms_as_they_are(clips):
    model, ctx = built()
    batch, norms = batch_of(model, clips), [m for m in model.generator.modules() if hasattr(m, "running_mean")]
    model.draw(batch)

    def averages():
        return [norm.running_mean.clone() for norm in norms]

    before, stage = averages(), ctx.stage.model_copy(update={"options": DubbingStageOptions(norms="running")})
    list(model.clip_step(batch, replace(ctx, stage=stage)))
    assert all(map(torch.equal, before, averages())) and all(norm.training for norm in norms)
    list(model.clip_step(batch, ctx))
    assert not any(map(torch.equal, before, averages()))


def test_the_weight_of_the_expert_grows_over_the_first_epochs():
    model, ctx = built(model__loss__sync=0.4, model__loss__sync_ramp=2.0)
    found = [model.weights(replace(ctx, step=step)).sync for step in (0, 3, 7, 50)]
    assert found == pytest.approx([0.05, 0.2, 0.4, 0.4])
    assert model.weights(ctx, ramped=False).sync == 0.4
    model, ctx = built(model__loss__sync_ramp=0.0)
    assert model.weights(ctx).sync == 0.1


def test_validation_measures_without_the_discriminators(clips):
    model, ctx = built()
    model.eval()
    with torch.no_grad():
        values = model.validation_step(batch_of(model, clips), ctx)
    assert set(values) == {"pixels", "gradients", "sync", "mouth_l1", "loss"}
    terms = sum(values[name].item() for name in ("pixels", "gradients", "sync"))
    assert values["loss"].item() == pytest.approx(terms, rel=1e-5)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_sizes_that_do_not_fit_are_refused_before_the_first_step(clips):
    model, ctx = built(stage="coarse", model__discriminator__blocks=4)
    with pytest.raises(ConfigError, match="stage 'coarse': crops of mouths of 32 pixels are too small"):
        model.initialise(data_of(model, clips), ctx)
    model, ctx = built(stage="coarse", stages__coarse__data__mouth=64)
    with pytest.raises(ConfigError, match="data.mouth 64 is more than the 32 pixels.*model.crop.width to 80"):
        model.initialise(None, ctx)


def test_vgg19_is_asked_for_by_name_with_the_way_around_it():
    model, ctx = built(stage="coarse", model__loss__reconstruction="perceptual")
    with pytest.raises(CheckpointError, match="'vgg19' are loaded; --model.loss.reconstruction=l1_gradient"):
        model.initialise(None, ctx)


def test_fine_tuning_with_little_video_is_warned_of(clips, caplog):
    model, ctx = built(stage="coarse")
    model.initialise(data_of(model, clips), ctx)
    assert not caplog.text
    stage = ctx.stage.model_copy(update={"init_from": ("saved/run/clip/best.pt:generator",)})
    model.initialise(data_of(model, clips), replace(ctx, stage=stage))
    assert "stage coarse goes on from a file with 5 s of video; below 300 s" in caplog.text


class Wide(FrontEnd):
    name, rows_per_second, width = "wide", 50.0, 40

    def extract(self, samples):
        return np.zeros((len(samples) // 320, self.width), np.float32)


def test_rows_of_another_width_go_through_a_linear_layer_and_those_of_29_know_none(tmp_path, monkeypatch):
    monkeypatch.setattr(front_ends, "_FRONT_ENDS", dict(front_ends._FRONT_ENDS))
    register_front_end(Wide)
    torch.manual_seed(0)
    for name in ("DINet", "LawDNet"):
        usual, wide = (built(name, model__audio__generator_features=front)[0] for front in ("logmel", "wide"))
        for network in ("generator", "sync_expert"):
            entries, more = (
                {key: value.shape for key, value in getattr(model, network).state_dict().items()}
                for model in (usual, wide)
            )
            assert set(more) - set(entries) == {"audio_linear.weight", "audio_linear.bias"}
            assert all(more[key] == shape for key, shape in entries.items())
        rows = torch.randn(2, 40, 9, requires_grad=True)
        drawn = wide.generator(torch.rand(2, 3, 52, 40), torch.rand(2, 15, 52, 40), rows[..., 2:7])
        score = wide.sync_expert(torch.rand(2, 15, 32, 32), rows)
        (drawn.square().mean() + score.square().mean()).backward()
        assert drawn.shape == (2, 3, 52, 40) and rows.grad[..., 2:7].abs().sum(1).all()
    file = ExpertFile.read(kept(tmp_path, model__audio__generator_features="wide"))
    stored = StoredExpert.of(file).network.state_dict()
    assert all(torch.equal(value, file.state[key]) for key, value in stored.items())


@pytest.mark.parametrize("key", ["generator_features", "sync_features"])
def test_rows_of_another_rate_are_refused_with_the_configuration(key):
    with pytest.raises(ConfigError, match=rf"{key}.*vc_mel gives 62.5 rows per second, where 50 are needed"):
        configured(**{f"model__audio__{key}": "vc_mel"})


class Knowing(MouthSyncExpert):
    """Knows: mouths and rows of these clips follow one signal."""

    def embed_faces(self, mouths):
        return mouths.mean((2, 3))[:, ::3]

    def embed_audio(self, rows):
        return (rows[:, 0, 2:7] + 1) / 2

    def scores(self, mouths, sounds):
        return (1 - (mouths[:, None] - sounds[None]).abs().mean(-1)).clamp(0, 1)


def test_the_clip_stage_does_not_begin_with_an_expert_at_chance(clips, caplog):
    model, ctx = built(model__expert__least=0.65)
    model.eval()
    train = data_of(model, clips)
    with pytest.raises(NothingLearnt, match="65% are needed: train one with .*--model=SyncNetDINet"):
        model.before_training(train, None, ctx)
    built(stage="coarse", model__expert__least=0.65)[0].before_training(train, None, built(stage="coarse")[1])
    model.sync_expert = Knowing(width=1 / 16)
    with caplog.at_level("INFO", "talkingface"):
        model.before_training(train, None, ctx)
    assert "on 2 real clips" in caplog.text or "on 3 real clips" in caplog.text
    silent, quiet = built(model__expert__least=0.65, model__loss__sync=0.0)
    silent.before_training(train, None, quiet)


def test_an_expert_of_other_crops_or_features_is_refused(tmp_path):
    config = configured().model
    recorded = config.model_dump(mode="json")
    assert learnt_otherwise(recorded, config) is None
    wider = {**recorded, "crop": {**recorded["crop"], "width": 360}}
    assert learnt_otherwise(wider, config) is None, "mouths are resized for it"
    frontal = {**recorded, "crop": {**recorded["crop"], "kind": "frontal"}}
    assert "crops with kind frontal, the model's have kind upright" in learnt_otherwise(frontal, config)
    other = {**recorded, "audio": {"generator_features": {"name": "deepspeech2"}, "sync_features": None}}
    assert "hears deepspeech2, model.audio gives it logmel" in learnt_otherwise(other, config)
    published = MouthSyncExpert(width=1 / 16)
    torch.save({"state_dict": {"net": published.state_dict()}}, tmp_path / "syncnet_256mouth.pth")
    into = MouthSyncExpert(width=1 / 16)
    load_mouth_expert(into, tmp_path / "syncnet_256mouth.pth", config)
    assert all(torch.equal(a, b) for a, b in zip(into.state_dict().values(), published.state_dict().values()))


class Hearing(DINetGenerator):
    """Draws the grey of the frame's own row, or of none."""

    deaf = False

    def forward(self, source, references, audio):
        shade = (audio[:, :1, 2:3, None] + 1) / 2
        return torch.zeros_like(source) + (0 if self.deaf else shade)


def test_audio_response_is_about_one_for_a_generator_that_draws_what_it_hears_and_zero_for_a_deaf_one(clips):
    model, ctx = built(stage="coarse", model__least_response=0.1)
    model.generator, held_out = Hearing(width=1 / 16), data_of(model, clips, "val")
    assert 0.7 < audio_response(model, held_out) < 1.6
    assert audio_response(model, data_of(model, clips[:1], "val")) > 0.5
    model.generator.deaf = True
    found = model.after_validation({}, ctx, held_out, held_out, None)
    assert found == {"audio_response": 0.0}
    model.stage_ended(replace(ctx, best={"last/audio_response": 0.2, "val/audio_response": 0.01}))
    with pytest.raises(NothingLearnt, match="'coarse' ends with val/audio_response 0.050, below 0.1"):
        model.stage_ended(replace(ctx, best={"last/audio_response": 0.05}))


def test_a_run_of_such_an_expert_is_lent_to_a_model(tmp_path):
    config = configured("SyncNetDINet")
    network = get_spec("SyncNetDINet").model(config.model).sync_expert
    content = CheckpointContent(
        model="SyncNetDINet", config=to_plain(config), networks={"sync_expert": network.state_dict()}, stage="expert"
    )
    file = tmp_path / "SyncNetDINet-demo" / "run" / "expert" / "best.pt"
    checkpoint.save(file, replace(content, trained=["sync_expert"], ready=["sync_expert"]))
    model, _ = built()
    model.load_expert("sync_expert", file)
    for key, value in network.state_dict().items():
        assert torch.equal(model.sync_expert.state_dict()[key], value), key


# -- published files ---------------------------------------------------------------------------------------------------


def saved(network, path, prefix="module."):
    nets = {"net_g": network, "net_dI": DubbingDiscriminator(3, width=1 / 16)}
    state = {name: {f"{prefix}{key}": value for key, value in net.state_dict().items()} for name, net in nets.items()}
    torch.save({"epoch": 171, "state_dict": state, "optimizer": {"net_g": {"state": {}, "param_groups": []}}}, path)
    return network


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_published_files_come_in_key_by_key(tmp_path, prefix):
    torch.manual_seed(0)
    network = saved(DINetGenerator(1 / 16, "published"), tmp_path / "clip_training_DINet_256mouth.pth", prefix)
    given = {"weights_dir": str(tmp_path), "model.audio.generator_features": "logmel"}
    imported = import_checkpoints("DINet", str(tmp_path), None, given)
    content = checkpoint.load(imported.path)
    assert content.ready == ["generator"] and content.config["model"]["compat"] == "published"
    assert content.config["model"]["crop"]["width"] == 320
    heard = content.config["model"]["audio"]["generator_features"]
    assert heard["made_by"] == {"name": "logmel", "elsewhere": True}
    for key, value in network.state_dict().items():
        assert torch.equal(content.networks["generator"][key], value), key


@pytest.mark.parametrize("condition", ["attention", "pooled"])
def test_the_kind_of_lawdnet_is_read_from_the_keys_and_its_front_end_is_asked_for(tmp_path, condition):
    torch.manual_seed(0)
    saved(LawDNetGenerator(1 / 16, "published", condition=condition), tmp_path / "own.pth")
    use, given = {"generator": str(tmp_path / "own.pth")}, {"weights_dir": str(tmp_path)}
    with pytest.raises(ConfigError, match="nothing in this file tells model.audio.generator_features; say"):
        import_checkpoints("LawDNet", None, None, given, use)
    heard = {"model.audio.generator_features": "logmel"}
    with pytest.raises(ConfigError, match="own.pth: nothing in this file tells model.crop.width; say --model.crop.w"):
        import_checkpoints("LawDNet", None, None, {**given, **heard}, use)
    imported = import_checkpoints("LawDNet", None, None, {**given, **heard, "model.crop.width": 160}, use)
    settings = checkpoint.load(imported.path).config["model"]
    assert settings["generator"]["condition"] == condition and settings["generator"]["warps"] == 2
    assert settings["crop"]["half_pixel"] and settings["crop"]["width"] == 160
    assert settings["generator"]["width"] == 1 / 16


def test_an_imported_expert_keeps_its_own_crops_and_front_end_beside_any_generator(tmp_path):
    saved(LawDNetGenerator(1 / 16, "published"), tmp_path / "checkpoint_epoch_170.pth")
    expert = {"net": MouthSyncExpert(1 / 16).state_dict()}
    for name in ("syncnet_256mouth.pth", "mine.pth"):
        torch.save({"state_dict": expert}, tmp_path / name)
    given = {"weights_dir": str(tmp_path), "model.expert.width": 1 / 16}
    hears = {"model__audio__generator_features": "deepspeech_onnx"}
    own, upright = configured("LawDNet", **hears).model, configured("DINet", **hears).model
    for name, more in (("LawDNet", {"model.audio.generator_features": "logmel"}), ("SyncNetDINet", {})):
        file = ExpertFile.read(import_checkpoints(name, str(tmp_path), None, {**given, **more}).path)
        stored, settings = StoredExpert.of(file), file.content.config["model"]
        assert (stored.crop.kind, stored.crop.mouth, stored.hears.name) == ("upright", 256, "deepspeech_onnx")
        assert "crops with kind upright, the model's have kind frontal" in learnt_otherwise(settings, own)
        assert learnt_otherwise(settings, upright) is None
        assert "hears deepspeech_onnx, model.audio gives it logmel" in learnt_otherwise(settings, configured().model)
    settings = checkpoint.load(tmp_path / "LawDNet" / "imported.pt").config["model"]
    assert settings["crop"]["kind"] == "frontal" and settings["audio"]["generator_features"]["name"] == "logmel"
    for name, key in (("DINet", "sync_features"), ("SyncNetDINet", "generator_features")):
        with pytest.raises(ConfigError, match=f"mine.pth: nothing in this file tells model.audio.{key}; say"):
            import_checkpoints(name, None, None, given, {"sync_expert": str(tmp_path / "mine.pth")})


def test_crops_of_an_imported_expert_stand_on_its_graph_and_are_no_setting_of_a_training():
    model, ctx = built(stage="coarse", model__expert__crop__kind="frontal")
    assert model.graphs()[-1].crop["kind"] == "frontal" and model.config.crop.kind == "upright"
    with pytest.raises(ConfigError, match="leave it null in training: model.crop counts"):
        model.check_stages(model.config, [ctx.stage])


# -- going on from a file ----------------------------------------------------------------------------------------------


def kept(tmp_path, name="DINet", **overrides):
    """A file of a trained model with these settings."""
    config = configured(name, **overrides)
    model = get_spec(name).model(config.model)
    networks = {each: getattr(model, each).state_dict() for each in ("generator", "sync_expert")}
    file, names = tmp_path / f"{name}.pt", list(networks)
    checkpoint.save(file, CheckpointContent(name, to_plain(config), networks, "clip", names, names))
    return file


def begin(tmp_path, file, stage="coarse", networks=("generator",), name="DINet", **overrides):
    """What the model of a run would begin with, where a stage goes on from a file."""
    origins = [f"{file}:{each}" for each in networks]
    model, ctx = built(name, stage, **{f"stages__{stage}__init_from": origins, **overrides})
    config = configured(name, **{f"stages__{stage}__init_from": origins, **overrides})
    StageStart(config, model, ctx.stage, RunFolder(tmp_path / "run"), ()).check(())
    return model


@pytest.mark.parametrize(
    ("name", "made", "told"),
    [
        ("DINet", {"model__compat": "published"}, ["compat=published"]),
        ("DINet", {"model__generator__blended": True}, ["generator.blended=true"]),
        ("DINet", {"model__crop__kind": "frontal"}, ["crop.kind=frontal"]),
        ("LawDNet", {"model__compat": "published", "model__crop__half_pixel": True},
         ["compat=published", "crop.half_pixel=true"]),
        ("LawDNet", {"model__generator__quirks__dead_layers": True}, ["generator.quirks.dead_layers=true"]),
    ],
)  # fmt: skip
def test_a_generator_is_not_trained_on_as_another_and_what_to_set_is_named(tmp_path, name, made, told):
    file = kept(tmp_path, name, **made)
    with pytest.raises(ConfigError) as error:
        begin(tmp_path, file, name=name)
    assert f"init_from '{file}:generator'" in str(error.value)
    assert str(error.value).endswith("give " + " ".join(f"--model.{each}" for each in told))
    model = begin(tmp_path, file, name=name, **made)
    state = checkpoint.load(file).networks["generator"]
    assert all(torch.equal(value, state[key]) for key, value in model.generator.state_dict().items())


def test_a_switch_may_be_set_in_place_of_compat_and_loss_and_sizes_of_crops_are_free(tmp_path):
    file = kept(tmp_path, model__compat="published")
    begin(tmp_path, file, model__generator__blended=True, model__crop__width=80, model__loss__mouth=3.0)


def test_an_expert_of_other_crops_does_not_come_in_through_init_from_but_may_learn_new_ones(tmp_path):
    steady = kept(tmp_path, model__crop__smooth=0.0)
    begin(tmp_path, steady, "clip", ["sync_expert"])
    file = kept(tmp_path, model__crop__scale=1.2)
    with pytest.raises(ConfigError, match="learnt on crops with scale 1.2, the model's have scale 1.05; train one"):
        begin(tmp_path, file, "clip", ["sync_expert"])
    begin(tmp_path, file, "clip", ["generator"])
    begin(tmp_path, file, "expert", ["sync_expert"])
