"""What README and docs show works: commands parse, configuration loads, code runs, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import io
import pkgutil
import re
import shlex
import sys
import tokenize
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.pages import PAGES, blocks
from talkingface import workflow as runner
from talkingface.cli import commands as cli
from talkingface.cli.arguments import parse, split_files
from talkingface.config.former_keys import ALIASES, IGNORED, RENAMED
from talkingface.config.sections import Config
from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError
from talkingface.pipeline import Pipeline
from talkingface.plugin import registry
from talkingface.plugin.configuration import load_config, load_settings
from talkingface.weights import published as weights

PACKAGE = ROOT / "talkingface"


def commands() -> list[tuple[str, str]]:
    """(page, arguments) of every mention of `run_talkingface.py`, in blocks and inside sentences."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for match in re.finditer(r"(?:python|torchrun)[^\n`&]*? run_talkingface\.py(?P<rest>[^\n`&#]*)", text):
            found.append((page.name, match["rest"].strip()))
    return found


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Folder with the README's files written out, and the model in them registered for one test."""
    for note, body in blocks(ROOT / "README.md", "python", "yaml"):
        if note.startswith("file: "):
            path = tmp_path / note.removeprefix("file: ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TALKINGFACE_PLUGINS", "mymodels.tinylip")
    forget_example()
    yield tmp_path
    forget_example()


def forget_example() -> None:
    """Unregister the models of the pages, and the modules they came from."""
    for name in [name for name in sys.modules if name.split(".")[0] == "mymodels"]:
        del sys.modules[name]
    for name in [n for n, spec in registry._SPECS.items() if spec.model.__module__.startswith(("mymodels", "page_"))]:
        del registry._SPECS[name]


# -- commands ----------------------------------------------------------------------------------------------------------


def test_readme_begins_with_the_two_one_line_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    demo, tests = (body.strip() for _, body in blocks(ROOT / "README.md", "bash")[:2])
    assert demo == "pip install -r requirements.txt && python run_talkingface.py --model=IPLAP --dataset=demo"
    assert tests == "pip install -r requirements.txt && python -m pytest"
    assert len(text.splitlines()) < 500


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_in_the_pages_is_understood(page, line, example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_yaml_examples(tmp_path)
    arguments = parse(shlex.split(line), cli.COMMANDS, cli.DEFAULT)
    wanted = arguments.options.get("download")
    assert wanted in (None, "NAME") or weights.find(wanted)
    if arguments.command == "serve":
        from talkingface.serving.config import load_serving

        load_serving((), {key: value for key, value in arguments.overrides.items() if key.startswith("serve.")})
        arguments.overrides = {k: v for k, v in arguments.overrides.items() if not k.startswith("serve.")}
    if arguments.options.get("model") is None:
        load_settings((), arguments.overrides, arguments.options.get("dataset"))
        return
    dataset = arguments.options.get("dataset") or "folder"
    files = split_files(arguments.options.get("config_files"))
    # Those that are shipped: tests of this process may have registered toys.
    shipped = [path.stem for path in (ROOT / "properties" / "model").glob("*.yaml")]
    for name in shipped if arguments["model"] == "all" else [arguments["model"]]:
        load_config(name, dataset, files, arguments.overrides)


def test_every_command_is_in_the_table_of_commands():
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = text[text.index("## Commands") : text.index("## Stages")]
    for name in cli.COMMANDS:
        assert f"`{name}" in table, name
    assert all(f"--{option}" in table for option in ("generated", "reference", "self_test", "download"))


def test_profiles_named_in_configuration_are_those_of_the_models():
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for path in (ROOT / "properties" / "model").glob("*.yaml"):
        profiles = read_yaml(path)[0].get("profiles", {})
        line = next(line for line in text.splitlines() if line.startswith(f"| {path.stem} |"))
        assert set(re.findall(r"`(\w+)`", line)) == set(profiles), path.stem


def write_yaml_examples(folder: Path) -> list[Path]:
    """The YAML files that begin with their own name (`# mine.yaml`), written out; names only mentioned are empty."""
    written = []
    for page in PAGES:
        for _, body in blocks(page, "yaml"):
            name = re.match(r"# (\S+\.yaml)\n", body)
            if name:
                (folder / name[1]).write_text(body, encoding="utf-8")
                written.append(folder / name[1])
    for name in ("a.yaml", "b.yaml", "mine.yaml", "lab.yaml"):
        (folder / name).touch()
    return written


def test_commands_are_found_in_readme_and_docs():
    pages = [page for page, _ in commands()]
    assert pages.count("README.md") > 20 and {"configuration.md", "evaluation.md", "benchmarks.md"} <= set(pages)
    assert pages.count("README.zh.md") > 10 and "lrs2.md" in pages


def test_the_chinese_page_is_named_first_and_knows_every_former_key():
    assert "(docs/README.zh.md)" in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0]
    text = (ROOT / "docs" / "README.zh.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)`", text, re.M))
    assert {old: rows.get(old) for old in RENAMED} == RENAMED
    assert [key for key in IGNORED if f"`{key}`" not in text] == []


