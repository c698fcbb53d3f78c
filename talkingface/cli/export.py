"""`export`: a trained model's networks as files for other programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.cli.configuration import MODEL
from talkingface.errors import ConfigError, unknown

FORMATS = ("onnx", "safetensors")


def export(arguments: Arguments) -> None:
    """Write the files, check them, and say where they are.

    Raises:
        ConfigError: another format, or no place to write to.
        CheckpointError: the checkpoint cannot be used, or a graph differs from PyTorch.
        PackageMissing: what writes or checks the files is not installed.
    """
    if arguments["format"] not in FORMATS:
        raise ConfigError(unknown("--format", str(arguments["format"]), FORMATS))
    from talkingface.weights.hub import is_on_hub

    if arguments["checkpoint"] and is_on_hub(arguments["checkpoint"]) and not arguments["output"]:
        raise ConfigError(f"{arguments['checkpoint']}: name a folder or file of your own with --output")
    (_export_onnx if arguments["format"] == "onnx" else _export_safetensors)(arguments)


def _export_onnx(arguments: Arguments) -> None:
    from talkingface.packages import need

    need("onnx", "export --format=onnx")
    from talkingface.export.manifest import folder_beside
    from talkingface.export.onnx_files import export_model
    from talkingface.plugin.trained import read_trained

    trained = read_trained(arguments["model"], arguments["checkpoint"], arguments.overrides)
    trained.model.bind(trained.config.weights_dir, "cpu")
    ready = trained.model.given.union(trained.content.ready)
    folder = Path(arguments["output"] or folder_beside(trained.path))
    files = export_model(trained.model, trained.name, ready, folder, print)
    print(f"what goes in and out of them is in {files[-1]}")


def _export_safetensors(arguments: Arguments) -> None:
    from talkingface.config.layers import to_plain
    from talkingface.plugin.trained import read_trained
    from talkingface.weights.checkpoint import save_safe
    from talkingface.weights.safe_file import SUFFIX

    trained = read_trained(arguments["model"], arguments["checkpoint"], arguments.overrides)
    path = Path(arguments["output"] or trained.path.with_suffix(SUFFIX))
    if path.suffix != SUFFIX:
        raise ConfigError(f"--output={path}: the name of the file ends in {SUFFIX}")
    save_safe(path, replace(trained.content, config=to_plain(trained.config)))
    print(f"wrote {path}, with {', '.join(trained.content.networks)} and the configuration")


EXPORT = Command(
    line="networks of a trained model as ONNX files, checked against PyTorch, or as one .safetensors",
    options=(
        replace(MODEL, required=True),
        Option("checkpoint", "run folder or file, see `generate`; default: the imported published weights"),
        Option("format", "onnx or safetensors", required=True),
        Option("output", "onnx: folder, default `onnx` beside the checkpoint; safetensors: file, default beside it"),
        HELP,
    ),
    run=export,
    takes_keys=True,
)
