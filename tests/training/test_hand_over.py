"""What stages and models hand on: networks, first weights, options; and that nothing is handed on by accident."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from talkingface.clips.source import Audio
from talkingface.config.stages import Origin
from talkingface.errors import CheckpointError, ConfigError, NothingLearnt
from talkingface.pipeline import Pipeline
from talkingface.plugin.contract import Plan
from talkingface.training.trainer import StageLoop
from talkingface.weights import checkpoint
from toys.build import toy_config, toy_trainer

FILES = ("coarse/best", "coarse/last", "fine/best", "fine/last")


class Killed(BaseException):
    """Stands for a process that ends without a chance to clean up."""


@pytest.fixture(autouse=True)
def painters(monkeypatch):
    """Makes the two toys known."""
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "toys.toy_painter")
    import toys.toy_painter

    return toys.toy_painter


@pytest.fixture
def ear(tmp_path) -> Path:
    """A finished run of ToyEar."""
    toy_trainer(toy_config(tmp_path, "ToyEar"), tmp_path / "ear").fit()
    return tmp_path / "ear"


def train(tmp_path: Path, name: str, **overrides) -> Path:
    """A run of ToyPainter that was given the ear."""
    given = {"experts.ear": str(tmp_path / "ear"), "save_every_steps": 2}
    loaded = toy_config(tmp_path, "ToyPainter", **{**given, **overrides})
    toy_trainer(loaded, tmp_path / name).fit()
    return tmp_path / name


def kill_at(monkeypatch, stage: str, step: int) -> None:
    original = StageLoop._train_batch

    def train_batch(self, batch, ctx):
        if (self.stage.name, ctx.step) == (stage, step):
            raise Killed
        return original(self, batch, ctx)

    monkeypatch.setattr(StageLoop, "_train_batch", train_batch)


def assert_same(one, other) -> None:
    """Equal to the last bit, all the way down."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


def assert_same_runs(one: Path, other: Path) -> None:
    for name in FILES:
        assert_same(vars(checkpoint.load(one / f"{name}.pt")), vars(checkpoint.load(other / f"{name}.pt")))


def frames_of(checkpoint: Path) -> np.ndarray:
    pipeline = Pipeline.from_checkpoint("ToyPainter", checkpoint, "cpu")
    sound = np.sin(np.arange(16000 // 4) ** 2).astype(np.float32)
    with torch.inference_mode():
        return np.stack(list(pipeline.model.generate(SimpleNamespace(fps=25.0, size=(32, 32)), Audio(sound, 16000))))


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "step"), [("fine", 0), ("fine", 1), ("fine", 5), ("coarse", 1), ("coarse", 6)],
    ids=["between the stages", "before the first save", "in the middle", "coarse, unsaved", "coarse"],
)  # fmt: skip
def test_a_run_that_was_killed_ends_like_one_that_was_not(tmp_path, monkeypatch, ear, stage, step):
    whole = train(tmp_path, "whole")
    with monkeypatch.context() as patch:
        kill_at(patch, stage, step)
        with pytest.raises(Killed):
            train(tmp_path, "parts")
    np.random.seed(5)
    torch.rand(17)
    assert_same_runs(whole, train(tmp_path, "parts"))


def test_stages_trained_one_by_one_end_like_a_whole_run(tmp_path, ear):
    whole = train(tmp_path, "whole")
    for stage in ("coarse", "fine"):
        parts = train(tmp_path, "parts", stage=stage)
    for name in FILES:
        one, other = (checkpoint.load(run / f"{name}.pt") for run in (whole, parts))
        assert_same(one.networks, other.networks)


def test_a_stage_that_builds_on_nothing_goes_on_the_same_after_a_kill(tmp_path, monkeypatch, ear):
    alone = {"stages.fine.init_from": [], "model.listens": False}
    whole = train(tmp_path, "whole", **alone)
    with monkeypatch.context() as patch:
        kill_at(patch, "fine", 0)
        with pytest.raises(Killed):
            train(tmp_path, "parts", **alone)
    assert_same_runs(whole, train(tmp_path, "parts", **alone))


