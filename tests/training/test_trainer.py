"""The shared loop: exact resume, best weights, stopping, divergence, averages, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers import ROOT, TESTS
from talkingface.errors import CheckpointError, ConfigError, NothingLearnt, TrainingDiverged
from talkingface.training.trainer import StageLoop, Trainer
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder
from toys.build import CLIPS, toy_config, toy_trainer

pytestmark = pytest.mark.usefixtures("toys")


class Killed(BaseException):
    """Stands for a process that ends without a chance to clean up."""


def weights(path: Path) -> dict[str, torch.Tensor]:
    content = checkpoint.load(path, "ToyGAN")
    flat = {f"{n}.{k}": v for n, state in content.networks.items() for k, v in state.items()}
    return flat | {f"raw.{n}.{k}": v for n, state in content.training_networks.items() for k, v in state.items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def kill_at(monkeypatch, stage: str, step: int) -> None:
    original = StageLoop._train_batch

    def train_batch(self, batch, ctx):
        if self.stage.name == stage and ctx.step == step:
            raise Killed
        return original(self, batch, ctx)

    monkeypatch.setattr(StageLoop, "_train_batch", train_batch)


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("stage", "step", "save"), [("warm", 7, 3), ("gan", 8, 4), ("gan", 11, 100), ("warm", 0, 3)])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, monkeypatch, stage, step, save):
    loaded = toy_config(tmp_path, save_every_steps=save)
    toy_trainer(loaded, tmp_path / "whole").fit()
    with monkeypatch.context() as patch:
        kill_at(patch, stage, step)
        with pytest.raises(Killed):
            toy_trainer(loaded, tmp_path / "parts").fit()
    torch.rand(17)  # whatever happened to the global random state in between
    toy_trainer(loaded, tmp_path / "parts").fit()
    for name in ("warm/best", "warm/last", "gan/best", "gan/last"):
        assert_same(weights(tmp_path / "whole" / f"{name}.pt"), weights(tmp_path / "parts" / f"{name}.pt"))
    whole, parts = records(tmp_path / "whole"), records(tmp_path / "parts")
    assert [(r["stage"], r["step"]) for r in whole] == [(r["stage"], r["step"]) for r in parts]


def stage_of(tmp_path: Path, name: str, **settings):
    """A configuration of the toy whose stage `name` has other settings; `warm` has no schedule over its length."""
    return toy_config(tmp_path, **{f"stages.{name}.{key}": value for key, value in settings.items()})


def test_a_finished_stage_goes_on_when_its_limit_is_raised(tmp_path, caplog):
    run = tmp_path / "run"
    toy_trainer(stage_of(tmp_path, "warm", max_steps=6, epochs=None), run).fit()
    rendered = weights(run / "gan/last.pt")
    caplog.clear()
    with caplog.at_level("INFO"):
        toy_trainer(stage_of(tmp_path, "warm", max_steps=9, epochs=None), run).fit()
    assert "stage warm: resumed at step 6 of 9" in caplog.text
    assert "stage gan: already finished" in caplog.text and "it began from warm as they were before this" in caplog.text
    assert_same(rendered, weights(run / "gan/last.pt"))
    toy_trainer(stage_of(tmp_path, "warm", max_steps=9, epochs=None), tmp_path / "at once").fit()
    assert_same(weights(tmp_path / "at once/warm/last.pt"), weights(run / "warm/last.pt"))


def test_a_finished_stage_stays_finished_at_its_old_limit_and_after_patience(tmp_path, caplog):
    run = tmp_path / "run"
    toy_trainer(stage_of(tmp_path, "gan", epochs=2), run).fit()
    before = weights(run / "gan/last.pt")
    for settings in ({"epochs": 2}, {"epochs": 1}, {"epochs": 4, "patience": 1}):
        if "patience" in settings:
            state = checkpoint.load(run / "gan/last.pt", "ToyGAN")
            state.waited = 1
            checkpoint.save(run / "gan/last.pt", state)
        toy_trainer(stage_of(tmp_path, "gan", **settings), run).fit()
        assert_same(before, weights(run / "gan/last.pt"))
    assert "raise --stages.gan.patience as well" in caplog.text
    toy_trainer(stage_of(tmp_path, "gan", epochs=4, patience=3), run).fit()
    assert checkpoint.load(run / "gan/last.pt", "ToyGAN").epoch >= 3


def test_a_model_may_refuse_a_stage_right_before_its_first_step(tmp_path, monkeypatch, toys):
    asked = []

    def before_training(self, train, held_out, ctx):
        asked.append((ctx.stage.name, ctx.step, train.split, held_out.split, ctx.epoch_length > 0, self.training))
        torch.rand(3)
        if ctx.stage.name == "gan" and refuses:
            raise NothingLearnt("no")

    plain = toy_trainer(toy_config(tmp_path), tmp_path / "plain")
    plain.fit()
    monkeypatch.setattr(toys.ToyGAN, "before_training", before_training)
    refuses = True
    with pytest.raises(NothingLearnt):
        toy_trainer(toy_config(tmp_path), tmp_path / "run").fit()
    assert asked == [(name, 0, "train", "val", True, False) for name in ("warm", "gan")]
    refuses = False
    toy_trainer(toy_config(tmp_path), tmp_path / "run").fit()
    assert_same(weights(tmp_path / "plain/gan/last.pt"), weights(tmp_path / "run/gan/last.pt"))


def test_a_models_own_validation_figures_are_logged_and_can_be_monitored(tmp_path, monkeypatch, toys):
    seen = []

    def after_validation(self, values, ctx, train, held_out, folder):
        seen.append((ctx.step, values["val/loss"], train.split, held_out.split, folder.name, torch.is_grad_enabled()))
        return {"extra": -float(ctx.step)}

    monkeypatch.setattr(toys.ToyGAN, "after_validation", after_validation)
    loaded = toy_config(tmp_path, **{"stage": "warm", "stages.warm.monitor": "val/extra"})
    toy_trainer(loaded, tmp_path / "run").fit()
    logged = {r["step"]: r["val/extra"] for r in records(tmp_path / "run") if "val/extra" in r}
    assert logged == {step: -float(step) for step, *_ in seen} and len(seen) > 1
    assert all(rest == ["train", "val", "warm", False] for _, _, *rest in seen)
    best = checkpoint.load(tmp_path / "run/warm/best.pt")
    assert best.step == max(logged) and best.best["val/extra"] == -max(logged)


def test_validation_does_not_disturb_training(tmp_path):
    often = toy_config(tmp_path, **{"stages.warm.validate_every": {"steps": 1}, "stage": "warm"})
    never = toy_config(tmp_path, **{"stages.warm.validate_every": {"steps": 1000}, "stage": "warm"})
    for name, loaded in (("often", often), ("never", never)):
        toy_trainer(loaded, tmp_path / name).fit()
    assert_same(weights(tmp_path / "often/warm/last.pt"), weights(tmp_path / "never/warm/last.pt"))


def test_workers_do_not_change_the_result(tmp_path):
    for workers in (0, 2):
        loaded = toy_config(tmp_path, num_workers=workers, stage="warm", epochs=2)
        toy_trainer(loaded, tmp_path / f"w{workers}").fit()
    assert_same(weights(tmp_path / "w0/warm/last.pt"), weights(tmp_path / "w2/warm/last.pt"))


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    model = {"model.dropout": 0.0, "stage": "warm", "epochs": 1}
    whole = toy_config(tmp_path, batch_size=4, **model)
    parts = toy_config(tmp_path, batch_size=2, **{**model, "stages.warm.accumulate": 2})
    for name, loaded in (("whole", whole), ("parts", parts)):
        toy_trainer(loaded, tmp_path / name).fit()
    a, b = weights(tmp_path / "whole/warm/last.pt"), weights(tmp_path / "parts/warm/last.pt")
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-5, atol=1e-6)


def test_losses_fall_and_best_is_the_lowest_validation(tmp_path):
    loaded = toy_config(tmp_path, epochs=6, learning_rate=0.03)
    toy_trainer(loaded, tmp_path / "run").fit()
    held_out = [r["val/loss"] for r in records(tmp_path / "run") if r["stage"] == "warm" and "val/loss" in r]
    assert len(held_out) == 6 and held_out[-1] < 0.7 * held_out[0]
    best = checkpoint.load(tmp_path / "run/warm/best.pt")
    assert best.best["val/loss"] == min(held_out)


def test_a_stage_starts_from_the_best_weights_of_the_one_before(tmp_path):
    loaded = toy_config(tmp_path, **{"stages.gan.max_steps": 1, "stages.gan.optim.generator.lr": 1e-12,
                                     "stages.gan.optim.generator.ema": None})  # fmt: skip
    toy_trainer(loaded, tmp_path / "run").fit()
    warm, gan = weights(tmp_path / "run/warm/best.pt"), weights(tmp_path / "run/gan/last.pt")
    torch.testing.assert_close(gan["generator.0.weight"], warm["generator.0.weight"], atol=1e-9, rtol=0)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    loaded = toy_config(tmp_path, stage="warm", log_every=2, **{"model.poison_step": 8})
    with pytest.raises(TrainingDiverged, match=r"stage 'warm' diverged near step 10.*generator/mse.*last.pt"):
        toy_trainer(loaded, tmp_path / "run").fit()
    kept = checkpoint.load(tmp_path / "run/warm/last.pt")
    assert kept.step == 5
    assert all(torch.isfinite(v).all() for v in weights(tmp_path / "run/warm/last.pt").values())


def test_patience_stops_a_stage_early(tmp_path):
    loaded = toy_config(tmp_path, epochs=50, stopping_step=2, learning_rate=1e-12, stage="warm")
    toy_trainer(loaded, tmp_path / "run").fit()
    assert checkpoint.load(tmp_path / "run/warm/last.pt").epoch <= 6


def test_a_metric_of_generated_videos_can_be_monitored(tmp_path):
    scores = iter([1.0, 3.0, 2.0])
    calls = []

    def evaluate(model, stage, out):
        assert not model.generator.training
        calls.append(out)
        return {"ssim": next(scores)}

    options = {"stages.gan.monitor": "eval/ssim", "stages.gan.mode": "max", "stages.gan.eval_step": 1}
    loaded = toy_config(tmp_path, **options)
    toy_trainer(loaded, tmp_path / "run", evaluate=evaluate).fit()
    best = checkpoint.load(tmp_path / "run/gan/best.pt")
    assert len(calls) == 3  # not in stage `warm`, whose plan cannot generate
    assert best.best["eval/ssim"] == 3.0 and best.epoch == 2


def test_saved_weights_are_the_averaged_ones_and_training_goes_on_with_the_others(tmp_path):
    loaded = toy_config(tmp_path, epochs=1)
    toy_trainer(loaded, tmp_path / "run").fit()
    content = checkpoint.load(tmp_path / "run/gan/last.pt")
    raw, averaged = content.training_networks["generator"], content.networks["generator"]
    assert not torch.equal(raw["0.weight"], averaged["0.weight"])
    assert "discriminator" not in content.training_networks


def test_checkpoints_hold_plain_data_and_the_configuration(tmp_path):
    loaded = toy_config(tmp_path, epochs=1, stage="warm")
    toy_trainer(loaded, tmp_path / "run").fit()
    content = torch.load(tmp_path / "run/warm/best.pt", weights_only=True)
    assert content["config"] == loaded.as_dict()
    assert {"networks", "optimizers", "rng", "best", "epoch", "step", "stage", "model"} <= content.keys()
    assert not list((tmp_path / "run/warm").glob("*.tmp"))


def test_a_trainer_subclass_may_replace_the_loop_of_a_stage(tmp_path):
    class Quiet(Trainer):
        def fit(self):
            self.ran = True

    trainer = toy_trainer(toy_config(tmp_path), tmp_path / "run", trainer_class=Quiet)
    trainer.fit()
    assert trainer.ran and trainer.clips is CLIPS


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import os
os.environ["TALKINGFACE_PLUGINS"] = "toys.toy_gan"
import torch
torch.set_num_threads(1)
from toys.build import toy_config, toy_trainer
from talkingface.training.processes import make_fabric
tmp = Path(sys.argv[2])
loaded = toy_config(tmp, batch_size=4, epochs=2, **{"model.dropout": 0.0})
fabric = make_fabric(loaded.config)
fabric.launch()
toy_trainer(loaded, tmp / sys.argv[3], fabric=fabric).fit()
"""


