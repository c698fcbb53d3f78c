"""The command line: parsing, messages, exit codes, what it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from talkingface import cli
from talkingface.arguments import Option, parse, split_files
from talkingface.errors import ConfigError

ROOT = Path(__file__).parent.parent
COMMANDS = {"run": (Option("model", "m"), Option("print_config", "p", flag=True), Option("help", "", flag=True))}


def parsed(*argv):
    return parse(argv, COMMANDS, "run", {"run"})


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
    assert command in out and all(f"--{o.name}" in out for o in cli.COMMANDS[command][1])


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
    ["import talkingface", "from talkingface import cli; cli.main(['list'])", "from talkingface import list_models"],
)
def test_listing_loads_nothing_heavy(code):
    heavy = {"torch", "mediapipe", "librosa", "cv2", "av", "skimage", "matplotlib", "talkingface.model.iplap"}
    assert not heavy & imported_by(code)


def test_print_config_shows_values_with_their_files(capsys):
    assert cli.main(["--model=IPLAP", "--dataset=lrs2", "--print_config", "--seed=9"]) == 0
    out = capsys.readouterr().out
    assert "properties/model/IPLAP.yaml" in out and "command line" in out