def test_yaml_examples_are_valid_configurations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {path.name: path for path in write_yaml_examples(tmp_path)}
    assert {"mine.yaml", "my.yaml"} <= files.keys()
    assert load_config("IPLAP", "lrs2", [files["mine.yaml"]]).config.seed == 7
    assert load_config("IPLAP", str(files["my.yaml"])).config.data_root == "interviews/videos"


def test_every_yaml_block_is_yaml_with_known_top_level_keys(tmp_path):
    for page in PAGES:
        for _, body in blocks(page, "yaml"):
            path = tmp_path / "block.yaml"
            path.write_text(body, encoding="utf-8")
            assert read_yaml(path)[0].keys() <= {*Config.model_fields, "profiles", "former_keys", "serve"}, (
                f"{page.name}: {body}"
            )


# -- code --------------------------------------------------------------------------------------------------------------


def test_the_example_model_learns_and_speaks_as_readme_says(example, tiny_dataset, monkeypatch):
    overrides = {**tiny_dataset, "saved_dir": str(example / "saved"), "run_name": "first", "log_every": 1}
    overrides["tensorboard"] = True
    metrics = {"metrics": ["PSNR"], "evaluation.rows": ["generated"], "evaluation.max_clips": 1}
    result = runner.run("TinyLip", "demo", config_dict={**overrides, **metrics})
    assert result["rows"]["generated"]["psnr"] > 5
    run = example / "saved" / "TinyLip-demo" / "first"
    assert {folder.name for folder in (run / "tensorboard").iterdir()} == {"lips", "evaluation"}

    # The API block, as printed but for the model's name: its files are laid out where it expects them.
    from talkingface.media import VideoReader, count_frames, probe, read_audio, write_image, write_wav

    video = next(Path(tiny_dataset["data_root"]).rglob("*.mp4"))
    (example / "me.mp4").write_bytes(video.read_bytes())
    write_image(example / "portrait.jpg", next(iter(VideoReader(video))))
    write_wav(example / "speech.wav", read_audio(video)[:8000])
    (example / "saved" / "IPLAP-lrs2").mkdir()
    run.rename(example / "saved" / "IPLAP-lrs2" / "first")
    monkeypatch.chdir(example)
    code = next(body for _, body in blocks(ROOT / "README.md", "python") if "Pipeline.from_checkpoint" in body)
    exec(
        compile(
            code.replace('"IPLAP"', '"TinyLip"').replace('"auto"', '"cpu"'), "README.md", "exec", dont_inherit=True
        ),
        {},
    )
    # 0.5 s at 25 fps are 12.5 frames, rounded up.
    assert count_frames("talking.mp4") == count_frames("talking_picture.mp4") == 13
    assert probe("talking.mp4").size == probe("me.mp4").size and probe("talking.mp4").has_audio


def test_the_example_model_stays_short():
    code = next(body for note, body in blocks(ROOT / "README.md", "python") if note.startswith("file: "))
    assert len([line for line in code.splitlines() if line.strip()]) <= 75
    assert max(map(len, code.splitlines())) <= 120


