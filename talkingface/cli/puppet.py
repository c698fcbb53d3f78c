"""`puppet`: cartoon puppets that MakeItTalk makes speak."""

from __future__ import annotations

from pathlib import Path

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.errors import ConfigError


def puppet(arguments: Arguments) -> int:
    """`puppet new` writes the files of one, `puppet check` names what is wrong with them.

    Returns:
        1 where `check` finds something.

    Raises:
        ConfigError: something else is asked for.
    """
    if len(arguments.words) != 2 or arguments.words[0] not in ("new", "check"):
        raise ConfigError("command line: `puppet new PICTURE` makes a puppet, `puppet check PICTURE` looks at one")
    what, path = arguments.words[0], Path(arguments.words[1])
    return _new(path, arguments) if what == "new" else _check(path)


def _new(picture: Path, arguments: Arguments) -> int:
    from talkingface.models.makeittalk.puppet.check import check_puppet
    from talkingface.models.makeittalk.puppet.new import new_puppet

    landmarks, out = (arguments[name] and Path(arguments[name]) for name in ("landmarks", "out"))
    files = new_puppet(picture, landmarks, out, bool(arguments["overwrite"]))
    print(f"wrote {', '.join(path.name for path in files[1:])} beside {files.picture}")
    for fault in check_puppet(files.picture):
        print(f"  {fault}")
    print(f"look at {files.mesh}; to change it edit {files.edited}, then `puppet new {files.picture}`")
    return 0


def _check(path: Path) -> int:
    from talkingface.models.makeittalk.puppet.check import check_puppet

    faults = check_puppet(path)
    print("\n".join(faults) if faults else f"{path}: nothing is wrong")
    return 1 if faults else 0


PUPPET = Command(
    line="puppet new PICTURE: make a cartoon speakable; puppet check PICTURE: what is wrong with it",
    options=(
        Option("landmarks", "new: 68 points of the drawing (json, .pts, or lines of x and y), not those of its json"),
        Option("out", "new: folder for the puppet; default: beside the picture"),
        Option("overwrite", "new: also over files of somebody else and over points placed by hand", flag=True),
        HELP,
    ),
    run=puppet,
    takes_words=True,
)
