"""Names: built-in models, plug-ins, aliases, mistakes of plug-ins."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helpers import ROOT
from talkingface.errors import RegistryError
from talkingface.plugin.contract import Plan, TalkingFaceModel
from talkingface.plugin.registry import describe_datasets, describe_models, get_spec, list_models, model_file


def test_builtin_models_and_data_sets_have_a_line_each():
    assert "IPLAP" in list_models()
    assert all(describe_models().values()) and all(describe_datasets().values())
    assert {"lrs2", "MEAD", "folder", "demo"} <= describe_datasets().keys()


@pytest.mark.parametrize("name", ["IPLAP", "iplap", "ip_lap", "IP-LAP"])
def test_names_and_aliases_in_any_case(name):
    assert model_file(name)[0] == "IPLAP"
    assert get_spec(name).model.__name__ == "IPLAP"


def test_a_plug_in_is_found_through_the_environment(toys):
    spec = get_spec("toygan")
    assert spec.model is toys.ToyGAN and spec.datasets == (toys.Points,)
    assert spec.yaml.name == "ToyGAN.yaml"


def test_a_plug_in_is_found_through_its_entry_point(tmp_path):
    package = tmp_path / "thirdparty"
    info = tmp_path / "thirdparty-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[talkingface.models]\nOther = thirdparty\n")
    (package / "Other.yaml").write_text("description: from elsewhere\nplugin: thirdparty\n")
    (package / "__init__.py").write_text(
        "from talkingface.plugin.contract import TalkingFaceModel\nfrom talkingface.plugin.registry import register\n"
        "@register('Other')\nclass Other(TalkingFaceModel):\n    pass\n"
    )
    root = ROOT
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]; import talkingface.plugin.registry as r"
    code += "; print(r.list_models(), r.describe_models()['Other'], r.get_spec('other').name)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'Other'" in out and "from elsewhere" in out


def test_a_broken_plug_in_is_named(monkeypatch):
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "no.such.module")
    with pytest.raises(RegistryError, match=r"plug-in module 'no.such.module' cannot be imported.*TALKINGFACE_PLUGINS"):
        list_models()


def test_a_plan_without_its_step_is_reported_when_the_class_is_made():
    with pytest.raises(TypeError, match=r"Forgetful plans a 'gan' stage but has no gan_step\(\)"):
        type("Forgetful", (TalkingFaceModel,), {"plans": {"gan": Plan(object, trains=("g",))}})


def test_doctor_reports_without_failing(tmp_path, monkeypatch):
    from talkingface.cli.doctor import report

    monkeypatch.chdir(tmp_path)
    text = report()
    assert "syncnet_v2.model" in text and "ok       IPLAP" in text and "absent   lrs2" in text
