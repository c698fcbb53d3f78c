"""The package: requirements in two places agree, the layout holds what the wheel needs."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement

from helpers import ROOT
from talkingface import __version__
from talkingface.packages import tomllib


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def ranges(lines: list[str]) -> set[str]:
    """Requirements in pip's own spelling."""
    return {str(Requirement(line)) for line in lines if line and not line.startswith("#")}


def lines_of(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def test_requirements_and_pyproject_agree():
    project = pyproject()["project"]
    assert ranges(lines_of("requirements.txt")) == ranges(
        [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    )


def test_the_extras_in_one_file_are_those_of_pyproject():
    extras = pyproject()["project"]["optional-dependencies"]
    of_commands = [line for name in ("serve", "ray", "onnx", "hub") for line in extras[name]]
    assert ranges(lines_of("requirements-extras.txt")) == ranges(of_commands)


def test_the_constraints_are_the_ranges_of_pyproject_and_of_what_may_be_added():
    project = pyproject()["project"]
    extras, names = project["optional-dependencies"], ("wandb", "serve", "ray", "onnx", "hub")
    added = [*(line for name in names for line in extras[name]), "mediapipe==0.10.21"]
    assert ranges(lines_of("constraints.txt")) == ranges([*project["dependencies"], *added])


def test_no_advice_installs_a_package_past_the_constraints():
    texts = [*(ROOT / "talkingface").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    loose = re.compile(r"pip install (?!-c |-r |--force|torch torchvision |talkingface|ruff|pre-commit|-e |\.)[^`)\n]*")
    found = [(file.name, hit[0]) for file in texts for hit in loose.finditer(file.read_text(encoding="utf-8"))]
    assert found == []


def test_torch_is_a_lower_bound_so_that_an_installed_pair_is_kept():
    for name in ("torch", "torchvision"):
        [entry] = [d for d in pyproject()["project"]["dependencies"] if d.split(">")[0].split("=")[0] == name]
        assert entry.startswith(f"{name}>=") and "," not in entry


@pytest.mark.slow
def test_the_wheel_carries_the_yaml_files_and_lists_models(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {"talkingface/properties/model/IPLAP.yaml", "talkingface/constraints.txt"} <= set(names)
    assert {f"talkingface/evaluation/report/templates/{name}" for name in ("report.html.j2", "style.css")} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from talkingface.cli import main; main(['list'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "IPLAP" in done.stdout and "demo" in done.stdout
    assert wheel.name.startswith(f"talkingface-{__version__}-")


def test_the_citation_is_whole_and_of_this_version():
    citation = yaml.safe_load((ROOT / "docs" / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["cff-version"], citation["version"], citation["license"]) == ("1.2.0", __version__, "Apache-2.0")
    for entry in [citation, *citation["references"]]:
        assert entry["title"] and entry["type"] in ("software", "article", "conference-paper")
        assert entry["authors"] and all("name" in author or "family-names" in author for author in entry["authors"])
