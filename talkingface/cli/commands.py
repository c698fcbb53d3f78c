"""The command line. Users' errors become one line on stderr and exit code 2; heavy imports wait until needed."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Sequence

from talkingface.cli.arguments import Arguments, Option, parse, split_files
from talkingface.errors import TalkingFaceError

_HELP = Option("help", "show this help", flag=True)

_MODEL = Option("model", "model name, see `list`")

_DATASET = Option("dataset", "data set name, see `list`")

_FILES = Option("config_files", 'more YAML files, blank-separated: "a.yaml b.yaml"')

_PRINT = Option("print_config", "show every value with the file it came from, and stop", flag=True)

_CONFIGURED = (_MODEL, _DATASET, _FILES, _PRINT, _HELP)

COMMANDS: dict[str, tuple[str, tuple[Option, ...]]] = {
    "run": ("preprocess what is missing, train all stages, evaluate (the default command)", _CONFIGURED),
    "preprocess": ("make what training needs from the data set's videos", _CONFIGURED),
    "train": ("train only; preprocessing must have been done", _CONFIGURED),
    "evaluate": (
        "score a trained model on the test list, videos of another system, or the metrics themselves",
        (
            Option("checkpoint", "run folder or .pt file (also --evaluate_model_file)"),
            Option("generated", "folder of videos that another system made; needs --reference, no model"),
            Option("reference", "folder of the real videos, under the same names"),
            Option("output", "folder of the report; default: RUN/eval, without a model: evaluation"),
            Option("self_test", "check the metrics on clips of --dataset: shifted, shuffled, identical", flag=True),
            *_CONFIGURED,
        ),
    ),
    "compare": (
        "one report about several evaluated runs: compare RUN RUN ...",
        (Option("output", "folder of the report", default="comparison"), _HELP),
    ),
    "weights": (
        "published weight files: purpose, licence, source, status; --download=NAME fetches one",
        (
            Option("weights_dir", "folder of the weight files", "checkpoints"),
            Option("download", "name of the file to fetch, as listed"),
            _HELP,
        ),
    ),
    "generate": (
        "make a face speak",
        (
            _MODEL,
            Option("checkpoint", "run folder or .pt file; default: the imported published weights"),
            Option("source", "video or picture of the face", required=True),
            Option("audio", "audio or video file with the voice", required=True),
            Option("output", "video to write", default="generated.mp4"),
            Option("reference", "another video of the same person, for the identity frames"),
            _HELP,
        ),
    ),
    "demo-data": (
        "write the synthetic demo corpus",
        (
            Option("out", "folder to write to", default="dataset/demo/data"),
            Option("identities", "number of identities", 6, type=int),
            Option("clips", "clips of each identity", 7, type=int),
            Option("unseen", "further people, in unseen.txt alone", 2, type=int),
            Option("seconds", "length of a clip", 4.0, type=float),
            Option("fps", "frames per second", 25, type=float),
            Option("size", "side of the square video, pixels", 256, type=int),
            Option("seed", "everything follows from it", 7, type=int),
            Option("tts", "speech: formant, or espeak (pip install 'talkingface[demo-tts]')", "formant"),
            Option("layout", "lrs2 or flat", "lrs2"),
            Option("portraits", "folder of portraits of your own"),
            _HELP,
        ),
    ),
    "import": (
        "turn published checkpoints into ours",
        (
            _MODEL,
            Option("folder", "where the published files are", required=True),
            Option("output", "file to write; default: checkpoints/<Model>/imported.pt"),
            _HELP,
        ),
    ),
    "list": ("models, data sets and metrics, one line each", (_HELP,)),
    "doctor": (
        "versions, devices, weight files, data sets: what is there and what is wrong",
        (Option("weights_dir", "folder of the weight files", "checkpoints"), _HELP),
    ),
    "convert-data": (
        "turn data that older code has preprocessed into ours",
        (
            Option("kind", "iplap or wav2lip", required=True),
            Option("landmarks", "iplap: its landmark folder"),
            Option("faces", "its face folder"),
            Option("audio", "iplap: its audio folder"),
            Option("out", "new preprocessed_root", required=True),
            _HELP,
        ),
    ),
    "benchmark": (
        "measure data loading, training, generation and preprocessing speed",
        (
            Option("json", "also write the figures to this file"),
            Option("seconds", "time spent on each figure", 5.0, type=float),
            *_CONFIGURED,
        ),
    ),
}

_KEPT = {
    **dict.fromkeys(("run", "train"), "; what was finished is kept, --resume=auto goes on with a training run"),
    "preprocess": "; clips that were finished are kept, the same command goes on with the others",
    "weights": "; what was fetched is kept, the same command goes on with the rest",
}
"""By command, what is left after it was interrupted."""

_TAKES_KEYS = {"run", "preprocess", "train", "evaluate", "generate", "benchmark", "import"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 an error the user can mend, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    _print_any_name()
    try:
        arguments = parse(argv, {n: o for n, (_, o) in COMMANDS.items()}, "run", _TAKES_KEYS)
        if arguments["help"] or not argv:
            print(help_text(argv[0] if argv and not argv[0].startswith("-") else None))
            return 0
        _set_up_logging(str(arguments.overrides.get("log_level", "info")))
        return _HANDLERS[arguments.command](arguments) or 0
    except TalkingFaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted{_KEPT.get(_command(argv), '')}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; silence the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # torch is not imported here; its error is known by name.
        if type(error).__name__ == "OutOfMemoryError":
            print("error: the GPU memory does not suffice; use a smaller batch or --device=cpu", file=sys.stderr)
            return 2
        if not isinstance(error, OSError) or error.errno is None:
            raise
        what = f"{error.filename}: " if error.filename else ""
        print(f"error: {what}{os.strerror(error.errno)}", file=sys.stderr)
        return 2


def _command(argv: Sequence[str]) -> str:
    return argv[0] if argv and argv[0] in COMMANDS else "run"


def _print_any_name() -> None:
    """Let a file name that the terminal cannot show be printed with escapes; stderr does so anyway."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def help_text(command: str | None = None) -> str:
    """The overview, or one command's options."""
    if command is None or command not in COMMANDS:
        rows = "\n".join(f"  {name:<13} {line}" for name, (line, _) in COMMANDS.items())
        return (
            "usage: python run_talkingface.py [command] --model=NAME --dataset=NAME [--any.key=value ...]\n\n"
            f"commands:\n{rows}\n\n"
            "Any configuration key can follow, as --key=value or --key value: --stage=landmark --seed=1\n"
            "--stages.render.batch_size=4 --train=False --evaluate_model_file=FILE --resume=auto. See\n"
            "properties/overall.yaml for all keys, and `COMMAND --help` for the options of one command.\n\n"
            "try now: python run_talkingface.py --model=IPLAP --dataset=demo"
        )
    line, options = COMMANDS[command]
    rows = []
    for option in options:
        default = f" [{option.default}]" if option.default is not None and not option.flag else ""
        rows.append(f"  --{option.name + ('' if option.flag else '=...'):<20} {option.help}{default}")
    keys = (
        "\n  --any.key=value        a configuration key, see properties/overall.yaml" if command in _TAKES_KEYS else ""
    )
    return f"{command}: {line}\n\n" + "\n".join(rows) + keys


