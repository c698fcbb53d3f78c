"""HyperLipsHR without a Base: what its run is trained with, and what is told before."""

from __future__ import annotations

import re
import shlex

import pytest

from talkingface.cli.arguments import parse
from talkingface.cli.run import RUN
from talkingface.errors import CheckpointError, ConfigError
from talkingface.plugin.borrowed import LenderMissing, with_borrowed
from talkingface.plugin.configuration import LoadedConfig, load_config
from talkingface.workflow.prerequisites import with_prerequisites


def asked(tmp_path, **overrides) -> LoadedConfig:
    places = {"saved_dir": str(tmp_path / "saved"), "weights_dir": str(tmp_path / "weights")}
    data = {"data_root": str(tmp_path / "data"), "preprocessed_root": str(tmp_path / "prepared")}
    return load_config("HyperLipsHR", "demo", (), {**places, **data, **overrides})


def printed(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration of the command that the message names."""
    with pytest.raises(LenderMissing) as error:
        with_borrowed(loaded)
    command = re.search("`python run_talkingface.py (--model=HyperLipsBase .*?)`", str(error.value))[1]
    overrides = dict(parse(shlex.split(command), {"run": RUN}, "run").overrides)
    return load_config("HyperLipsBase", "demo", (), overrides)


def trained_first(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration of the run that `prerequisites: train` begins."""
    begun: list[LoadedConfig] = []
    with pytest.raises(LenderMissing):
        with_prerequisites(loaded, begun.append)
    (first,) = begun
    return first


@pytest.mark.parametrize("base_of", [printed, trained_first])
def test_settings_of_base_are_those_of_its_run(tmp_path, base_of):
    settings = {"model.base.crop.size": 48, "model.inference.mel_offset": 0, "model.decoder.scale": 4}
    config = base_of(asked(tmp_path, **settings)).config
    assert (config.model_name, config.model.crop.size, config.model.inference.mel_offset) == ("HyperLipsBase", 48, 0)


@pytest.mark.parametrize("base_of", [printed, trained_first])
def test_a_profile_that_base_does_not_know_is_not_asked_of_it(tmp_path, base_of):
    own = {"model.loss.reconstruction": "l1_gradient"}
    assert base_of(asked(tmp_path, profile="scale4", **own)).config.model_name == "HyperLipsBase"
    assert base_of(asked(tmp_path, profile="smoke")).config.model.generator.width == 0.125


def test_two_values_for_one_setting_of_base_are_refused_before_it_trains(tmp_path):
    settings = {"model.base.inference.mel_offset": 0, "model.inference.mel_offset": -1}
    with pytest.raises(ConfigError, match=r"both are model\.inference\.mel_offset of HyperLipsBase; give them one"):
        with_prerequisites(asked(tmp_path, **settings), pytest.fail)


def test_weights_that_the_losses_lack_are_told_before_base_trains(tmp_path):
    loaded = asked(tmp_path, **{"model.loss.reconstruction": "perceptual"})
    with pytest.raises(CheckpointError, match=r"the weights of 'lpips' are not there.*--model.loss.reconstruction="):
        with_prerequisites(loaded, pytest.fail)
