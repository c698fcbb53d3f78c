"""MakeItTalk's three stages: where they start, what they train, which terms there are; published files."""

from __future__ import annotations

import pickle
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.canonical_faces import SMALL, faces_3d, make_clip, picture, small_config, turn
from helpers.dumps import Runs
from talkingface.cli.doctor import report
from talkingface.clips.source import Audio
from talkingface.config.sections import StageConfig
from talkingface.errors import CheckpointError, ConfigError, DataError, NothingLearnt
from talkingface.evaluation.report.run_list import summary_of
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.faces.affine import mapped
from talkingface.models.makeittalk import scores
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.clip_faces import crop_head, head_box, to_crop
from talkingface.models.makeittalk.data import ContentWindows, SpeakerSequences, read_motion
from talkingface.models.makeittalk.losses import laplacian
from talkingface.models.makeittalk.model import MakeItTalk
from talkingface.models.makeittalk.networks.translation import TranslationUNet
from talkingface.models.makeittalk.pairs import TranslatePairs, drawn_input
from talkingface.models.makeittalk.scores import audio_response, content_scores, head_motion, head_spread
from talkingface.models.makeittalk.translation import as_bgr, as_pictures, translated
from talkingface.pipeline import Pipeline
from talkingface.plugin.configuration import from_plain, load_config
from talkingface.plugin.contract import StepContext
from talkingface.plugin.importing import import_checkpoints
from talkingface.task import examine
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    return [make_clip(root, name, phase=0.3 * k) for k, name in enumerate("ab")]


def build(**sections) -> MakeItTalk:
    torch.manual_seed(0)
    return MakeItTalk(small_config(**sections))


def context(kind: str, step: int = 0, batch_size: int = 2) -> StepContext:
    return StepContext(SimpleNamespace(kind=kind, name=kind, init_from=(), batch_size=batch_size), step=step)


def batch_of(data, size: int = 2) -> dict[str, torch.Tensor]:
    return data.collate([data.sample(data.clips[k % 2], np.random.default_rng(k)) for k in range(size)])


def updates(model: MakeItTalk, kind: str, batch, step: int = 0) -> dict[str, set[str]]:
    return {u.network: set(u.losses) for u in model.training_step(batch, context(kind, step))}


def test_training_begins_with_a_face_at_rest_and_the_published_start_far_from_it(clips):
    for start, largest in (("zero", 0.0), ("published", np.inf)):
        model = build(content={"start": start}).eval()
        data = ContentWindows(clips, "train", {}, model.config)
        model.initialise(data, context("content"))
        motion = data.motion(clips[0])
        moved = np.abs(model.content_of(motion.sound, motion.rest)).max()
        assert moved == 0 if largest == 0 else moved > 0.02


def test_a_content_stage_that_does_not_hear_is_an_error_unless_any_response_will_do():
    def ended(response: float, **content) -> None:
        build(content=content).stage_ended(replace(context("content"), best={"last/audio_response": response}))

    ended(0.2)
    ended(0.05, least_response=None)
    with pytest.raises(NothingLearnt, match="'content' ends with val/audio_response 0.050, below 0.1"):
        ended(0.05)
    build().stage_ended(replace(context("speaker"), best={"last/audio_response": 0.05}))


def test_a_deaf_branch_has_no_response_to_another_sound(clips):
    model = build().eval()
    data = ContentWindows(clips, "train", {}, model.config)
    model.initialise(data, context("content"))
    assert audio_response(model, data) == 0
    torch.nn.init.normal_(model.content_branch.network.fc[-1].weight)
    assert audio_response(model, data) > 0.1
    assert np.isnan(audio_response(model, ContentWindows(clips[:1], "train", {}, model.config)))


def test_figures_of_a_validation_take_no_more_clips_than_they_need_and_hold_few(clips, monkeypatch):
    many = ContentWindows(clips * 60, "val", {"cache_mb": 0}, small_config())
    looked, held, most = [], [], []

    def noted(clip):
        motion = read_motion(clip, many.model_config)
        looked.append(clip)
        held.append(weakref.ref(motion.still))
        most.append(sum(each() is not None for each in held))
        return motion

    monkeypatch.setattr(many, "motion", noted)
    deaf = SimpleNamespace(content_of=lambda sound, rest: np.zeros((len(sound), 204)))
    assert audio_response(deaf, many) == 0
    assert len(looked) == scores.MOST_CLIPS and (looked[0], looked[-1]) == (clips[0], clips[1]) and max(most) <= 4
    looked.clear()
    monkeypatch.setattr(scores, "_spread", lambda model, motion: np.ones(5))
    assert head_spread(deaf, many)["head_std"] == 1
    assert len(looked) == scores.MOST_CLIPS