def _set_up_logging(level: str) -> None:
    logger = logging.getLogger("talkingface")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(level.upper() if level in ("debug", "info", "warning", "error") else "INFO")


def _load(arguments: Arguments, dataset: str | None = None):
    from talkingface.errors import ConfigError
    from talkingface.plugin.configuration import load_config

    model, dataset = arguments["model"], arguments.options.get("dataset") or dataset
    if not model or not dataset:
        missing = " and ".join(f"--{n}=NAME" for n, v in (("model", model), ("dataset", dataset)) if not v)
        raise ConfigError(f"give {missing}; `python run_talkingface.py list` shows the names")
    return load_config(model, dataset, split_files(arguments["config_files"]), arguments.overrides)


def _configured(action: str, *options: str) -> Callable[[Arguments], int]:
    """Handler of a command that runs on a configuration; `options` of the command line are passed on by name."""

    def handle(arguments: Arguments) -> int:
        if arguments.options.get("checkpoint"):
            arguments.overrides["evaluate_model_file"] = arguments["checkpoint"]
        loaded = _load(arguments)
        if arguments["print_config"]:
            print(loaded.to_yaml(with_origins=True))
            return 0
        from talkingface import workflow as runner

        return getattr(runner, action)(loaded, **{name: arguments[name] for name in options})

    return handle


