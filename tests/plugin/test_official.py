"""Published files: any name, forms that exclude each other, settings that follow from the entries."""

from __future__ import annotations

import pytest
import torch

from talkingface.cli import commands as cli
from talkingface.errors import CheckpointError
from talkingface.plugin.importing import import_checkpoints
from talkingface.weights import checkpoint


@pytest.fixture(autouse=True)
def painters(monkeypatch, tmp_path):
    """Makes the toys known; works in an empty folder."""
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "toys.toy_painter")
    monkeypatch.chdir(tmp_path)
    import toys.toy_painter

    return toys.toy_painter


def ear(width: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.randn(width, 16), "bias": torch.randn(width)}


def imported(path) -> tuple[int, dict[str, torch.Tensor]]:
    """Width and weights of an imported ear."""
    content = checkpoint.load(path, "ToyEar")
    assert content.ready == content.trained == ["ear"] and content.stage == checkpoint.IMPORTED
    return content.config["model"]["width"], content.networks["ear"]


def test_settings_follow_from_the_entries_of_the_file(tmp_path):
    state = ear(9)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "ear.pth")
    width, weights = imported(import_checkpoints("ToyEar", str(tmp_path), None, {}).path)
    assert width == 9 and torch.equal(weights["weight"], state["weight"])


def test_a_file_of_any_name_is_read_in_the_form_that_fits(tmp_path, capsys):
    state = ear(5)
    torch.save({"w": state["weight"], "b": state["bias"]}, tmp_path / "epoch 7.bin")
    assert cli.main(["import", "--model=ToyEar", "--use", f"ear={tmp_path}/epoch 7.bin"]) == 0
    assert "imported ear -> checkpoints/ToyEar/imported.pt" in capsys.readouterr().out
    width, weights = imported(tmp_path / "checkpoints/ToyEar/imported.pt")
    assert width == 5 and torch.equal(weights["weight"], state["weight"])


def test_a_named_file_wins_over_those_of_the_folder(tmp_path):
    for name, width in (("ear.pth", 4), ("mine.pth", 6)):
        torch.save({"state_dict": ear(width)}, tmp_path / name)
    made = import_checkpoints("ToyEar", str(tmp_path), None, {}, {"ear": str(tmp_path / "mine.pth")})
    assert imported(made.path)[0] == 6 and made.networks == ("ear",)


def test_files_for_several_networks_are_given_one_by_one(tmp_path, capsys):
    for name in ("a", "b"):
        torch.save({"state_dict": ear(4)}, tmp_path / name)
    assert cli.main(["import", "--model=ToyEar", "--use=ear=a", "--use=ear=a"]) == 0
    for use, part in (
        (["--use=ear=a", "--use=ear=b"], "--use names two files for ear: a and b"),
        (["--use=eye=a"], "unknown published network 'eye'"),
        (["--use=ear"], "--use=ear: expected NETWORK=FILE"),
        (["--use=ear=none.pth"], "none.pth: no such file for 'ear'"),
        ([], "needs --folder=DIR with the published files, or --use=NETWORK=FILE"),
    ):
        assert cli.main(["import", "--model=ToyEar", *use]) == 2
        assert part in capsys.readouterr().err


def test_a_file_that_fits_in_no_form_is_explained(tmp_path):
    for content, part in (
        ({"state_dict": {"weights": torch.zeros(2)}}, "not the published weights of 'ear'"),
        ([1, 2], "expected an entry 'state_dict'"),
        ({"state_dict": {"weight": "heavy"}}, "'weight' is no tensor"),
    ):
        torch.save(content, tmp_path / "x.bin")
        with pytest.raises(CheckpointError, match=f"x.bin: {part}"):
            import_checkpoints("ToyEar", None, None, {}, {"ear": "x.bin"})
    assert not (tmp_path / "checkpoints").exists()
