"""A run's folder when it is opened again."""

from __future__ import annotations

import logging

import pytest
import yaml

from talkingface import workflow
from talkingface.weights.runs import RunFolder
from toys.build import toy_config

pytestmark = pytest.mark.usefixtures("toys")


def resume(tmp_path, caplog, **overrides) -> str:
    """Warnings when a run is opened whose configuration was written before stages had `options`."""
    old = toy_config(tmp_path).as_dict()
    for stage in old["stages"]:
        del stage["options"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(old))
    with caplog.at_level(logging.WARNING, "talkingface"):
        workflow._open_run(RunFolder(tmp_path / "run"), toy_config(tmp_path, **overrides))
    return caplog.text


def test_a_key_that_is_new_since_then_is_no_change(tmp_path, caplog):
    assert not resume(tmp_path, caplog)


@pytest.mark.parametrize("change", [{"stages.gan.accumulate": 2}, {"stages.gan.optim.generator.lr": 1.0}])
def test_a_changed_stage_is_said(tmp_path, caplog, change):
    assert "run: resumed with changed stages" in resume(tmp_path, caplog, **change)