def _evaluate(arguments: Arguments) -> int:
    output = arguments["output"] or "evaluation"
    if arguments["generated"] or arguments["reference"]:
        from talkingface.cli.evaluate import evaluate_folders

        return evaluate_folders(arguments["generated"], arguments["reference"], output, arguments)
    if arguments["self_test"]:
        from talkingface.cli.evaluate import run_self_test

        return run_self_test(arguments["dataset"], output, arguments)
    return _configured("evaluate", "output")(arguments)


def _compare(arguments: Arguments) -> int:
    from talkingface.evaluation.report.compare import compare_runs

    return compare_runs(arguments.words, arguments["output"])


def _weights(arguments: Arguments) -> int:
    from talkingface.cli.weights import command

    return command(arguments["weights_dir"], arguments["download"])


def _generate(arguments: Arguments) -> int:
    from talkingface.devices import limit_threads
    from talkingface.pipeline import Pipeline

    overrides = {key: value for key, value in arguments.overrides.items() if key != "log_level"}
    device = str(overrides.pop("device", "auto"))
    pipeline = Pipeline.from_checkpoint(arguments["model"], arguments["checkpoint"], device, overrides)
    limit_threads(overrides.get("threads"))  # checked with the other keys
    shown = overrides.get("show_progress") is not False
    output = pipeline(
        arguments["source"], arguments["audio"], arguments["output"], reference=arguments["reference"], progress=shown
    )
    print(f"wrote {output}")
    return 0


def _demo_data(arguments: Arguments) -> int:
    from talkingface.workflow import demo_data

    options = {k: v for k, v in arguments.options.items() if k not in ("help", "out")}
    return demo_data(arguments["out"], **options)


def _import(arguments: Arguments) -> int:
    from talkingface.workflow import import_checkpoints

    return import_checkpoints(arguments["model"], arguments["folder"], arguments["output"], arguments.overrides)


def _list(_: Arguments) -> int:
    from talkingface.plugin.metrics import METRICS
    from talkingface.plugin.registry import describe_datasets, describe_models

    metrics = {name: entry.line for name, entry in METRICS.items()}
    for title, rows in (("models", describe_models()), ("data sets", describe_datasets()), ("metrics", metrics)):
        print(title)
        for name, line in rows.items():
            print(f"  {name:<16} {line}")
    return 0


def _doctor(arguments: Arguments) -> int:
    from talkingface.cli.doctor import report

    print(report(arguments["weights_dir"]))
    return 0


def _convert_data(arguments: Arguments) -> int:
    from talkingface.preprocess.convert import convert_legacy

    roots = {name: arguments[name] for name in ("landmarks", "faces", "audio") if arguments[name]}
    print(convert_legacy(arguments["kind"], roots, arguments["out"]).table())
    return 0


def _benchmark(arguments: Arguments) -> int:
    loaded = _load(arguments, dataset="demo")
    if arguments["print_config"]:
        print(loaded.to_yaml(with_origins=True))
        return 0
    from talkingface.benchmark.speed import benchmark
    from talkingface.devices import limit_threads

    limit_threads(loaded.config.threads)
    return benchmark(loaded, json_file=arguments["json"], seconds=float(arguments["seconds"]))


_HANDLERS: dict[str, Callable[[Arguments], int]] = {
    "run": _configured("run_all"),
    "preprocess": _configured("preprocess"),
    "train": _configured("train"),
    "evaluate": _evaluate,
    "compare": _compare,
    "weights": _weights,
    "generate": _generate,
    "demo-data": _demo_data,
    "import": _import,
    "list": _list,
    "doctor": _doctor,
    "convert-data": _convert_data,
    "benchmark": _benchmark,
}
