"""`experts.sync_expert`: an expert that was trained by itself, found and taken with its settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from talkingface.config.layers import to_plain
from talkingface.errors import ConfigError
from talkingface.plugin.assembly import load_experts
from talkingface.plugin.borrowed import LenderMissing, with_borrowed
from talkingface.plugin.configuration import LoadedConfig, load_config
from talkingface.plugin.registry import get_spec
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent
from talkingface.weights.hashes import weights_hash
from talkingface.weights.runs import RunFolder
from talkingface.workflow.prerequisites import with_prerequisites

LENDERS = {"Wav2Lip": "SyncNet", "HyperLipsBase": "SyncNet", "DINet": "SyncNetDINet", "LawDNet": "SyncNetDINet"}
NARROW = {"SyncNet": {"model.crop.size": 96}, "SyncNetDINet": {"model.expert.norm": "group", "model.expert.side": 64}}


def asked(model: str, tmp_path: Path, **overrides) -> LoadedConfig:
    places = {"saved_dir": str(tmp_path / "saved"), "weights_dir": str(tmp_path / "weights"), "profile": "tiny"}
    return load_config(model, "demo", (), {**places, "model.expert.width": 0.125, **overrides})


def taken(model: str, tmp_path: Path, expert: str, **overrides) -> LoadedConfig:
    """The configuration of a model whose profile has an expert of another make."""
    places = {"saved_dir": str(tmp_path / "saved"), "weights_dir": str(tmp_path / "weights"), "profile": "tiny"}
    return with_borrowed(load_config(model, "demo", (), {**places, "experts.sync_expert": expert, **overrides}))


def lend(model: str, tmp_path: Path) -> Path:
    """A finished run of an expert: twice the width that is shipped for trials."""
    config = asked(model, tmp_path, **{**NARROW[model], "model.expert.width": 0.25}).config
    torch.manual_seed(5)
    made = get_spec(model).model(config.model)
    run = RunFolder(tmp_path / f"saved/{model}-demo/a")
    (run.path / "expert").mkdir(parents=True)
    run.set_status("finished")
    networks = {"sync_expert": made.sync_expert.state_dict()}
    content = CheckpointContent(
        model=model, config=to_plain(config), networks=networks, stage="expert", trained=["sync_expert"],
        ready=["sync_expert"],
    )  # fmt: skip
    checkpoint.save(run.path / "expert" / "best.pt", content)
    return run.path


@pytest.mark.parametrize(("model", "lender"), LENDERS.items())
@pytest.mark.parametrize("named", [False, True])
def test_an_expert_comes_with_its_settings_and_is_noted(tmp_path, model, lender, named):
    own = {"Wav2Lip": {"model.crop.size": 96}, "LawDNet": {"model.crop.kind": "upright"}}.get(model, {})
    run = lend(lender, tmp_path)
    config = taken(model, tmp_path, str(run) if named else "auto", **own).config
    expert = config.model.expert
    assert expert.width == 0.25 and getattr(expert, "side", None) in (None, 96 if lender == "SyncNet" else 64)
    built = get_spec(model).model(config.model)
    load_experts(built, config, kinds=[kind for kind, plan in built.plans.items() if "sync_expert" in plan.uses])
    assert built.given == {"sync_expert"}
    stored = checkpoint.load(run / "expert" / "best.pt").networks["sync_expert"]
    assert all(torch.equal(value, stored[key]) for key, value in built.sync_expert.state_dict().items())
    assert config.experts["sync_expert"] == str(run)
    assert config.experts_weights == {"sync_expert": weights_hash(stored)}


def test_a_setting_that_contradicts_the_expert_is_refused(tmp_path):
    run = lend("SyncNet", tmp_path)
    with pytest.raises(ConfigError, match=r"model\.expert\.side is 128, its network was trained with 96") as error:
        taken("HyperLipsBase", tmp_path, "auto", **{"model.expert.side": 128})
    assert str(run) in str(error.value)


def test_without_a_run_nothing_is_trained_first_for_the_model_can_itself(tmp_path):
    asked_for = asked("HyperLipsBase", tmp_path, **{"experts.sync_expert": "auto", "prerequisites": "train"})
    with pytest.raises(
        LenderMissing, match=r"^experts.sync_expert: there is no finished run of SyncNet on demo in .*own"
    ):
        with_prerequisites(asked_for, pytest.fail)


def test_without_the_option_and_with_a_published_file_nothing_is_borrowed(tmp_path):
    assert taken("Wav2Lip", tmp_path, "").config.experts_weights == {}
    (tmp_path / "weights").mkdir()
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "weights" / "lipsync_expert.pth")
    for file in ("lipsync_expert.pth", "not_there.pth"):
        config = taken("Wav2Lip", tmp_path, file).config
        assert config.experts["sync_expert"] == file and config.experts_weights == {}
