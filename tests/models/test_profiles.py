"""Every profile in the YAML of every model makes a configuration that its model and its stages accept."""

from __future__ import annotations

import pytest
import torch

from talkingface.config.yaml_files import read_yaml
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec, list_models, model_file

PROFILES = [(name, profile) for name in list_models() for profile in read_yaml(model_file(name)[1])[0]["profiles"]]


@pytest.mark.parametrize(("name", "profile"), PROFILES)
@pytest.mark.parametrize("dataset", ["demo", "lrs2"])
def test_every_profile_of_every_model_loads(name, profile, dataset):
    loaded, cls = load_config(name, dataset, (), {"profile": profile}), get_spec(name).model
    with torch.device("meta"):  # no memory, no random numbers
        model = cls(loaded.config.model)
    for stage in loaded.config.stages:
        plan = model.plans[stage.kind]
        assert isinstance(stage.data, plan.dataset.Options) and set(stage.optim) >= set(plan.trains)
        assert all(isinstance(getattr(model, network), torch.nn.Module) for network in plan.trains)


def test_the_models_with_a_demo_have_a_smoke_profile():
    with_profiles = {name for name, _ in PROFILES}
    assert {name for name, profile in PROFILES if profile == "smoke"} == with_profiles >= {"SyncNet", "Wav2Lip"}