@pytest.mark.parametrize("step", [4, 5, 6])
def test_batches_that_are_being_accumulated_survive_a_kill(tmp_path, monkeypatch, ear, step):
    thirds = {"stages.fine.accumulate": 3, "save_every_steps": 1}
    whole = train(tmp_path, "whole", **thirds)
    with monkeypatch.context() as patch:
        kill_at(patch, "fine", step)
        with pytest.raises(Killed):
            train(tmp_path, "parts", **thirds)
    assert bool(checkpoint.load(tmp_path / "parts/fine/last.pt").gradients) == (step % 3 != 0)
    assert_same_runs(whole, train(tmp_path, "parts", **thirds))


def test_a_model_that_refuses_to_go_on_after_a_stage_refuses_again_at_the_next_start(
    tmp_path, monkeypatch, ear, painters
):
    """Else whoever starts the run once more trains the next stage from what was refused."""
    asked = []

    def stage_ended(self, ctx):
        asked.append((ctx.stage.name, ctx.epoch, ctx.step, dict(ctx.best)))
        if refuses:
            raise NothingLearnt("deaf")

    monkeypatch.setattr(painters.ToyPainter, "stage_ended", stage_ended)
    refuses = True
    for _ in range(2):
        with pytest.raises(NothingLearnt, match="deaf"):
            train(tmp_path, "run")
    assert asked[0] == asked[1] and asked[0][0] == "coarse" and asked[0][2] > 0 and asked[0][3]
    assert not (tmp_path / "run/fine").exists()
    refuses = False
    train(tmp_path, "run")
    assert [name for name, *_ in asked] == ["coarse", "coarse", "coarse", "fine"]


# -- networks that start anew ------------------------------------------------------------------------------------------


def first_weights(monkeypatch, painters) -> dict[str, dict[str, torch.Tensor]]:
    """Networks of every stage before its first step, by stage."""
    seen = {}

    def initialise(self, dataset, ctx):
        seen[ctx.stage.name] = {key: value.clone() for key, value in self.state_dict().items()}

    monkeypatch.setattr(painters.ToyPainter, "initialise", initialise)
    return seen


def test_a_network_that_starts_anew_depends_on_seed_and_stage_alone(tmp_path, monkeypatch, ear, painters):
    seen = first_weights(monkeypatch, painters)
    train(tmp_path, "one")
    first = seen["fine"]["critic.weight"]
    coarse = checkpoint.load(tmp_path / "one/coarse/last.pt").networks["critic"]["weight"]
    assert not torch.equal(first, coarse) and not torch.equal(first, seen["coarse"]["critic.weight"])
    train(tmp_path, "two", stage="fine", **{"stages.fine.init_from": []})
    assert torch.equal(first, seen["fine"]["critic.weight"])
    train(tmp_path, "three", seed=5)
    assert not torch.equal(first, seen["fine"]["critic.weight"])


def test_only_what_a_stage_trains_can_start_anew(painters):
    with pytest.raises(ValueError, match="restarts ear: only what the stage trains"):
        Plan(painters.Tones, trains=("painter",), uses=("ear",), restarts=("ear",))


# -- where weights come from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("coarse", ("coarse", None)),
        ("coarse:generator", ("coarse", "generator")),
        ("runs/x.pt:generator", ("runs/x.pt", "generator")),
        ("C:\\runs\\x.pt", ("C:\\runs\\x.pt", None)),
        ("C:\\x.pt:ear", ("C:\\x.pt", "ear")),
    ],
)
def test_an_entry_of_init_from_names_a_place_and_maybe_a_network(text, origin):
    assert Origin.parse(text) == origin and str(Origin.parse(text)) == text


def test_one_network_of_a_stage_is_taken(tmp_path, monkeypatch, ear, painters):
    seen = first_weights(monkeypatch, painters)
    run = train(tmp_path, "run")
    best = checkpoint.load(run / "coarse/best.pt").networks["painter"]
    last = checkpoint.load(run / "coarse/last.pt").training_networks["painter"]
    assert torch.equal(seen["fine"]["painter.1.weight"], best["1.weight"])
    assert not torch.equal(best["1.weight"], last["1.weight"])  # and not what was in memory