def by_script(tmp_path, run: str, script: str = SCRIPT, start: tuple[str, ...] = ()) -> int:
    """Train in another process as `SCRIPT` says; returns how it ended."""
    (tmp_path / "train.py").write_text(script)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *start, str(tmp_path / "train.py"), str(TESTS), str(tmp_path), run]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode <= 0, done.stderr[-3000:]
    return done.returncode


def here(tmp_path, run: str, **settings) -> None:
    """The same training in this process."""
    loaded = toy_config(tmp_path, batch_size=4, epochs=2, **{"model.dropout": 0.0, **settings})
    toy_trainer(loaded, tmp_path / run).fit()


def test_two_processes_equal_one_with_the_same_total_batch(tmp_path):
    here(tmp_path, "one")
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29731")
    assert by_script(tmp_path, "two", start=launcher) == 0
    for name in ("warm/last", "gan/last"):
        a, b = weights(tmp_path / "one" / f"{name}.pt"), weights(tmp_path / "two" / f"{name}.pt")
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-6)
    pairs = zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True)
    for left, right in pairs:
        for key in left.keys() - {"time", "stage"}:
            assert left[key] == pytest.approx(right[key], rel=1e-3, abs=1e-5), key


@pytest.mark.slow
def test_synced_norms_make_two_processes_equal_one(tmp_path):
    """By SGD: a bias before a norm has no gradient but rounding, and Adam would make full steps of that."""
    settings = '"model.dropout": 0.0, "learner": "sgd", "model.norm": True, "distributed.sync_batchnorm": True'
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29733")
    assert by_script(tmp_path, "two", SCRIPT.replace('"model.dropout": 0.0', settings), launcher) == 0
    here(tmp_path, "one", **{"model.norm": True, "learner": "sgd"})
    assert any("running_var" in key for key in weights(tmp_path / "two/gan/last.pt"))
    losses = {"train/generator/mse", "train/generator/adversarial", "train/discriminator/hinge", "val/loss"}
    seen = set()
    for left, right in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        for key in losses & left.keys():
            assert left[key] == pytest.approx(right[key], rel=1e-5, abs=1e-5), key
            seen.add(key)
    assert seen == losses


