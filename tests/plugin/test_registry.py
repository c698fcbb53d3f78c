"""Names: built-in models, plug-ins, aliases, mistakes of plug-ins."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helpers import ROOT
from talkingface.clips.layouts import LAYOUTS, make_layout
from talkingface.errors import ConfigError
from talkingface.plugin.configuration import load_config, load_settings
from talkingface.plugin.contract import Plan, TalkingFaceModel
from talkingface.plugin.metrics import METRICS
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


REGISTERS = (
    "from talkingface.plugin.contract import TalkingFaceModel\nfrom talkingface.plugin.registry import register\n"
    "@register('{name}')\nclass Mine(TalkingFaceModel):\n    pass\n"
)
BREAKS = {
    "absent": None,
    "raises": "raise ValueError('first line\\nsecond line')",
    "exits": "import sys; sys.exit(3)",
    "malformed": "class(",
    "takes_a_name": REGISTERS.format(name="IPLAP"),
}


@pytest.mark.parametrize("kind", list(BREAKS))
def test_a_broken_plug_in_is_named_once_and_the_rest_works(kind, tmp_path, monkeypatch, caplog):
    module = f"broken_{kind}"
    if BREAKS[kind] is not None:
        (tmp_path / f"{module}.py").write_text(BREAKS[kind])
    (tmp_path / f"fine_{kind}.py").write_text(
        "from talkingface.plugin.metrics import register_metric\n"
        f"@register_metric('fine_{kind}')\nclass Fine:\n    'Fine.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TALKINGFACE_PLUGINS", f"{module},fine_{kind}")
    assert "IPLAP" in list_models() and "IPLAP" in list_models()
    assert get_spec("IPLAP").model.__module__ == "talkingface.models.iplap.model"
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"plug-in module '{module}' cannot be imported and is left out: ") and "\n" not in line
    assert METRICS.pop(f"FINE_{kind.upper()}")


def test_a_plug_in_whose_yaml_cannot_be_read_is_left_out(tmp_path, monkeypatch, caplog):
    (tmp_path / "bad_yaml.py").write_text(REGISTERS.format(name="BadYaml"))
    (tmp_path / "BadYaml.yaml").write_text("description: [")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "bad_yaml")
    assert "IPLAP" in list_models() and "BadYaml" not in list_models()
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("model 'BadYaml' is left out") and "BadYaml.yaml" in line


def test_layouts_and_metrics_of_a_plug_in_hold_in_every_configuration(tmp_path, monkeypatch):
    (tmp_path / "our_lab.py").write_text(
        "from talkingface.clips.layouts import FolderLayout, register_layout\n"
        "from talkingface.plugin.metrics import register_metric\n"
        "@register_layout('ourlab')\nclass OurLab(FolderLayout):\n    'Ours.'\n"
        "@register_metric('OURS')\nclass Ours:\n    'Ours.'\n"
    )
    lab = tmp_path / "lab.yaml"
    lab.write_text("layout: ourlab\nmetrics: [ours, SSIM]\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "our_lab")
    try:
        for config in (load_config("IPLAP", str(lab)).config, load_settings(dataset=str(lab)).config):
            assert type(make_layout(config)).__name__ == "OurLab" and config.metrics == ("ours", "SSIM")
        with pytest.raises(ConfigError, match=r"layout: unknown layout 'ourlap', did you mean 'ourlab'\?"):
            load_settings(overrides={"layout": "ourlap"})
    finally:
        METRICS.pop("OURS", None)
        LAYOUTS.pop("ourlab", None)


def test_a_plan_without_its_step_is_reported_when_the_class_is_made():
    with pytest.raises(TypeError, match=r"Forgetful plans a 'gan' stage but has no gan_step\(\)"):
        type("Forgetful", (TalkingFaceModel,), {"plans": {"gan": Plan(object, trains=("g",))}})


def test_doctor_reports_without_failing(tmp_path, monkeypatch):
    from talkingface.cli.doctor import report

    monkeypatch.chdir(tmp_path)
    text = report()
    assert "syncnet_v2.model" in text and "ok       IPLAP" in text and "absent   lrs2" in text
