"""`serve` on the command line: what is wrong is told in one line before anything is begun."""

from __future__ import annotations

import socket

import pytest

from talkingface import packages
from talkingface.cli import commands as cli


def told(argv, capsys) -> str:
    assert cli.main(["serve", *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_without_its_packages_the_command_that_installs_them_is_named(capsys, monkeypatch):
    monkeypatch.setattr(packages, "installed", lambda name: None if name == "gradio" else (name, "1"))
    err = told(["--model=Wav2Lip"], capsys)
    assert "`serve` needs gradio: pip install -c " in err and "constraints.txt 'gradio" in err


WRONG = [
    (["--model=Wav2Lip", "--also=second"], "--also=second: must look like --also=NAME=PATH"),
    (["--model=Wav2Lip", "--also=Wav2Lip=run"], "this name is taken by another model"),
    (["--model=Wav2Lip", "--also=a=x", "--also=a=y"], "--also=a=y: another --also has this name"),
    (["--model=Wav2Lip", "--template=a=missing.mp4"], "--template=a=missing.mp4: no such file"),
    (["--model=Wav2Lip", "--root_path=talk"], "--root_path=talk: must look like /talk"),
    (["--model=Wav2Lip", "--token_file=missing"], "--token_file=missing: cannot be read"),
    (["--model=Wav2Lip", "--serve.queue=0"], "'serve.queue': expected greater than or equal to 1"),
    (["--model=Wav2Lip", "--workers=0"], "--workers=0: must be 1 to"),
    (["--model=Wav2Lip", "--host=192.0.2.1"], "--host=192.0.2.1 --port=8000: cannot be listened at"),
]


@pytest.mark.parametrize(("argv", "text"), WRONG)
def test_wrong_options_are_named(argv, text, capsys, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    assert text in told([*argv, "--device=cpu"], capsys)
    assert not (tmp_path / "serving" / "jobs.sqlite").exists()


def test_a_token_must_be_long_enough_and_a_port_free(capsys, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("short\n")
    assert "must hold one word of 8 or more" in told(["--model=Wav2Lip", "--token_file=token", "--device=cpu"], capsys)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "cannot be listened at" in told(["--model=Wav2Lip", f"--port={port}", "--device=cpu"], capsys)


def test_a_model_that_cannot_be_served_and_a_folder_that_is_taken_are_named(capsys, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    from talkingface.serving.folder import ServingFolder

    monkeypatch.chdir(tmp_path)
    argv = ["--model=Wav2Lip", "--device=cpu", "--port=0", "--checkpoint=missing.pt"]
    assert "missing.pt" in told(argv, capsys)
    taken = ServingFolder(tmp_path / "serving")
    try:
        assert "serving: another server uses this folder" in told(argv, capsys)
    finally:
        taken.release()