def test_a_network_of_another_run_is_taken_from_its_file(tmp_path, monkeypatch, ear, painters):
    first = train(tmp_path, "first")
    seen = first_weights(monkeypatch, painters)
    train(tmp_path, "second", **{"stages.coarse.init_from": f"{first}/fine/best.pt:painter"})
    best = checkpoint.load(first / "fine/best.pt").networks["painter"]
    assert torch.equal(seen["coarse"]["painter.1.weight"], best["1.weight"])


@pytest.mark.parametrize(
    ("init_from", "part"),
    [
        ("coarse:paniter", r"there is no network 'paniter', did you mean 'painter'\?"),
        ("coarse:critic", "'critic' starts anew in every stage of this kind"),
        ("caorse:painter", "neither an earlier stage"),
    ],
)
def test_a_wrong_entry_is_found_before_the_training(tmp_path, init_from, part):
    with pytest.raises(ConfigError, match=part):
        toy_config(tmp_path, "ToyPainter", **{"stages.fine.init_from": init_from})


def test_a_missing_or_unfit_source_ends_the_run(tmp_path, ear):
    with pytest.raises(CheckpointError, match="nothing.pt is not there|stage 'coarse' starts from"):
        train(tmp_path, "a", **{"stages.coarse.init_from": str(tmp_path / "nothing.pt")})
    with pytest.raises(CheckpointError, match="stage 'fine' starts from stage 'coarse', but .*coarse/last.pt is not"):
        train(tmp_path, "b", stage="fine")
    run = train(tmp_path, "c", stage="coarse")
    content = checkpoint.load(run / "coarse/best.pt")
    content.networks["painter"]["1.weight"] = torch.zeros(3, 9)
    checkpoint.save(run / "coarse/best.pt", content)
    with pytest.raises(CheckpointError, match=r"coarse/best.pt: painter does not fit: 1 wrong shape"):
        train(tmp_path, "c", stage="fine")


def test_a_network_that_nothing_has_trained_is_not_handed_on(tmp_path, ear):
    unheard = {"experts.ear": None, "model.listens": False}
    run = train(tmp_path, "run", stage="coarse", **unheard)
    with pytest.raises(CheckpointError, match="'coarse:ear': .*best.pt holds no trained ear; it has critic, painter"):
        train(tmp_path, "run", stage="fine", **unheard, **{"stages.fine.init_from": ["coarse:ear"]})
    assert not (run / "fine").exists()


def test_an_expert_given_between_two_stages_replaces_what_the_first_had(tmp_path, ear):
    run = train(tmp_path, "run", stage="coarse", **{"experts.ear": None})
    assert checkpoint.load(run / "coarse/last.pt").ready == ["critic", "painter"]
    train(tmp_path, "run", stage="fine")
    content = checkpoint.load(run / "fine/last.pt")
    assert_same(content.networks["ear"], checkpoint.load(ear / "ear/best.pt").networks["ear"])
    assert content.ready == ["critic", "ear", "painter"]


# -- generation --------------------------------------------------------------------------------------------------------


def test_a_network_of_another_models_run_speaks_after_that_run_is_gone(tmp_path, ear):
    run = train(tmp_path, "run")
    before = frames_of(run)
    assert len(np.unique(before[:, 0, 0], axis=0)) > 1  # the colour follows the sound
    given = checkpoint.load(ear / "ear/best.pt").networks["ear"]
    assert_same(checkpoint.load(run / "fine/best.pt").networks["ear"], given)
    shutil.rmtree(ear)
    assert np.array_equal(frames_of(run), before)


def test_a_checkpoint_that_lacks_a_needed_network_is_refused(tmp_path, ear):
    run = train(tmp_path, "run")
    content = checkpoint.load(run / "fine/best.pt")
    del content.networks["ear"]  # as files of before, in which `ready` has it all the same
    checkpoint.save(run / "fine/best.pt", content)
    frames_of(run)  # from the other run, as long as that is there
    shutil.rmtree(ear)
    with pytest.raises(
        CheckpointError, match=r"fine/best.pt: holds no trained ear, so .*; .*ear is not there"
    ) as error:
        frames_of(run)
    assert "\n" not in str(error.value)