SUICIDE = """
from talkingface.training.trainer import StageLoop
import signal
original = StageLoop._train_batch
def train_batch(self, batch, ctx):
    if self.stage.name == "gan" and ctx.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, batch, ctx)
StageLoop._train_batch = train_batch
"""


def test_kill_minus_nine_and_resume_equal_an_uninterrupted_run(tmp_path):
    here(tmp_path, "whole")
    assert by_script(tmp_path, "parts", SCRIPT.replace("tmp = Path", SUICIDE + "tmp = Path")) == -9
    here(tmp_path, "parts")
    for name in ("gan/best", "gan/last"):
        assert_same(weights(tmp_path / "whole" / f"{name}.pt"), weights(tmp_path / "parts" / f"{name}.pt"))


def test_a_run_of_the_same_name_is_not_overwritten_and_only_runs_are_resumed(tmp_path):
    loaded = toy_config(tmp_path, run_name="mine")
    run = RunFolder.open(loaded.config)
    run.set_status("running")
    with pytest.raises(ConfigError, match=r"mine: a run of this name.*--resume="):
        RunFolder.open(loaded.config)
    assert RunFolder.open(toy_config(tmp_path, resume="auto").config).path == run.path
    (tmp_path / "junk").mkdir()
    with pytest.raises(CheckpointError, match="junk: no run to resume"):
        RunFolder.open(toy_config(tmp_path, resume=str(tmp_path / "junk")).config)
    with pytest.raises(CheckpointError, match="nothere.pt: no such checkpoint"):
        RunFolder.open(toy_config(tmp_path, resume=str(run.path / "gan/nothere.pt")).config)