def test_up_to_so_many_clips_all_count_and_each_hears_the_next_one(clips, monkeypatch):
    three = [*clips, clips[0]]
    data = ContentWindows(three, "val", {}, small_config())
    heard = []
    monkeypatch.setattr(scores, "_change", lambda model, own, other: heard.append((own, other)) or 1.0)
    audio_response(None, data)
    motions = [data.motion(clip) for clip in three]
    assert [(id(own), id(other)) for own, other in heard] == [
        (id(motions[k]), id(motions[(k + 1) % 3])) for k in range(3)
    ]


def test_what_the_branches_hear_is_scaled_by_the_training_data(clips):
    model = build()
    data = ContentWindows(clips, "train", {}, model.config)
    model.initialise(data, context("content"))
    rows = torch.from_numpy(np.concatenate([data.motion(clip).sound for clip in clips]))
    spread = model.content_branch.scaled(rows)
    assert spread.mean(0).abs().max() < 1e-3 and spread.std() > 0.5
    assert "sound_mean" in model.content_branch.state_dict()
    speaker = SpeakerSequences(clips, "train", {"rows": 64}, model.config)
    model.content_branch.sound_mean += 1
    model.initialise(speaker, StepContext(SimpleNamespace(kind="speaker", name="s", init_from=("content",))))
    torch.testing.assert_close(model.speaker_branch.sound_mean, model.content_branch.sound_mean)


def test_weights_that_come_without_a_scale_take_that_of_the_data_and_others_keep_theirs(clips):
    model = build()
    data = ContentWindows(clips, "train", {}, model.config)
    going_on = StepContext(SimpleNamespace(kind="content", name="content", init_from=("imported.pt:content_branch",)))
    model.content_branch.sound_mean += 1
    model.initialise(data, going_on)
    assert (model.content_branch.sound_mean == 1).all(), "the scale of a run that was trained"
    model.content_branch.set_scale(torch.zeros(80), torch.ones(80))  # as a published file leaves them
    model.initialise(data, going_on)
    torch.testing.assert_close(model.content_branch.sound_mean, torch.from_numpy(data.scale()[0]))


def test_the_branch_learns_to_open_the_mouth_with_the_sound(clips):
    model = build(content={"hidden": 32})
    data = ContentWindows(clips, "train", {"windows": 64}, model.config)
    model.initialise(data, context("content"))
    optimizer = torch.optim.Adam(model.content_branch.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=150)
    model.train()
    for step in range(150):
        items = [data.sample(clip, np.random.default_rng(step)) for clip in clips]
        (update,) = model.training_step(data.collate(items), context("content", step))
        optimizer.zero_grad()
        torch.stack(list(update.losses.values())).sum().backward()
        optimizer.step()
        schedule.step()
    found = content_scores(model.eval(), clips, clips[::-1])
    assert found["content_lip_error"] < 0.6 * found["mean_mouth"] and found["content_opening_corr"] > 0.9
    assert found["content_opening_corr_shuffled"] < 0.8


def test_the_motion_term_wants_rows_that_follow_each_other(clips):
    model = build(loss={"motion": 1.0})
    with pytest.raises(ConfigError, match="needs data.sampling published"):
        model.initialise(ContentWindows(clips, "train", {}, model.config), context("content"))
    data = ContentWindows(clips, "train", {"sampling": "published"}, model.config)
    with pytest.raises(ConfigError, match="set batch_size to 1, 1 for each process, instead of 2"):
        model.initialise(data, context("content"))
    model.initialise(data, context("content", batch_size=1))
    assert updates(model, "content", batch_of(data, 1))["content_branch"] == {"l1", "laplacian", "motion"}


