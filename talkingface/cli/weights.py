"""`weights` and `import`: published weight files, and turning them into checkpoints of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.cli.configuration import MODEL
from talkingface.errors import ConfigError
from talkingface.weights.mirror import check_mirror, fetch_near, in_mirror
from talkingface.weights.published import FILES, WeightFile, status


def weights(arguments: Arguments) -> None:
    """Print the table of files, or fetch one.

    Raises:
        WeightsError: no such entry, mirror or direct address, or another file lies in its place.
        DownloadError: it cannot be fetched, or is not the published one.
    """
    folder, mirror = arguments["weights_dir"], _mirror(arguments)
    if not arguments["download"]:
        if mirror:
            check_mirror(mirror)
        print("\n".join(table(folder, mirror)))
        print("\npresent: no hash is published. --download=NAME fetches a file with a direct address and a full hash.")
        return
    file, digest = fetch_near(arguments["download"], folder, mirror)
    path = Path(folder) / file.path
    if digest is None:
        print(f"{path} is there already ({status(file, folder)})")
    else:
        print(f"wrote {path}, sha256 {digest}")


def _mirror(arguments: Arguments) -> str | None:
    """The mirror that is named, else that of the configuration (`properties/overall.yaml`)."""
    from talkingface.plugin.configuration import load_settings

    return arguments["weights_mirror"] or load_settings().config.weights_mirror


def table(weights_dir: str | Path, mirror: str | None = None) -> list[str]:
    """Lines about every file: name, status, size, path and purpose; below it the terms and the address.

    What is absent and lies in a mirror that is a folder is `in mirror`.
    """
    rows = [("name", "status", "size", f"below {weights_dir}", "for")]
    for file in FILES:
        state = status(file, weights_dir)
        state = "in mirror" if state == "absent" and mirror and in_mirror(file, mirror) else state
        rows.append((file.name, state, _size(file, weights_dir), file.path, file.purpose))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for position, file in reversed(list(enumerate(FILES, start=1))):
        address = file.url if file.fetchable else f"by hand: {file.url or file.source}"
        lines.insert(position + 1, " " * (widths[0] + 2) + f"{address}; licence: {file.licence}")
    return lines


def _size(file: WeightFile, weights_dir: str | Path) -> str:
    path = Path(weights_dir) / file.path
    size = path.stat().st_size if path.is_file() else file.size
    about = "" if path.is_file() or file.exact else "~"
    return f"{about}{size / 2**20:.0f} MiB" if size else "-"


def import_published(arguments: Arguments) -> None:
    """Turn published files of a model, or weights that left this toolkit, into a checkpoint; prints what is in it."""
    from talkingface.plugin.importing import import_checkpoints, import_safe

    use = _networks(arguments["use"] or ())
    if arguments["checkpoint"]:
        if use or arguments["folder"]:
            raise ConfigError("`import --checkpoint` takes weights of ours; --folder and --use name published files")
        imported = import_safe(arguments["model"], arguments["checkpoint"], arguments["output"], arguments.overrides)
    elif not use and arguments["folder"] is None:
        raise ConfigError("`import` needs --folder=DIR with the published files, or --use=NETWORK=FILE")
    else:
        imported = import_checkpoints(
            arguments["model"], arguments["folder"], arguments["output"], arguments.overrides, use
        )
    print(f"imported {', '.join(imported.networks)} -> {imported.path}")
    if imported.licence:
        print(f"what is made with them is {imported.licence}")
    for network, file in imported.missing.items():
        print(f"not there: {file} ({network}); its network has no weights in this checkpoint")


def _networks(texts: Sequence[str]) -> dict[str, str]:
    """`NETWORK=FILE` of every `--use`.

    Raises:
        ConfigError: another form, or two files for one network.
    """
    use: dict[str, str] = {}
    for text in texts:
        network, equals, file = text.partition("=")
        if not (network and equals and file):
            raise ConfigError(f"command line: --use={text}: expected NETWORK=FILE")
        if use.setdefault(network, file) != file:
            raise ConfigError(f"command line: --use names two files for {network}: {use[network]} and {file}")
    return use


WEIGHTS = Command(
    line="published weight files: purpose, licence, source, status; --download=NAME fetches one",
    options=(
        Option("weights_dir", "folder of the weight files", "checkpoints"),
        Option("download", "name of the file to fetch, as listed"),
        Option("weights_mirror", "folder or address with these files, asked first; default: that of overall.yaml"),
        HELP,
    ),
    run=weights,
    kept="what was fetched is kept, the same command goes on with the rest",
)

IMPORT = Command(
    line="turn published checkpoints into ours",
    options=(
        replace(MODEL, required=True),
        Option("folder", "where the published files are, under their published names"),
        Option("checkpoint", "a .safetensors of ours, or what `publish` made: a folder or hub:USER/NAME"),
        Option("use", "NETWORK=FILE, a file of any name for one network; may be repeated", repeated=True),
        Option("output", "file to write; default: checkpoints/<Model>/imported.pt"),
        HELP,
    ),
    run=import_published,
    takes_keys=True,
)