def test_the_example_model_is_listed_and_its_profiles_load(example):
    assert "TinyLip" in registry.list_models()
    for profile in (None, "demo", "tiny"):
        loaded = load_config("tinylip", "folder", (), {"profile": profile})
        assert loaded.config.stages[0].name == "lips"


def test_every_bibtex_entry_is_whole_and_the_same_on_every_page():
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for _, body in blocks(page, "bibtex"):
            entries = re.findall(r"^@(\w+)\{(\w+),\n(.*?)^\}$", body, re.M | re.S)
            assert "".join(f"@{kind}{{{key},\n{fields}}}\n" for kind, key, fields in entries) == body, page.name
            for _, key, fields in entries:
                lines = fields.splitlines()
                assert all(re.fullmatch(r"  \w+ = \{.+\},?", line) for line in lines), key
                assert all(line.endswith(",") for line in lines[:-1]) and not lines[-1].endswith(","), key
                assert all(line.count("{") == line.count("}") for line in lines), key
                assert {"title", "author", "year"} <= {line.split()[0] for line in lines}, key
                found.setdefault(key, set()).add(fields)
    assert all(len(texts) == 1 for texts in found.values()) and len(found) > 5


def test_readme_leads_to_the_citation_and_every_page_of_a_model_has_its_papers():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/CITATION.cff)" in readme
    for page in ("iplap", "wav2lip", "syncnet", "evaluation"):
        assert f"(docs/{page}.md" in readme and any(blocks(ROOT / "docs" / f"{page}.md", "bibtex")), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_python_block_compiles_and_imports_what_exists(page):
    for _, body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), f"{page.name}: {ast.unparse(node)}"


def test_calls_of_run_and_pipeline_in_the_pages_have_arguments_that_exist():
    import inspect

    known = {"run": runner.run, "from_checkpoint": Pipeline.from_checkpoint, "pipeline": Pipeline.__call__}
    allowed = {name: set(inspect.signature(function).parameters) for name, function in known.items()}
    seen = set()
    for page in PAGES:
        for _, body in blocks(page, "python"):
            for node in ast.walk(ast.parse(body)):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name not in allowed or (name == "run" and isinstance(node.func, ast.Attribute)):
                    continue
                seen.add(name)
                assert {k.arg for k in node.keywords} <= allowed[name], f"{page.name}: {ast.unparse(node)}"
                for keyword in node.keywords:
                    if keyword.arg == "config_dict":
                        load_config("IPLAP", "demo", (), ast.literal_eval(keyword.value))
    assert seen == set(known)


@pytest.fixture
def untouched_registries():
    """Models, metrics, steps and converters that a page registers are forgotten after the test."""
    from talkingface.plugin.metrics import METRICS
    from talkingface.preprocess.converters.base import CONVERTERS
    from talkingface.preprocess.step import STEPS

    kept = [(known, dict(known)) for known in (METRICS, STEPS, CONVERTERS)]
    yield
    forget_example()
    for known, before in kept:
        known.clear()
        known.update(before)


def run_blocks(page: Path, **names) -> dict:
    """Execute a page's Python blocks one after the other, as a reader would; those marked `not run` are left out."""
    namespace = {"__name__": f"page_{page.stem}", **names}
    for note, body in blocks(page, "python"):
        if note != "not run":
            exec(compile(body, page.name, "exec", dont_inherit=True), namespace)
    return namespace


def test_the_search_with_optuna_asks_for_settings_that_exist_and_gets_figures(monkeypatch, tmp_path):
    from types import SimpleNamespace

    import talkingface

    trials = [SimpleNamespace(number=k, suggest_float=lambda name, low, high, log=False: low) for k in range(2)]
    found = []

    def optimize(objective, n_trials):
        assert n_trials == 20
        found.extend(objective(trial) for trial in trials)

    def pretend(model, dataset, files, settings):
        config = load_config(model, dataset, files or (), settings).config
        return {"rows": {"generated": {"ssim": config.model.loss.w_warp}}}

    study = SimpleNamespace(optimize=optimize, best_params={})
    monkeypatch.setitem(sys.modules, "optuna", SimpleNamespace(create_study=lambda **_: study))
    monkeypatch.setattr(talkingface, "run", pretend, raising=False)
    run_blocks(ROOT / "docs" / "sweeps.md")
    assert found == [1.0, 1.0]