def test_rows_that_are_there_count_alone_and_are_not_picked_out_for_that():
    model, mask = build(), torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) < 0.6
    predicted, target = torch.randn(2, 3, 20, 204, dtype=torch.float32).unbind()
    operations = []

    class Noted(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            operations.append((func, args))
            return func(*args, **(kwargs or {}))

    with Noted():
        losses = model._moved_losses(predicted, target, mask)
    picked = [args for func, args in operations if func is torch.ops.aten.index.Tensor]
    assert not any(each is not None and each.dtype == torch.bool for _, places in picked for each in places)
    there = (predicted - target)[mask]
    torch.testing.assert_close(losses["l1"], there.abs().mean())
    torch.testing.assert_close(losses["laplacian"], laplacian(there.unflatten(-1, (-1, 3))).abs().mean())


def test_the_judges_take_part_from_their_step_on_and_only_where_they_are_wanted(clips):
    options = {"gan_start": 5}
    model = build(loss=options)
    batch = batch_of(SpeakerSequences(clips, "train", {"rows": 64}, model.config))
    assert updates(model, "speaker", batch, 4) == {"speaker_branch": {"l1", "laplacian"}}
    assert updates(model, "speaker", batch, 5) == {
        "temporal_discriminator": {"real", "made"},
        "speaker_branch": {"l1", "laplacian", "adversarial"},
    }
    both = build(loss=options, speaker={"frame_discriminator": True})
    assert list(updates(both, "speaker", batch, 5)) == [
        "temporal_discriminator", "frame_discriminator", "speaker_branch",
    ]  # fmt: skip
    alone = build(loss={"adversarial": 0.0})
    assert alone.plans["speaker"].trains == ("speaker_branch",)
    assert updates(alone, "speaker", batch, 9) == {"speaker_branch": {"l1", "laplacian"}}


def test_a_head_that_moves_too_little_is_as_far_off_as_one_that_moves_too_much(clips, monkeypatch):
    data = SpeakerSequences(clips, "train", {"rows": 64}, small_config())
    found = {}
    for factor in (0.0, 0.5, 1.0, 2.0):
        monkeypatch.setattr(scores, "_spread", lambda model, motion, factor=factor: np.full(5, factor))
        found[factor] = head_spread(None, data)
    assert {factor: values["head_std"] for factor, values in found.items()} == {k: pytest.approx(k) for k in found}
    off = {factor: values["head_distance"] for factor, values in found.items()}
    assert off[0.5] == pytest.approx(off[2.0]) and 0 == off[1.0] < off[0.5] < off[0.0] < 10


def test_the_judges_see_the_motion_beside_the_face_at_rest_unless_published(clips):
    batch = batch_of(SpeakerSequences(clips, "train", {"rows": 64}, small_config()))
    still = batch["face"][:, None].expand(-1, 64, -1)
    seen = {}
    for judged in ("motion", "faces"):
        seen[judged] = []
        model = build(loss={"judged": judged})
        model.temporal_discriminator.register_forward_pre_hook(lambda _, args, seen=seen[judged]: seen.append(args[0]))
        updates(model, "speaker", {**batch, "target": still}, 5)
    assert (seen["motion"][0] == 0).all(), "a head that rests does not move"
    np.testing.assert_array_equal(seen["faces"][0], still)


def test_the_speaker_stage_moves_its_branch_alone_and_never_content(clips):
    model = build()
    batch = batch_of(SpeakerSequences(clips, "train", {"rows": 64}, model.config))
    for update in model.training_step(batch, context("speaker", 5)):
        if update.network == "speaker_branch":
            torch.stack(list(update.losses.values())).sum().backward()
    assert all(p.grad is None for p in model.content_branch.parameters())
    assert all(p.grad is None for p in model.temporal_discriminator.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.speaker_branch.parameters())


def test_rows_that_are_not_there_count_for_nothing(clips):
    model = build(loss={"adversarial": 0.0, "code_noise": 0.0}).eval()
    batch = batch_of(SpeakerSequences(clips, "train", {"rows": 128}, model.config))
    assert not batch["mask"].all()
    (first,) = model.training_step(batch, context("speaker"))
    batch["target"][~batch["mask"]] += 100
    (second,) = model.training_step(batch, context("speaker"))
    assert first.losses["l1"] == second.losses["l1"]


@pytest.mark.parametrize(
    ("kind", "data", "options"),
    [("speaker", SpeakerSequences, {"rows": 128}), ("translate", TranslatePairs, {}), ("content", ContentWindows, {})],
)
def test_validation_says_the_same_whatever_the_size_of_its_batches(clips, tmp_path, kind, data, options):
    unlike = make_clip(tmp_path, "short", 24, phase=0.5, gone=tuple(range(6)))  # less of it, and a mouth wide open
    model = build(content={"start": "published"}, loss={"mouth": 10.0}).eval()
    held_out = data([*clips, unlike], "val", options, model.config)
    assert len(held_out) == 3
    items, values = [held_out[k] for k in range(3)], {}
    items[2]["target"] = items[2]["target"][::-1].copy() if kind == "translate" else items[2]["target"] + 1
    with torch.no_grad():
        for size in (1, 2, 3):
            parts = [items[k : k + size] for k in range(0, 3, size)]
            found = [model.validation_step(held_out.collate(part), context(kind)) for part in parts]
            values[size] = {n: sum(len(p) * v[n].item() for p, v in zip(parts, found)) / 3 for n in found[0]}
    assert values[2] == pytest.approx(values[1], rel=1e-5) and values[3] == pytest.approx(values[1], rel=1e-5)


def test_the_spread_of_a_head_is_that_of_its_motion(clips):
    data = SpeakerSequences(clips, "train", {"rows": 64}, small_config())
    motion = data.motion(clips[0])
    moved = head_motion(motion.moving, motion.rest)
    assert moved.std(axis=0)[0] > 2 and moved.std(axis=0)[2] > 1, "it sways by 0.1 and 0.05 radians"
    assert head_motion(motion.still, motion.rest).std(axis=0)[:3].max() < 0.3
    found = head_spread(build().eval(), data)
    motions = ("yaw", "pitch", "roll", "x", "y")
    assert set(found) == {"head_std", "head_distance", *(f"head_std_{name}" for name in motions)}


def test_the_translation_begins_with_the_moved_portrait_and_leaves_the_mouth_to_the_network(clips):
    model = build()
    data = TranslatePairs(clips, "train", {}, model.config)
    batch = batch_of(data)
    drawn = translated(model.translator, batch, "warped")
    outside = batch["inside"][:, None].expand(-1, 3, -1, -1) == 0
    torch.testing.assert_close(drawn[outside], as_bgr(batch["moved"])[outside])
    other = {**batch, "moved": batch["moved"].clone()}
    other["moved"][batch["inside"] == 255] = 0
    torch.testing.assert_close(translated(model.translator, other, "warped"), drawn)


def test_a_translation_that_was_trained_before_goes_on_as_it_was(clips):
    model = build()
    torch.nn.init.ones_(model.translator.model.model[-1].weight)
    before = {key: value.clone() for key, value in model.translator.state_dict().items()}
    init_from = ("speaker", "translate/best.pt:translator")
    stage = SimpleNamespace(kind="translate", name="translate", init_from=init_from)
    model.initialise(TranslatePairs(clips, "train", {}, model.config), StepContext(stage))
    for key, value in model.translator.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_translation_of_another_input_is_refused_with_what_to_set():
    trained = small_config(translate={"input": "portrait"}).model_dump()
    told = MakeItTalk.trained_otherwise("translate", {"translator"}, trained, small_config())
    assert told.endswith("give --model.translate.input=portrait")
    assert MakeItTalk.trained_otherwise("content", {"content_branch"}, trained, small_config()) is None
    same = small_config(translate={"input": "portrait"})
    assert MakeItTalk.trained_otherwise("translate", {"translator"}, trained, same) is None


def psnr(drawn: torch.Tensor, target: torch.Tensor) -> float:
    return float(-10 * (drawn - as_bgr(target)).square().mean().log10())


def test_the_translation_obeys_the_landmarks_and_keeps_the_colours_of_its_portrait():
    faces, size = faces_3d(12, moving=False)[..., :2], 32
    box = head_box(faces)
    points = [mapped(face, to_crop(box, size)) for face in faces]
    reddish = [crop_head(picture(face), box, size) for face in faces]
    people = [reddish, [head[..., ::-1].copy() for head in reddish]]  # the second one is blue

    def items(heads, shown, wanted):
        made = [drawn_input(heads[a], points[a], points[b], "warped") for a, b in zip(shown, wanted, strict=True)]
        given = {"portrait": [heads[a] for a in shown], "target": [heads[b] for b in wanted]}
        named = {name: [item[name] for item in made] for name in made[0]} | given
        return {name: torch.from_numpy(np.stack(values)) for name, values in named.items()}

    model = build()
    model.initialise(SimpleNamespace(), context("translate"))
    optimizer, rng = torch.optim.Adam(model.translator.parameters(), lr=4e-3), np.random.default_rng(0)
    for step in range(60):
        parts = [items(heads, *rng.integers(len(faces), size=(2, 4))) for heads in people]
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        (update,) = model.training_step(batch, context("translate", step))
        optimizer.zero_grad()
        torch.stack(list(update.losses.values())).sum().backward()
        optimizer.step()
    shown, wanted, elsewhere = [3] * 4, [0, 5, 6, 7], [6, 11, 0, 1]
    with torch.no_grad():
        for heads, strongest in zip(people, (2, 0), strict=True):  # BGR
            own, other = items(heads, shown, wanted), items(heads, shown, elsewhere)
            blank = {**items(heads, shown, shown), "drawing": torch.full_like(own["drawing"], 255)}
            told = [translated(model.translator, each, "warped") for each in (own, other, blank)]
            right, *wrong = (psnr(drawn, own["target"]) for drawn in told)
            assert right > max(wrong) + 1, (right, wrong)
            mean, true = told[0].mean((0, 2, 3)), as_bgr(own["target"]).mean((0, 2, 3))
            assert mean.argmax() == strongest and (mean - true).abs().max() < 0.03


def test_colours_come_back_in_the_order_in_which_they_went():
    pictures = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    torch.testing.assert_close(as_pictures(as_bgr(pictures)), pictures)
    red = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    red[..., 0] = 255
    assert as_bgr(red)[0, :, 0, 0].tolist() == [0, 0, 1]


def test_without_vgg19_the_error_names_the_way_without():
    model = build(loss={"reconstruction": "perceptual"})
    with pytest.raises(CheckpointError, match="l1_gradient trains without"):
        model.initialise(SimpleNamespace(), context("translate"))


@pytest.mark.parametrize(
    ("inference", "needed"),
    [
        ({}, {"content_branch", "speaker_branch", "translator"}),
        ({"render": "warp"}, {"content_branch", "speaker_branch"}),
        ({"head": "source"}, {"content_branch", "translator"}),
        ({"head": "none", "render": "warp"}, {"content_branch"}),
    ],
)
def test_what_speaking_needs_follows_from_the_settings(inference, needed):
    assert set(MakeItTalk.needed_to_speak(small_config(inference=inference))) == needed


# -- published files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Look-alike files of the published names, of published sizes for the landmark networks."""
    from talkingface.models.makeittalk.networks.content import ContentBranch
    from talkingface.models.makeittalk.networks.speaker import SpeakerBranch

    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(1)
    content, speaker = ContentBranch(), SpeakerBranch()
    torch.save({"model_g_face_id": content.state_dict(), "epoch": 3}, folder / "ckpt_content_branch.pth")
    unused = {"decoder.layer.weight": torch.ones(2), "comb_mlp.0.weight": torch.ones(2)}
    state = {f"module.{key}": value for key, value in {**speaker.state_dict(), **unused}.items()}
    torch.save({"G": state, "epoch": 3}, folder / "ckpt_speaker_branch.pth")
    return folder, content


def test_published_files_come_with_their_settings_and_say_what_else_they_need(published, tmp_path):
    folder, content = published
    made = import_checkpoints("MakeItTalk", str(folder), None, {"weights_dir": str(tmp_path)})
    assert made.licence.startswith("non-commercial")
    line = f"{made.path} (published weights of MakeItTalk, imported; what is made with them is {made.licence})"
    assert line in report(str(tmp_path))
    assert set(made.networks) == {"content_branch", "speaker_branch"}
    assert set(made.missing) == {"translator"}
    stored = checkpoint.load(made.path)
    torch.testing.assert_close(
        stored.networks["content_branch"]["network.fc.6.weight"], content.state_dict()["fc.6.weight"]
    )
    model = stored.config["model"]
    assert (model["sound"]["name"], model["sound"]["speaker"]) == ("autovc", "resemblyzer")
    assert model["sound"]["made_by"]["name"] == "autovc" and model["sound"]["made_by"]["elsewhere"]
    assert (model["inference"]["calibrate"], model["inference"]["amp_lip_y"]) == (True, 2.0)
    assert model["content"]["resting"] == 1
    with pytest.raises(CheckpointError, match="holds no trained translator"):
        Pipeline.from_checkpoint("MakeItTalk", made.path, "cpu")
    with pytest.raises(DataError, match=r"MEAN_STD_AUTOVC_RETRAIN_MEL_AU.txt: no such file"):
        Pipeline.from_checkpoint("MakeItTalk", made.path, "cpu", {"model.inference.render": "warp"})
    wrong = {"model.sound.name": "vc_mel", "model.sound.speaker": "statistics", "model.scale": "own"}
    with pytest.raises(CheckpointError, match=r"front end autovc \(made elsewhere.*, but vc_mel .*in use"):
        Pipeline.from_checkpoint("MakeItTalk", made.path, "cpu", {"model.inference.render": "warp", **wrong})


@pytest.fixture(scope="module")
def translation(tmp_path_factory):
    """A look-alike of the published translation, narrow: the optimiser lies in it as an object."""
    torch.manual_seed(1)
    network = TranslationUNet(width=4)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 6, 64, 64)).sum().backward()
    optimizer.step()
    folder = tmp_path_factory.mktemp("translation")
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"G": state, "opt": optimizer, "epoch": 116}, folder / "ckpt_116_i2i_comb.pth")
    return folder, network


