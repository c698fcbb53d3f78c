"""`serve`: models over HTTP, with a page for the browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from talkingface.cli.arguments import HELP, Arguments, Command, Option, split_files
from talkingface.cli.configuration import MODEL
from talkingface.errors import ConfigError
from talkingface.packages import need

_NAME = re.compile(r"[\w.-]{1,64}")
_PREFIX = re.compile(r"(/[\w.~-]+)*")
_SHORTEST_TOKEN = 8


def serve(arguments: Arguments) -> None:
    """Serve models until the program is ended."""
    need("serve", "`serve`")
    from talkingface.serving.config import load_serving
    from talkingface.serving.devices import worker_devices
    from talkingface.serving.server import serve as run_server
    from talkingface.serving.service import Served

    own = {key: value for key, value in arguments.overrides.items() if key.partition(".")[0] == "serve"}
    overrides = {key: value for key, value in arguments.overrides.items() if key not in own and key != "log_level"}
    settings = load_serving(split_files(arguments["config_files"]), own)
    served = [Served(arguments["model"], arguments["model"], arguments["checkpoint"])]
    served += [Served(name, None, run) for name, run in _pairs("also", arguments["also"]).items()]
    _check_names([each.name for each in served])
    templates = {name: Path(path) for name, path in _pairs("template", arguments["template"]).items()}
    for name, path in templates.items():
        if not path.is_file():
            raise ConfigError(f"--template={name}={path}: no such file")
    root_path = arguments["root_path"].rstrip("/")
    if not _PREFIX.fullmatch(root_path):
        raise ConfigError(f"--root_path={root_path}: must look like /talk")
    run_server(
        settings=settings,
        served=served,
        devices=worker_devices(str(overrides.pop("device", "auto")), arguments["workers"]),
        overrides=overrides,
        host=arguments["host"],
        port=arguments["port"],
        token=_token(arguments["token_file"]),
        root_path=root_path,
        templates=templates,
        saved=Path(arguments["saved_dir"]),
        ready=lambda address: print(f"serving {', '.join(each.name for each in served)} at {address}", flush=True),
    )


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """`NAME=PATH` of a repeated option."""
    found = {}
    for text in given or ():
        name, equals, path = text.partition("=")
        if not equals or not _NAME.fullmatch(name) or not path:
            raise ConfigError(f"--{option}={text}: must look like --{option}=NAME=PATH")
        if name in found:
            raise ConfigError(f"--{option}={text}: another --{option} has this name")
        found[name] = path
    return found


def _check_names(names: list[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"--also={twice.pop()}=...: this name is taken by another model; choose one of your own")


def _token(path: str | None) -> str | None:
    """The token in a file, so that it stands neither in the list of processes nor in a shell's history."""
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token_file={path}: cannot be read ({error})") from None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"--token_file={path}: must hold one word of {_SHORTEST_TOKEN} or more letters and digits; for example what"
            ' `python -c "import secrets; print(secrets.token_urlsafe())"` prints'
        )
    return token


SERVE = Command(
    line="serve trained models over HTTP, with a page for the browser",
    options=(
        replace(MODEL, required=True),
        Option("checkpoint", "run folder or .pt file; default: the imported published weights"),
        Option("also", "NAME=RUN: another model, loaded when it is first asked for; may be repeated", repeated=True),
        Option("host", "address to listen at; only this machine reaches the default", default="127.0.0.1"),
        Option("port", "0 takes a free one", default=8000, type=int),
        Option("workers", "processes that generate, each with a device of its own; default: one per GPU", type=int),
        Option("token_file", "file with a token that clients must show"),
        Option("root_path", "prefix of all paths, where a proxy stands in front: /talk", default=""),
        Option("template", "NAME=FILE: a video for the routes of the LawDNet server; may be repeated", repeated=True),
        Option("saved_dir", "folder of runs that the page shows", default="saved"),
        Option("config_files", 'YAML files with a section `serve`, blank-separated: "a.yaml b.yaml"'),
        HELP,
    ),
    run=serve,
    takes_keys=True,
    kept="jobs that were not done go on when the server is started again",
)