@pytest.fixture
def clip(tiny_dataset):
    """A prepared clip of the tiny corpus."""
    from talkingface.clips.folder import ClipFolder

    loaded = load_config("IPLAP", "demo", (), tiny_dataset)
    return ClipFolder(runner.prepare(loaded)["train"][0].path)


def test_the_pieces_of_adding_a_model_work(untouched_registries, clip, tmp_path):
    import cv2
    import numpy as np
    import torch

    from helpers.drawn_clips import DrawnSource, Speech
    from talkingface.clips.folder import ClipFolder
    from talkingface.clips.layouts import ClipItem
    from talkingface.config.sections import PreprocessConfig, StageConfig
    from talkingface.evaluation.sample import EvalSample
    from talkingface.plugin.contract import StepContext
    from talkingface.preprocess.plan import plan_steps
    from talkingface.preprocess.prepare import Preprocessor

    page = run_blocks(ROOT / "docs" / "adding_a_model.md")
    assert page["official"][0].network == "generator"
    with pytest.raises(ValueError, match="multiple of 16, got 50"):
        page["LipConfig"](crop={"size": 50})

    config = page["LipConfig"](crop={"size": 32, "margin_mode": "relative", "margin": 0.05})  # as the clip was prepared
    data = page["LipWindows"]([clip], "train", {"frames": 3}, config, 0)
    batch = {key: torch.as_tensor(np.asarray(value))[None] for key, value in data[0].items()}
    assert batch["mels"].shape == (1, 3, 80, 16)
    model = page["LipGAN"](config)
    ctx = StepContext(StageConfig(name="s", kind="gan", epochs=1), epoch=1)
    updates = list(model.training_step(batch, ctx))
    assert [u.network for u in updates] == ["discriminator", "generator"] and "adversarial" in updates[1].losses

    source, speech = DrawnSource(20, gone=(7,)), Speech(1.0)
    frames = list(page["redraw_video"](source, speech, config.crop, lambda faces, mel: 255 - faces))
    assert len(frames) == 25 and (frames[7] == source.pictures[7]).all() and (frames[8] != source.pictures[8]).any()
    assert (frames[8][:40] == source.pictures[8][:40]).all(), "above the lower half of the face"

    settings = PreprocessConfig()
    item = ClipItem("c", clip.video, "s")
    steps = plan_steps(["loudness"], {"loudness": {"floor_db": -40.0}}, settings)
    assert Preprocessor(steps, settings, tmp_path, progress=False).run([item]).ok_ids == ["c"]
    assert np.load(tmp_path / "c" / "loudness.npy").shape == (len(clip),)

    face = clip.faces(config.crop.artefact)[0]
    for index in (0, 2):
        (tmp_path / "old/s1/one").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"old/s1/one/{index}.png"), face)
    command = ["convert-data", "--kind=pictures", f"--faces={tmp_path}/old", f"--out={tmp_path}/new", "--size=32"]
    assert cli.main(command) == 0
    converted = ClipFolder(tmp_path / "new/s1/one")
    assert (converted.status, len(converted), converted.imported) == ("ok", 3, "pictures")
    faces = converted.faces("faces@32-frame-iplap-px-0")
    assert faces.valid.tolist() == [True, False, True] and faces.size == 32

    days = page["DaysLayout"]()
    assert days.speaker("monday/ann_3") == "ann" and not days.scan(tmp_path / "nowhere")
    (tmp_path / "days/monday").mkdir(parents=True)
    (tmp_path / "days/monday/ann_3.mp4").write_bytes(clip.video.read_bytes())
    assert days.scan(tmp_path / "days") == [ClipItem("monday/ann_3", tmp_path / "days/monday/ann_3.mp4", "ann")]

    flicker = page["Flicker"]().update(EvalSample("c", "real", clip.video, clip.video))["flicker"]
    assert 0 < flicker < 20


