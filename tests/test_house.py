"""docs/contributing.md shows the house as it stands: folders, layers, contracts, the way from a question to a file."""

from __future__ import annotations

import importlib.util
import re

import pytest

from helpers import ROOT

PACKAGE = ROOT / "talkingface"
PAGE = ROOT / "docs" / "contributing.md"
SCRIPT = ROOT / "docs" / "house.py"

spec = importlib.util.spec_from_file_location("house", SCRIPT)
house = importlib.util.module_from_spec(spec)
spec.loader.exec_module(house)


def packages() -> list[str]:
    return [path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*/__init__.py")]


def lost_paths(text: str) -> list[str]:
    """Paths of the repository in backticks that lead nowhere; `<name>` stands for anything."""
    named = re.findall(r"`((?:talkingface|tests|docs|properties|\.ci)/[\w./<>-]*)`", text)
    return [path for path in named if not any(ROOT.glob(re.sub(r"<\w+>", "*", path).rstrip("/")))]


def test_the_page_and_the_picture_are_what_the_script_writes():
    again = "run `python docs/house.py`"
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), again
    written = PAGE.read_text(encoding="utf-8").partition(house.BEGIN)[2].partition(house.END)[0]
    assert written == house.listing(), again


def test_writing_it_again_changes_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(house, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(house, "PICTURE", tmp_path / "picture.svg")
    house.PAGE.write_text(f"before\n{house.BEGIN}old\n{house.END}after\n", encoding="utf-8")
    house.main()
    text = house.PAGE.read_text(encoding="utf-8")
    assert text == f"before\n{house.BEGIN}{house.listing()}{house.END}after\n"
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture()


@pytest.mark.parametrize("package", packages())
def test_every_folder_says_what_it_is_for_and_stands_in_the_listing(package):
    assert len(house.sentence(PACKAGE / package)) > 10
    assert f"| [`{package}/`](../talkingface/{package}/) |" in house.listing()


def test_every_name_of_the_root_has_its_layer():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    of_root = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | modules
    assert {name for row in house.layers() for name in row} == of_root


def test_every_model_is_in_the_list_of_those_that_do_not_know_each_other():
    files = {path.stem for path in (PACKAGE / "models").glob("*.py")} - {"__init__"}
    models = {path.parent.name for path in (PACKAGE / "models").glob("*/__init__.py")} | files
    assert sorted(house.independent_models()) == sorted(models)


def test_the_picture_has_every_layer_and_every_model():
    shown = re.findall(r'class="name"[^>]*>([^<]+)<', house.picture())
    names = [name for row in house.layers() for name in row] + house.independent_models()
    assert sorted(name.rstrip("/") for name in shown) == sorted(names)


def test_every_path_named_on_the_page_exists():
    text = PAGE.read_text(encoding="utf-8")
    assert lost_paths(text) == []
    assert text.count("| `talkingface/") >= 20  # the table from questions to files


def test_paths_that_lead_nowhere_would_be_found():
    text = "`talkingface/model/base.py`, `talkingface/models/<name>/gone.py`, `talkingface/models/<name>/model.py`"
    assert lost_paths(text) == ["talkingface/model/base.py", "talkingface/models/<name>/gone.py"]


def lost_definitions(text: str) -> list[str]:
    """Names that a page places in a file (a path, a colon, names in backticks) and that the file does not define."""
    lost = []
    for path, names in re.findall(r"`(talkingface/[\w/]+\.py)`: ((?:`[\w.]+`(?:, and |, | and )?)+)", text):
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            last = name.rpartition(".")[2]
            if not re.search(rf"^ *(?:def|class) {last}\b|^{last}\b.* = ", source, re.M):
                lost.append(f"{path}: {name}")
    return lost


def test_every_function_and_class_named_on_the_page_stands_in_its_file():
    text = PAGE.read_text(encoding="utf-8")
    assert lost_definitions(text) == []
    gone = "`talkingface/faces/crop.py`: `paste_face`, and `paste_mouth` for its edge"
    assert lost_definitions(gone) == ["talkingface/faces/crop.py: paste_mouth"]


def test_contracts_are_on_the_page_and_run_by_ci_and_before_a_commit():
    text = PAGE.read_text(encoding="utf-8")
    for contract in house.contracts().values():
        assert f"| {contract['name']} |" in text
    for path in (PAGE, ROOT / ".ci" / "run", ROOT / ".ci" / "pre-commit.yaml"):
        assert re.search(r"lint-imports [^\n]*\.ci/importlinter\.ini", path.read_text(encoding="utf-8")), path
