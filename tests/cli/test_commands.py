"""The command line: parsing, messages, exit codes, what it imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import talkingface
from helpers import ROOT
from talkingface.benchmark import speed as benchmark
from talkingface.cli import commands as cli
from talkingface.cli.arguments import HELP, Command, Option, parse, split_files
from talkingface.config.sections import DemoConfig
from talkingface.devices import limit_threads
from talkingface.errors import ConfigError, DataError
from talkingface.evaluation.report.result import EvalResult, RowResult
from talkingface.pipeline import Pipeline
from talkingface.plugin.configuration import load_config
from talkingface.team import Team
from talkingface.workflow import calls, scoring

OPTIONS = (Option("model", "m"), Option("print_config", "p", flag=True), HELP)

COMMANDS = {"run": Command("runs", OPTIONS, run=lambda arguments: None, takes_keys=True)}


def parsed(*argv):
    return parse(argv, COMMANDS, "run")


@pytest.mark.parametrize(
    "argv", [["--model=A", "--seed=3"], ["-m", "A", "--seed", "3"], ["run", "--model", "A", "--seed=3"]]
)
def test_both_forms_of_options_mean_the_same(argv):
    out = parsed(*argv)
    assert (out["model"], out.overrides) == ("A", {"seed": 3})


def test_a_value_may_contain_an_equals_sign_and_a_flag_takes_none():
    out = parsed("--name=a=b", "--print_config", "--x.y=[1, 2]")
    assert out.overrides == {"name": "a=b", "x.y": [1, 2]} and out["print_config"] is True


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--seed"], "--seed needs a value"),
        (["--seed=1", "--seed=2"], "given twice"),
        (["evalute"], "unknown command 'evalute'"),
        (["run", "extra"], "do not know what to do with 'extra'"),
    ],
)
def test_wrong_arguments_are_explained(argv, part):
    with pytest.raises(ConfigError, match=part):
        parsed(*argv)


def test_config_files_with_blanks_in_their_names():
    assert split_files('a.yaml "b c.yaml"') == ["a.yaml", "b c.yaml"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--model=IPLAP"],
        ["--model=IPLAQ", "--dataset=demo"],
        ["--model=IPLAP", "--dataset=demo", "--sed=1"],
        ["generate", "--model=IPLAP", "--source=x.mp4"],
        ["generate", "--model=IPLAP", "--checkpoint=none", "--source=x.mp4", "--audio=y.wav"],
        ["--model=IPLAP", "--dataset=lrs2", "--train=False"],
        ["list", "--nonsense=1"],
        ["import", "--folder=x"],
    ],
)
def test_user_errors_are_one_line_and_exit_code_2(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_command_explains_itself(command, capsys):
    assert cli.main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert command in out and all(f"--{o.name}" in out for o in cli.COMMANDS[command].options)


def test_help_without_a_command_lists_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)


def imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('MODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("MODULES")[2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import talkingface",
        "from talkingface import cli; cli.main(['list']); cli.main(['list', 'runs'])",
        "from talkingface import list_models",
    ],
)
def test_listing_loads_nothing_heavy(code):
    heavy = {"torch", "mediapipe", "librosa", "cv2", "av", "skimage", "matplotlib", "talkingface.models.iplap.model"}
    heavy |= {"face_alignment", "numba", "scenedetect", "tensorboard", "torchvision", "wandb"}
    assert not heavy & imported_by(code)


def test_demo_data_has_the_sizes_of_the_configuration_and_checks_them(capsys, tmp_path):
    defaults = {option.name: option.default for option in cli.COMMANDS["demo-data"].options}
    assert DemoConfig().model_dump().items() <= defaults.items()
    command = ["demo-data", f"--out={tmp_path / 'data'}", "--identities=1", "--clips=1", "--unseen=0", "--seconds=0.2"]
    assert cli.main([*command, "--size=32"]) == 2
    assert "command line: 'demo.size': expected greater than or equal to 64, got 32" in capsys.readouterr().err
    assert cli.main([*command, "--size=64", "--layout=flat"]) == 0
    assert (tmp_path / "data" / "id00_00000.mp4").is_file() and "made=1" in capsys.readouterr().out


def test_only_the_command_line_prints_and_knows_arguments_and_exit_codes():
    package = ROOT / "talkingface"
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            printing = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
            ending = isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.argv", "sys.exit", "sys.stdout")
            assert not (printing or ending), f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def test_version_is_told(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"talkingface {talkingface.__version__}\n"


def test_a_configuration_that_was_shown_needs_no_names(capsys, tmp_path):
    file = tmp_path / "mine.yaml"
    assert cli.main(["--model=IPLAP", "--dataset=lrs2", "--print_config", "--seed=9"]) == 0
    file.write_text(capsys.readouterr().out)
    assert cli.main([f"--config_files={file}", "--print_config"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["model_name"], shown["dataset"], shown["seed"]) == ("IPLAP", "lrs2", 9)


def test_print_config_shows_values_with_their_files(capsys):
    assert cli.main(["--model=IPLAP", "--dataset=lrs2", "--print_config", "--seed=9"]) == 0
    out = capsys.readouterr().out
    assert "properties/model/IPLAP.yaml" in out and "command line" in out


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model=IPLAP"], "interrupted; what was finished is kept, --resume=auto goes on"),
        (["preprocess"], "interrupted; clips that were finished are kept, the same command goes on"),
        (["generate", "--model=IPLAP", "--source=a.mp4", "--audio=a.wav"], "interrupted"),
        (["compare", "a", "b"], "interrupted"),
    ],
)
def test_whoever_interrupts_a_command_learns_what_is_kept(monkeypatch, capsys, argv, words):
    for name, command in cli.COMMANDS.items():
        monkeypatch.setitem(cli.COMMANDS, name, replace(command, run=interrupted))
    assert cli.main(argv) == 130
    assert capsys.readouterr().err.startswith(words)
    assert "resume" in words or cli.main(argv) == 130 and "resume" not in capsys.readouterr().err


def test_any_name_can_be_printed(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "list", replace(cli.COMMANDS["list"], run=lambda _: print("caf\udce9")))
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out == "caf\\udce9\n"


@pytest.fixture
def no_work(monkeypatch):
    """What evaluation would do is only noted: where the report goes."""
    places = []
    empty = EvalResult(rows={"generated": RowResult()})
    monkeypatch.setattr(calls, "on_the_data_of", lambda loaded, path: loaded)
    monkeypatch.setattr(scoring, "prepare", lambda loaded, **_: {"test": []})
    monkeypatch.setattr(
        calls, "score_checkpoint", lambda loaded, clips, checkpoint, out, team: places.append(out) or empty
    )
    return places


def test_evaluation_of_a_model_writes_where_output_says(no_work, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    command = ["evaluate", "--model=IPLAP", "--dataset=folder", f"--checkpoint={tmp_path / 'run'}"]
    assert cli.main(command) == 0
    assert cli.main([*command, f"--output={tmp_path / 'report'}"]) == 0
    assert no_work == [tmp_path / "run" / "eval", tmp_path / "report"]
    (tmp_path / "file").touch()
    assert cli.main([*command, f"--output={tmp_path / 'file'}"]) == 2
    assert "file: cannot be written" in capsys.readouterr().err and len(no_work) == 2


class Speaker:
    """A pipeline that says nothing."""

    def __call__(self, source, audio, output, reference, landmarks, background, visible_mark, progress):
        print("progress", progress)


@pytest.mark.parametrize(
    "argv",
    [
        ["generate", "--model=IPLAP", "--source=a.mp4", "--audio=a.wav", "--show_progress=false"],
        ["benchmark", "--model=IPLAP"],
        ["evaluate", "--generated={folder}", "--reference={folder}", "--output={folder}/out"],
        ["evaluate", "--self_test", "--dataset=folder", "--data_root={folder}", "--output={folder}/out"],
    ],
)
def test_the_limit_of_threads_holds_in_every_command(monkeypatch, tmp_path, capsys, argv):
    limits = []
    monkeypatch.setattr("talkingface.devices.limit_threads", limits.append)
    monkeypatch.setattr(Pipeline, "from_checkpoint", lambda *_: Speaker())
    monkeypatch.setattr(benchmark, "measure", lambda *_: {"hardware": {"cpu": "fast"}})
    cli.main([*(word.format(folder=tmp_path) for word in argv), "--threads=3"])
    assert limits == [3]
    assert "progress True" not in capsys.readouterr().out


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_of_an_evaluation_can_be_switched_off(monkeypatch, tmp_path, shown):
    from talkingface.evaluation import evaluator

    hidden = []
    monkeypatch.setattr(evaluator, "tqdm", lambda clips, disable, **_: hidden.append(disable) or ())
    for folder in ("made", "real"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.mp4").touch()
    folders = [f"--generated={tmp_path / 'made'}", f"--reference={tmp_path / 'real'}", f"--output={tmp_path / 'out'}"]
    options = ["--metrics=FID", "--device=cpu", f"--weights_dir={tmp_path}", "--evaluation.rows=[real]"]
    cli.main(["evaluate", *folders, *options, f"--show_progress={shown}"])
    assert hidden == [None if shown else True]


def test_threads_are_limited_before_videos_are_scored(monkeypatch):
    import torch

    limits = []
    monkeypatch.setattr(torch, "set_num_threads", limits.append)
    loaded = load_config("IPLAP", "folder", (), {"threads": 2})
    with pytest.raises(DataError, match="no usable test clip"):
        scoring.score_checkpoint(loaded, {"test": []}, Path("x.pt"), Path("out"), Team())
    limit_threads(None)
    assert limits == [2]


@pytest.mark.parametrize("action", [calls.run_configured, calls.train])
def test_a_strict_run_does_not_train_first_and_miss_weights_afterwards(monkeypatch, tmp_path, action):
    trained = []
    helper = Team(1, 2)  # who writes nothing
    monkeypatch.setattr(calls, "train_in_folder", lambda loaded, *_: trained.append(1) or (loaded, {}, None, helper))
    monkeypatch.setattr(calls, "score_run", lambda *_: None)
    given = {
        "metrics": ["PSNR", "LSE"],
        "metrics_strict": True,
        "weights_dir": str(tmp_path),
        "eval_step": 1,
        "profile": "tiny",
    }
    with pytest.raises(DataError, match="metric LSE is not available: weights not found"):
        action(load_config("IPLAP", "folder", (), given))
    assert not trained
    no_scores = {"evaluate": False, "eval_step": 0, "stages.render.eval_step": 0}
    for change in ({"metrics_strict": False}, {"metrics": ["PSNR", "EXPERT"]}, no_scores):
        action(load_config("IPLAP", "folder", (), given | change))
    named = {"metrics": ["EXPERT"], "evaluation.judge": str(tmp_path / "gone.pt")}
    with pytest.raises(DataError, match="metric EXPERT is not available: .*gone.pt"):
        action(load_config("IPLAP", "folder", (), given | named))
    action(load_config("SyncNet", "folder", (), given))
    assert len(trained) == 4


def test_names_do_not_steer_the_terminal(tmp_path, capsys):
    from talkingface.cli import commands

    bad = "x\x1b[2J\u202egpj\r.mp4"
    assert (
        commands.main(
            [
                "generate",
                "--model=IPLAP",
                f"--source={bad}",
                "--audio=a.wav",
                f"--output={bad}",
                "--checkpoint=x\x9b.pt",
            ]
        )
        == 2
    )
    told = capsys.readouterr()
    assert (told.out + told.err).replace("\n", "").isprintable()
    assert "x\\x9b.pt" in told.err