def test_the_code_of_data_layout_works(clip, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it writes a landmark file
    page = run_blocks(ROOT / "docs" / "data_layout.md", CLIP=clip.path)
    assert page["track"].points_px.shape == (len(clip), 478, 2)
    assert page["mel"].shape[0] == 80 and capsys.readouterr().out.split() == [str(len(clip)), "ok", "25.0"]


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_links_inside_the_repository_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{page.name}: {target}"


def prose(path: Path) -> str:
    """What is written for people in a file: a page as it is, docstrings and comments of code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    strings = [n.value.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Expr) and is_text(n.value)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join([*strings, *(token.string for token in tokens if token.type == tokenize.COMMENT)])


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


ELSEWHERE = {"data_processing.py", "train_DINet_clip.py", "train_DINet_frame.py"}
"""Files of published code whose options are understood here, or whose commands have others here."""


def lost_names(path: Path) -> list[str]:
    """Python files and modules of the package that the prose of a file names and that are not there."""
    text = prose(path)
    places = [ROOT, ROOT / "tests", PACKAGE, path.parent]
    if path.suffix == ".md":  # a page says once which folder it speaks of, then the names of files alone
        places += [folder for folder in PACKAGE.rglob("*") if folder.is_dir()]
    files = {name for name in re.findall(r"(?<![\w/.<>-])(?:\w+/)*\w+\.py\b", text) if not name.startswith("mymodels/")}
    lost = [name for name in files - ELSEWHERE if not any((place / name).is_file() for place in places)]
    for name in set(re.findall(r"(?<!\w)talkingface(?:\.[A-Za-z]\w*)+", text)):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            lost.append(name)
    return sorted(lost)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_files_and_modules_named_in_the_pages_exist(page):
    assert lost_names(page) == []


def test_files_and_modules_named_in_docstrings_and_comments_exist():
    lost = {path: lost_names(path) for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py")}
    lost.pop(Path(__file__))  # names some on purpose, below
    assert {str(path.relative_to(ROOT)): names for path, names in lost.items() if names} == {}


def test_names_that_lead_nowhere_would_be_found(tmp_path):
    page, code = tmp_path / "page.md", tmp_path / "code.py"
    page.write_text("`model/base.py` has `talkingface.evaluator.METRICS`; `config.py`, `talkingface.plugin` exist.\n")
    code.write_text('"""See gone.py."""\nx = "not_prose.py"  # and talkingface.nowhere\n')
    assert lost_names(page) == ["model/base.py", "talkingface.evaluator.METRICS"]
    assert lost_names(code) == ["gone.py", "talkingface.nowhere"]


def keys_in_sentences(text: str) -> set[str]:
    """`--a.b=...` and `--a=...` in running text and tables, beyond whole commands."""
    return set(re.findall(r"`--([a-z][a-z_0-9]*(?:\.[a-z_0-9]+)*)=", text)) - {"key"}  # `--key=value` stands for all


def exists(key: str, models: list[str]) -> bool:
    """Whether a key can be set for one of the models, or is an option of a command."""
    if key in {option.name for command in cli.COMMANDS.values() for option in command.options}:
        return True
    if "." not in key:
        return key in {*Config.model_fields, *ALIASES, *RENAMED, *IGNORED}
    for model in models:
        with pytest.raises(ConfigError) as error:  # the value is wrong everywhere; the key must not be
            load_config(model, "demo", (), {key: {"no": {"such": "value"}}})
        if f"unknown key '{key}'" not in str(error.value) and "there is no such stage" not in str(error.value):
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_configuration_keys_named_in_sentences_exist(page):
    of_page = [name for name in registry.list_models() if name.lower() == page.stem]
    for key in keys_in_sentences(page.read_text(encoding="utf-8")):
        assert exists(key, of_page or registry.list_models()), f"{page.name}: --{key}"


def test_wrong_keys_in_sentences_would_be_found():
    text = "`--stages.bogus.lr=1`, `--metrics_strickt=true`, `--evaluation.regoin=face`, `--metrics_strict=true`"
    wrong = {key for key in keys_in_sentences(text) if not exists(key, registry.list_models())}
    assert wrong == {"stages.bogus.lr", "metrics_strickt", "evaluation.regoin"}