def test_the_published_translation_is_read_past_its_optimiser(translation, tmp_path):
    folder, network = translation
    narrow = {"model.translate.width": 4, "weights_dir": str(tmp_path)}
    made = import_checkpoints("MakeItTalk", str(folder), str(tmp_path / "imported.pt"), narrow)
    assert made.networks == ("translator",) and set(made.missing) == {"content_branch", "speaker_branch"}
    stored = checkpoint.load(made.path)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(stored.networks["translator"][key], value)
    assert stored.config["model"]["translate"]["input"] == "portrait"
    other = tmp_path / "mine.bin"
    other.write_bytes((folder / "ckpt_116_i2i_comb.pth").read_bytes())
    again = import_checkpoints("MakeItTalk", None, str(tmp_path / "b.pt"), narrow, {"translator": str(other)})
    assert again.networks == ("translator",)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("ckpt_content_branch.pth", {"model_g_face_id": {}}),
        ("ckpt_speaker_branch.pth", {"G": {}}),
        ("ckpt_116_i2i_comb.pth", {"G": {}}),
    ],
)
def test_published_names_with_code_in_them_are_refused_in_a_line(tmp_path, monkeypatch, file, content):
    monkeypatch.chdir(tmp_path)
    torch.save({**content, "opt": Runs()}, tmp_path / file)
    with pytest.raises(CheckpointError, match=rf"{file}: refused: .*system") as caught:
        import_checkpoints("MakeItTalk", str(tmp_path), str(tmp_path / "imported.pt"), {"weights_dir": str(tmp_path)})
    assert "\n" not in str(caught.value) and not (tmp_path / "harm.txt").exists()


