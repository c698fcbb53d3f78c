"""Two processes with synced norms train a model as one does with the same whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from helpers import ROOT, TESTS
from helpers.model_runs import STEPS, short_clips, short_config, train_on

# By SGD: a bias before a norm has no gradient but rounding, and Adam would make full steps of that.
SETTINGS = {"learner": "sgd", "distributed.sync_batchnorm": True}

SCRIPT = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from helpers.model_runs import short_config, train_on
from talkingface.clips.folder import ClipFolder
from talkingface.training.processes import make_fabric
tmp, model = Path(sys.argv[2]), sys.argv[3]
lender = tmp / f"lender{os.environ['RANK']}"
lender.mkdir()
config = short_config(model, lender, **json.loads(sys.argv[4]))
fabric = make_fabric(config)
fabric.launch()
train_on([ClipFolder(tmp / "clips/a" / name) for name in "012"], model, config, tmp / "two", fabric)
"""


def losses(run):
    """(stage, step, name) -> value of all that a run has logged."""
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    return {
        (line["stage"], line["step"], key): value
        for line in lines
        for key, value in line.items()
        if key.startswith(("train/", "val/")) and isinstance(value, float)
    }


OWN = {"LawDNet": {"model.generator.norm": "none", "model.expert.norm": "none"}}
"""As published. Norms over maps of one pixel multiply what rounding differs, in the gradient most of all."""

LOSSES, NORMS = {"LawDNet": 1e-5}, {"LawDNet": 1e-3}
"""How equal, of the models that differ from 1e-4: losses, and norms of gradients."""


# DINet's gradient passes 46 norms, here over two items: float32 has it but for 4e-4 (in float64 a batch in halves gives
# the gradient of the whole to 1e-15), and its losses differ by 1e-3 after a few steps; at first they are equal.
@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(STEPS.keys() - {"DINet"}))
def test_two_processes_log_the_losses_of_one(tmp_path, model):
    settings = {**SETTINGS, **OWN.get(model, {})}
    config = short_config(model, tmp_path, **settings)
    clips = short_clips(model, tmp_path / "clips", config)
    train_on(clips, model, config, tmp_path / "one")
    (tmp_path / "train.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, tmp_path / "train.py", TESTS, tmp_path, model, json.dumps(settings)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() and {stage for stage, *_ in one} == set(STEPS[model])
    assert {name.split("/")[0] for *_, name in one} == {"train", "val"}
    for key, value in one.items():
        equal = NORMS if key[2].endswith("grad_norm") else LOSSES
        assert two[key] == pytest.approx(value, rel=equal.get(model, 1e-4), abs=1e-5), key