def test_the_last_stage_of_a_run_folder_is_found_whatever_the_file_times(tmp_path):
    loaded = toy_config(tmp_path, epochs=1)
    toy_trainer(loaded, tmp_path / "run").fit()
    (tmp_path / "run/config.yaml").write_text(loaded.to_yaml())
    os.utime(tmp_path / "run/warm/best.pt")
    assert checkpoint.find_checkpoint(tmp_path / "run") == tmp_path / "run/gan/best.pt"
    (tmp_path / "run/gan/best.pt").unlink()
    assert checkpoint.find_checkpoint(tmp_path / "run") == tmp_path / "run/gan/last.pt"


def test_resume_works_without_a_best_file_of_the_stage_before(tmp_path, monkeypatch):
    loaded = toy_config(tmp_path, epochs=1)
    with monkeypatch.context() as patch:
        kill_at(patch, "gan", 2)
        with pytest.raises(Killed):
            toy_trainer(loaded, tmp_path / "run").fit()
    (tmp_path / "run/warm/best.pt").unlink()
    toy_trainer(loaded, tmp_path / "run").fit()
    assert checkpoint.load(tmp_path / "run/gan/last.pt").finished


def test_checkpoints_know_which_networks_are_trained(tmp_path):
    loaded = toy_config(tmp_path, epochs=1)
    toy_trainer(loaded, tmp_path / "run").fit()
    assert checkpoint.load(tmp_path / "run/warm/best.pt").ready == ["generator"]
    assert checkpoint.load(tmp_path / "run/gan/best.pt").ready == ["discriminator", "generator"]