def test_a_style_of_the_imported_file_moves_the_head_and_is_for_published_weights_alone(tmp_path):
    (tmp_path / "MakeItTalk").mkdir()
    vector = np.full(256, 1 / 16)
    (tmp_path / "MakeItTalk/emb.pickle").write_bytes(pickle.dumps({"iWeklsXc0H8": vector}))
    model = build(inference={"style": "iWeklsXc0H8"})
    model.bind(tmp_path, "cpu")
    with pytest.raises(ConfigError, match=r"emb.pickle has vectors of resemblyzer"):
        model._style(Audio(np.zeros(16000, np.float32)))
    sound = {"name": "vc_mel", "speaker": "resemblyzer"}
    model = build(inference={"style": "iWeklsXc0H8"}, sound=sound)
    model.bind(tmp_path, "cpu")
    np.testing.assert_allclose(model._style(Audio(np.zeros(16000, np.float32))), vector)


def test_imported_constants_scale_the_sound(tmp_path):
    folder = tmp_path / "MakeItTalk"
    folder.mkdir()
    np.savetxt(folder / "MEAN_STD_AUTOVC_RETRAIN_MEL_AU.txt", np.concatenate([np.full(80, 0.5), np.full(80, 2.0)]))
    model = MakeItTalk(small_config().model_copy(update={"scale": "published"}))
    model.bind(tmp_path, "cpu")
    assert model.content_branch.scaled(torch.full((1, 80), 1.5)).eq(0.5).all()
    model.content_branch.set_scale(torch.zeros(80), torch.ones(80))  # as weights of a published file do
    model.initialise(SimpleNamespace(), context("content"))
    assert model.content_branch.scaled(torch.full((1, 80), 1.5)).eq(0.5).all()
    assert model.licence.startswith("non-commercial") and build().licence == ""
    about = EvaluationSetup.from_config(load_config("MakeItTalk", "folder").config, SimpleNamespace(model=model))
    assert about.identity["licence"] == model.licence
    run = RunFolder(tmp_path / "MakeItTalk-folder" / "run")
    run.set_status("running", model.licence)
    run.set_status("finished")
    assert summary_of(run.path).licence == model.licence
    told = list(examine(load_config("MakeItTalk", "folder", (), {"model.scale": "published"})))
    assert any(finding.text.endswith(model.licence) for finding in told)
    assert model.front_end.name == "vc_mel"


