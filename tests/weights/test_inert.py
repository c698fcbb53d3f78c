"""Objects inside published checkpoints are read past: tensors arrive, no code of theirs runs."""

from __future__ import annotations

import logging
import sys
import types

import pytest
import torch
from torch import nn

from helpers.weight_files import archive, stream
from talkingface.errors import CheckpointError
from talkingface.plugin.contract import Official
from talkingface.plugin.official import PublishedFile
from talkingface.weights import checkpoint


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network after one step of Adam, whose state is then as long as the network twice."""
    network = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return network, optimizer


@pytest.fixture(params=[True, False], ids=["archive", "stream"])
def published(request, tmp_path):
    """A file like `ckpt_116_i2i_comb.pth`: weights behind a prefix, the optimiser as an object, the epoch."""
    network, optimizer = trained()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    path = tmp_path / "ckpt_116_i2i_comb.pth"
    content = {"G": state, "opt": optimizer, "epoch": 116}
    torch.save(content, path, _use_new_zipfile_serialization=request.param)
    return network, path


def test_an_optimiser_is_left_out_and_everything_else_is_read(published, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("talkingface"), "propagate", True)
    network, path = published
    with caplog.at_level(logging.INFO, "talkingface"):
        content = checkpoint.read(path, objects=True)
    assert set(content) == {"G", "epoch"} and content["epoch"] == 116
    assert torch.equal(content["G"]["module.weight"], network.weight)
    assert "objects inside were left out: " in caplog.text and "torch.optim.adam.Adam" in caplog.text


def test_without_being_asked_the_file_is_refused_as_ever(published):
    with pytest.raises(CheckpointError, match=r"pickled code or classes: torch\.optim\.adam\.Adam"):
        checkpoint.read(published[1])


def test_what_is_admitted_for_one_file_is_refused_in_the_next(published):
    before = set(torch.serialization.get_safe_globals())
    checkpoint.read(published[1], objects=True)
    assert set(torch.serialization.get_safe_globals()) == before


def test_an_official_file_says_that_it_holds_objects(published):
    network, path = published
    entry = {"file": path.name, "network": "translator", "key": ("G",)}
    state = PublishedFile(Official(**entry, objects=True), path).state()
    assert torch.equal(state["bias"], network.bias)
    with pytest.raises(CheckpointError, match="pickled code"):
        PublishedFile(Official(**entry), path).state()


@pytest.fixture
def foreign(monkeypatch):
    """A module of somebody else, which notes whether anything of it has run."""
    module = types.ModuleType("somebodys.code")
    module.ran = []

    class Schedule:
        def __setstate__(self, state):
            module.ran.append("setstate")

    Schedule.__module__, Schedule.__qualname__ = "somebodys.code", "Schedule"

    def harm(*arguments):
        module.ran.append("called")

    harm.__module__, harm.__qualname__ = "somebodys.code", "harm"
    module.Schedule, module.harm = Schedule, harm
    monkeypatch.setitem(sys.modules, "somebodys", types.ModuleType("somebodys"))
    monkeypatch.setitem(sys.modules, "somebodys.code", module)
    return module


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return self.function, ("argument",)


def test_classes_and_functions_of_others_are_neither_imported_nor_run(foreign, tmp_path):
    path = tmp_path / "file.pth"
    schedule = foreign.Schedule()
    schedule.rate = 0.1
    content = {
        "w": torch.ones(2),
        "schedule": schedule,
        "made": Calls(foreign.harm),
        "inside": [1, schedule, {"s": schedule}],
    }
    torch.save({**content, "named": foreign.harm}, path)
    for there in (True, False):
        if not there:
            del sys.modules["somebodys.code"], sys.modules["somebodys"]
        found = checkpoint.read(path, objects=True)
        assert set(found) == {"w", "inside"} and found["inside"] == [1, {}]
        assert foreign.ran == [] and "somebodys" not in (() if there else sys.modules)


RUNS = (
    "os\nsystem",
    "builtins\neval",
    "__builtin__\nbytearray",
    "torch.storage\n_load_from_bytes",
    "torch._utils\n_rebuild_sparse_tensor",
    "collections\ndeque",
    "subprocess\nPopen",
)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("form", [archive, stream])
def test_what_would_run_is_refused_in_one_line(tmp_path, name, form):
    path = tmp_path / "file.pth"
    path.write_bytes(form(b"\x80\x02c" + name.encode() + b"\nX\x04\0\0\0true\x85R."))
    with pytest.raises(CheckpointError, match="more than tensors and plain values") as error:
        checkpoint.read(path, objects=True)
    assert "\n" not in str(error.value)


def test_sizes_are_no_more_believed_than_without_objects(tmp_path):
    path = tmp_path / "file.pth"
    giant = b"\x80\x02csomebodys.code\nSchedule\n)\x81}X\x01\0\0\0wctorch\nFloatTensor\n\x8a\x06" + (10**12).to_bytes(
        6, "little"
    )
    path.write_bytes(archive(giant + b"\x85Rsb."))
    with pytest.raises(CheckpointError, match="refused"):
        checkpoint.read(path, objects=True)


@pytest.mark.filterwarnings("ignore:.*TorchScript")
def test_a_script_archive_is_no_checkpoint(tmp_path):
    path = tmp_path / "file.pth"
    torch.jit.script(nn.ReLU()).save(str(path))
    with pytest.raises(CheckpointError):
        checkpoint.read(path, objects=True)


def test_names_that_no_class_can_have_are_no_crash(tmp_path):
    path = tmp_path / "file.pth"
    path.write_bytes(archive(b"\x80\x02ca\x00b\nc\x00d\n)\x81."))
    with pytest.raises(CheckpointError):
        checkpoint.read(path, objects=True)
