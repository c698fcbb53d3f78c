"""What several processes measure between the steps: the networks that are saved, and nothing of it stays."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from talkingface.errors import NothingLearnt
from talkingface.training.validation import Validation


def validation(network: nn.Module, processes: int) -> Validation:
    nothing = dict.fromkeys(("model", "data", "log", "folder"))
    return Validation(networks={"net": network}, fabric=SimpleNamespace(world_size=processes), seed=1, **nothing)


def test_all_measure_with_the_running_statistics_of_the_first_and_train_on_with_their_own(monkeypatch):
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, source: tensor.fill_(7 + source))
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(3)
    with pytest.raises(ZeroDivisionError), validation(norm, 2)._statistics_of_the_first():
        assert norm.running_mean.tolist() == norm.running_var.tolist() == [7, 7]
        raise ZeroDivisionError
    assert norm.running_mean.tolist() == [3, 3] and norm.running_var.tolist() == [1, 1]
    with validation(norm, 1)._statistics_of_the_first():
        assert norm.running_mean.tolist() == [3, 3], "one process asks nobody"


@pytest.mark.parametrize("first", [True, False])
def test_the_first_process_is_asked_before_a_stage_and_its_refusal_ends_all(monkeypatch, first):
    refusal, asked = NothingLearnt("too little"), []

    class Model(nn.Module):
        def before_training(self, *arguments):
            asked.append(arguments)
            raise refusal

    def gather(fabric, value):
        assert value is (refusal if first else None)
        return [refusal, None]

    monkeypatch.setattr("talkingface.training.validation.gather", gather)
    fabric, data = SimpleNamespace(is_global_zero=first), SimpleNamespace(train=None, held_out=None)
    nothing = dict.fromkeys(("log", "folder"))
    with pytest.raises(NothingLearnt, match="too little"):
        Validation(model=Model(), networks={}, fabric=fabric, data=data, seed=1, **nothing).ask_model(None)
    assert len(asked) == first