def test_the_earlier_command_is_understood():
    overrides = {"amp_lip_x": 1.5, "amp_pos": 0.3, "close_input_face_mouth": True, "reuse_train_emb_list": ["key"]}
    loaded = load_config("audio2landmark_content", "demo", (), overrides)
    made = loaded.config.model.inference
    assert loaded.config.model_name == "MakeItTalk"
    assert (made.amp_lip_x, made.amp_pos, made.close_input_mouth, made.style) == (1.5, 0.3, True, "key")
    stored = from_plain(load_config("MakeItTalk", "demo").as_dict(), overrides, "a.pt")  # as `generate` does
    assert stored.model.inference == made
    assert isinstance(loaded.config.stages[0], StageConfig) and SMALL


@pytest.mark.parametrize(
    ("head", "video", "picture"),
    [("auto", "source", "predicted"), ("predicted", "predicted", "predicted"), ("none", "none", "none")],
)
def test_whose_head_motion_it_is_follows_from_the_setting(head, video, picture):
    model = build(inference={"head": head})
    assert (model.head_follows(picture=False), model.head_follows(picture=True)) == (video, picture)


def test_the_speaker_branch_learns_motion_that_follows_the_vector():
    torch.manual_seed(0)
    sizes = {"hidden": 16, "code": 32, "width": 16}
    model = build(speaker=sizes, loss={"adversarial": 0.0, "code_noise": 0.0})
    voices = torch.nn.functional.normalize(torch.randn(2, 256), dim=1)
    rest = torch.from_numpy(canonical_face().astype(np.float32)).flatten()
    turned = [canonical_face() @ turn(0, angle).T for angle in (0.1, -0.1)]
    tilts = [torch.from_numpy(face.astype(np.float32)).flatten() for face in turned]

    def batch() -> dict[str, torch.Tensor]:
        return {
            "rows": torch.randn(4, 24 + 17, 80),
            "speaker": voices.repeat(2, 1),
            "face": rest.expand(4, -1),
            "target": torch.stack(tilts).repeat(2, 1)[:, None].expand(-1, 24, -1),
            "mask": torch.ones(4, 24, dtype=torch.bool),
        }

    optimizer = torch.optim.Adam(model.speaker_branch.parameters(), lr=2e-3)
    for step in range(100):
        (update,) = model.training_step(batch(), context("speaker", step))
        optimizer.zero_grad()
        torch.stack(list(update.losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        predicted, _ = model.eval()._moved(batch(), 0.0)
    left, right = (head_motion(rows.numpy(), rest.numpy())[:, 2].mean() for rows in predicted[:2])
    assert left * head_motion(tilts[0][None].numpy(), rest.numpy())[0, 2] > 0
    assert abs(left - right) > 0.5 * np.degrees(0.2), "the same sound, another voice"