def test_a_file_that_is_named_now_fills_what_was_only_saved_along(tmp_path, ear):
    run = train(tmp_path, "run", stage="coarse", **{"experts.ear": None})
    pipeline = Pipeline.from_checkpoint("ToyPainter", run, "cpu", {"experts.ear": str(ear)})
    assert_same(dict(pipeline.model.ear.state_dict()), checkpoint.load(ear / "ear/best.pt").networks["ear"])


def test_a_ready_network_that_is_not_finite_makes_no_videos(tmp_path, ear):
    run = train(tmp_path, "run", stage="coarse")
    content = checkpoint.load(run / "coarse/best.pt")
    content.networks["ear"]["bias"].fill_(torch.nan)
    checkpoint.save(run / "coarse/best.pt", content)
    with pytest.raises(
        CheckpointError, match="best.pt: ear holds weights that cannot be used: bias .not finite"
    ) as error:
        frames_of(run)
    assert "\n" not in str(error.value)


def test_what_is_needed_to_speak_follows_from_the_settings(tmp_path, ear):
    unheard = {"experts.ear": None, "stages.coarse.max_steps": 1, "stages.fine.max_steps": 1}
    deaf = train(tmp_path, "deaf", **unheard, **{"model.listens": False})
    assert len(frames_of(deaf)) == 6
    listening = train(tmp_path, "listening", **unheard)
    with pytest.raises(CheckpointError, match="holds no trained ear, so it cannot make videos yet; .* stage 'fine'"):
        frames_of(listening)


def test_videos_are_scored_while_training_only_where_all_they_need_is_ready(tmp_path, ear):
    scored = []

    def evaluate(model, stage, out):
        scored.append((out.parts[-4], stage.name, model.stage.options.size))
        return {"ssim": 1.0}

    for name, experts in (("given", str(ear)), ("unheard", None)):
        options = {"experts.ear": experts, "eval_step": 1, "epochs": 1}
        loaded = toy_config(tmp_path, "ToyPainter", **options)
        toy_trainer(loaded, tmp_path / name, evaluate=evaluate).fit()
    assert scored == [("given", "coarse", 8), ("given", "fine", 16)]
    with pytest.raises(ConfigError, match="cannot generate videos yet"):
        toy_config(tmp_path, "ToyPainter", eval_step=1, **{"stages.fine.monitor": "eval/ssim"})
    watched = {"experts.ear": str(ear), "eval_step": 1, "stages.fine.monitor": "eval/ssim"}
    assert toy_config(tmp_path, "ToyPainter", **watched).config.stages[1].monitor == "eval/ssim"


def test_a_run_stopped_after_a_stage_makes_videos_with_its_options(tmp_path, ear):
    run = train(tmp_path, "run", stage="coarse")
    assert sides(frames_of(run)) == {8}
    train(tmp_path, "run", stage="fine")
    assert sides(frames_of(run)) == {16}
    assert sides(frames_of(run / "coarse")) == {8}
    content = checkpoint.load(run / "fine/best.pt")
    content.stage = checkpoint.IMPORTED
    checkpoint.save(tmp_path / "imported.pt", content)
    assert sides(frames_of(tmp_path / "imported.pt")) == {32}


def sides(frames: np.ndarray) -> set[int]:
    """Sides of the painted squares."""
    return {int(np.count_nonzero(frame.any(axis=-1)[0])) for frame in frames}


def test_options_of_a_stage_are_typed(tmp_path):
    with pytest.raises(ConfigError, match="unknown key 'stages.fine.options.sise', did you mean 'size'"):
        toy_config(tmp_path, "ToyPainter", **{"stages.fine.options.sise": 3})
    with pytest.raises(ConfigError, match="unknown key 'stages.ear.options.size'"):
        toy_config(tmp_path, "ToyEar", **{"stages.ear.options.size": 3})
