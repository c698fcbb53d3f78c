"""`doctor`: what this installation can do, and what is missing with the way to get it."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.cli.task import report_task
from talkingface.errors import ConfigError, TalkingFaceError
from talkingface.packages import OPTIONAL, faults, install, installed, mend, wanted
from talkingface.plugin.registry import describe_datasets, describe_models, get_spec
from talkingface.weights.published import FILES, how_to_get, status
from talkingface.weights.runs import noted_licence

FAULTS = ("MISSING", "WRONG", "BROKEN")
"""What a line begins with that tells of something to mend; what is only absent is not needed by everybody."""


def doctor(arguments: Arguments) -> int:
    """Print the report, or that about one model on one data set; 1 where something is missing or does not fit."""
    if arguments["model"] or arguments["dataset"] or arguments["config_files"]:
        return report_task(arguments)
    if arguments.overrides:
        raise ConfigError("give --model=NAME and --dataset=NAME with configuration keys")
    text = report(arguments["weights_dir"])
    print(text)
    return 1 if any(line.strip().startswith(FAULTS) for line in text.splitlines()) else 0


def report(weights_dir: str = "checkpoints") -> str:
    """The whole report as text; never fails because something is missing."""
    parts = [("python and packages", _packages()), ("devices", _devices()), ("models", _models())]
    parts += [("weights", _weights(Path(weights_dir))), ("data sets", _datasets())]
    return "\n\n".join(f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in parts)


def _packages() -> list[str]:
    """What is installed, then what does not fit and the command that mends it."""
    packages = wanted(OPTIONAL)
    lines = [f"ok       python {platform.python_version()} ({sys.executable})"]
    for package in packages:
        if here := installed(package.name):
            lines.append(f"{'ok      ' if package.fits(here[1]) else 'WRONG   '} {' '.join(here)}")
        else:
            word = "absent  " if package.extra else "MISSING "
            lines.append(f"{word} {package.name}: {install(package.text)}")
    if found := faults(packages):
        lines += [f"WRONG    {fault.reason}" for fault in found]
        lines.append(f"run:     {mend(found)}")
    if not packages:
        lines.append("absent   ranges of the packages: install talkingface, or run it from its checkout")
    return lines


def _devices() -> list[str]:
    try:
        import torch

        from talkingface.devices import has_fast_bf16, resolve_device
    except ImportError as error:
        return [f"MISSING  torch cannot be imported: {error}"]
    lines = [f"ok       cpu, {torch.get_num_threads()} threads"]
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        lines.append(f"ok       cuda:{index} {torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
    chosen = resolve_device("auto")
    bf16 = "fast" if has_fast_bf16(chosen) else "slow, 32 is used for bf16-auto"
    return [*lines, f"ok       device=auto is {chosen}; bf16 is {bf16}"]


def _models() -> list[str]:
    lines = []
    for name in describe_models():
        try:
            get_spec(name)
            lines.append(f"ok       {name}")
        except Exception as error:  # a broken plug-in must not hide the rest of the report
            lines.append(f"BROKEN   {name}: {error}")
    return lines


def _weights(folder: Path) -> list[str]:
    """The table of `weights` in short, and published weights that were imported."""
    words = {"ok": "ok      ", "present": "ok      ", "absent": "absent  ", "unfinished": "absent  "}
    lines = []
    for file in FILES:
        found = status(file, folder)
        note = {"ok": "", "present": "; no hash to check it by", "absent": f"; {how_to_get(file.name, folder)}"}
        lines.append(
            f"{words.get(found, 'WRONG   ')} {folder / file.path} ({file.purpose}){note.get(found, f': {found}')}"
        )
    for path in sorted(folder.glob("*/imported.pt")):
        licence = noted_licence(path)
        note = f"; what is made with them is {licence}" if licence else ""
        lines.append(f"ok       {path} (published weights of {path.parent.name}, imported{note})")
    return lines


def _datasets() -> list[str]:
    from talkingface.clips.layouts import make_layout
    from talkingface.plugin.configuration import load_settings

    lines = []
    for name in describe_datasets():
        try:
            config = load_settings(dataset=name).config
            items = make_layout(config).find(config)
        except TalkingFaceError as error:
            lines.append(f"absent   {name}: {str(error).splitlines()[0]}")
            continue
        prepared = sum(1 for _ in Path(config.preprocessed_root).glob("**/clip.json"))
        lines.append(f"ok       {name}: {len(items)} videos in {config.data_root}, {prepared} preprocessed")
    return lines


DOCTOR = Command(
    line="versions, devices, weight files, data sets: what is there and what is wrong",
    options=(
        Option("weights_dir", "folder of the weight files", "checkpoints"),
        Option("model", "with --dataset: what is there and what is missing for this task, with disk and hours"),
        Option("dataset", "data set name, see `list`"),
        Option("config_files", 'more YAML files, blank-separated: "a.yaml b.yaml"'),
        HELP,
    ),
    run=doctor,
    takes_keys=True,
)