def test_held_out_items_are_shared_out_even_when_there_are_fewer_than_processes():
    from talkingface.training.batches import HeldOutBatches

    shares = [list(HeldOutBatches(1, 4, rank=rank, world=2)) for rank in range(2)]
    assert shares == [[[0]], []]


def test_batches_go_on_from_epoch_to_epoch_and_can_start_anywhere():
    from itertools import islice

    from talkingface.training.batches import TrainBatches

    batches = TrainBatches(10, 4, seed=1, stage="s")
    whole = list(islice(batches, 6))
    assert [len(b) for b in whole] == [4] * 6 and len(batches) == 2
    assert all(key // 10 == index // 2 for index, batch in enumerate(whole) for key in batch)
    batches.set_position(1, 1)
    assert list(islice(batches, 3)) == whole[3:]
    halves = [list(islice(TrainBatches(10, 4, 1, "s", rank, 2), 6)) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(b) for b in whole]
    small = list(islice(TrainBatches(2, 5, 1, "s"), 4))
    assert len({key for batch in small for key in batch}) == 20  # every draw is a new window


def test_errors_that_a_setting_causes_name_the_setting():
    from talkingface.config.sections import StageConfig
    from talkingface.training.processes import explained_errors

    stage = StageConfig(name="s", kind="k", max_steps=1, batch_size=1)
    with pytest.raises(ConfigError, match="batch_size 1 is too small"), explained_errors(stage):
        torch.nn.BatchNorm1d(3)(torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="--stages.s.accumulate=2"), explained_errors(stage):
        raise torch.OutOfMemoryError("full")
    with pytest.raises(ValueError, match="other"), explained_errors(stage):
        raise ValueError("other")


def test_a_monitor_that_no_validation_gives_is_refused_before_the_first_step(tmp_path):
    loaded = toy_config(tmp_path, **{"stages.warm.monitor": "val/lost"})
    with pytest.raises(ConfigError, match=r"'val/lost' is not among the figures of its validation: val/loss, did you"):
        toy_trainer(loaded, tmp_path / "run").fit()
    assert not (tmp_path / "run/log.jsonl").exists() and not (tmp_path / "run/warm").exists()


def test_a_wrong_monitor_of_a_later_stage_is_refused_before_the_first_stage(tmp_path):
    loaded = toy_config(tmp_path, **{"stages.gan.monitor": "val/lost"})
    with pytest.raises(ConfigError, match="stage 'gan': monitor 'val/lost' is not among the figures of its validation"):
        toy_trainer(loaded, tmp_path / "run").fit()
    assert not (tmp_path / "run/log.jsonl").exists() and not (tmp_path / "run/warm").exists()


def test_a_model_whose_later_figures_nobody_can_tell_yet_trains(tmp_path, toys, monkeypatch):
    told = toys.ToyGAN.validation_step

    def needs_the_stage_before(self, batch, ctx):
        if ctx.stage.name == "gan" and not (tmp_path / "run/warm/last.pt").is_file():
            raise AttributeError("not made yet")
        return told(self, batch, ctx)

    monkeypatch.setattr(toys.ToyGAN, "validation_step", needs_the_stage_before)
    toy_trainer(toy_config(tmp_path, max_steps=2), tmp_path / "run").fit()
    assert (tmp_path / "run/gan/last.pt").is_file()


def test_looking_at_the_figures_first_leaves_no_trace_in_the_training(tmp_path, monkeypatch):
    from talkingface.training.trainer import StageLoop

    loaded = toy_config(tmp_path, max_steps=4)
    toy_trainer(loaded, tmp_path / "looked").fit()
    monkeypatch.setattr(StageLoop, "_check_monitor", lambda _: None)
    monkeypatch.setattr(Trainer, "_check_later_monitors", lambda _: None)
    toy_trainer(loaded, tmp_path / "not").fit()
    for name in ("warm/last", "gan/last"):
        assert_same(weights(tmp_path / "looked" / f"{name}.pt"), weights(tmp_path / "not" / f"{name}.pt"))


def test_a_models_own_figures_may_be_monitored(tmp_path, toys, monkeypatch):
    own = lambda self, values, ctx, train, held_out, folder: {"width": 8.0}  # noqa: E731
    monkeypatch.setattr(toys.ToyGAN, "after_validation", own)
    loaded = toy_config(
        tmp_path, max_steps=2, **{"stages.warm.monitor": "val/width", "stages.gan.monitor": "val/width"}
    )
    toy_trainer(loaded, tmp_path / "unknown").fit()  # nobody can tell before
    monkeypatch.setattr(toys.ToyGAN, "own_figures", ("width",))
    toy_trainer(loaded, tmp_path / "known").fit()
    monkeypatch.setattr(toys.ToyGAN, "own_figures", ("height",))
    with pytest.raises(ConfigError, match="val/height, val/loss"):
        toy_trainer(loaded, tmp_path / "other").fit()


def test_a_monitor_of_videos_must_be_a_figure_of_the_metrics(tmp_path):
    from talkingface.readiness import check_monitors

    changes = {"stages.gan.monitor": "eval/sim", "stages.gan.eval_step": 1, "metrics": ["SSIM"]}
    with pytest.raises(ConfigError, match="'eval/sim' is a figure of none of the metrics; there are ssim, ssim_mouth"):
        check_monitors(toy_config(tmp_path, **changes).config)
    check_monitors(toy_config(tmp_path, **changes | {"stages.gan.monitor": "eval/ssim"}).config)


def test_a_stage_of_another_precision_is_refused_where_processes_work_together_with_what_to_give():
    class Loop:
        trainer = SimpleNamespace(fabric=SimpleNamespace(world_size=2))
        stage = SimpleNamespace(name="render", precision="bf16")
        config = SimpleNamespace(device="cpu", precision="32")

    with pytest.raises(ConfigError, match=r"give --precision=bf16 to the run or --stages.render.precision=null"):
        StageLoop._stage_fabric(Loop())
