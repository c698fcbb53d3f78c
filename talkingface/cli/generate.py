"""`generate`: a face and a voice become a video."""

from __future__ import annotations

from dataclasses import replace

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.cli.configuration import MODEL
from talkingface.errors import ConfigError

CLOSE_MOUTH = "close_input_face_mouth"


def generate(arguments: Arguments) -> None:
    """Make the video with the weights of a run, or with the imported published ones."""
    from talkingface.devices import allow_tf32, limit_threads
    from talkingface.pipeline import Pipeline

    overrides = {key: value for key, value in arguments.overrides.items() if key != "log_level"}
    overrides |= {CLOSE_MOUTH: True} if arguments[CLOSE_MOUTH] else {}
    device = str(overrides.pop("device", "auto"))
    if arguments["onnx"] and arguments["backend"] != "onnx":
        raise ConfigError("--onnx=DIR goes with --backend=onnx")
    where = (arguments["backend"], arguments["onnx"])
    pipeline = Pipeline.from_checkpoint(arguments["model"], arguments["checkpoint"], device, overrides, *where)
    limit_threads(overrides.get("threads"))  # checked with the other keys
    allow_tf32(overrides.get("tf32"))
    output = pipeline(
        arguments["source"],
        arguments["audio"],
        arguments["output"],
        reference=arguments["reference"],
        landmarks=arguments["landmarks"],
        visible_mark=bool(arguments["visible_mark"]),
        background=arguments["background"],
        progress=overrides.get("show_progress") is not False,
    )
    print(f"wrote {output}")


GENERATE = Command(
    line="make a face speak",
    options=(
        replace(MODEL, required=True),
        Option(
            "checkpoint",
            "run folder, .pt or .safetensors file, published folder or hub:USER/NAME; default: imported weights",
        ),
        Option("source", "video or picture of the face", required=True, also=("jpg",)),
        Option("audio", "audio or video file with the voice", required=True),
        Option("output", "video to write; a name without suffix: a folder of PNG pictures", default="generated.mp4"),
        Option("reference", "another video of the same person, for the identity frames"),
        Option("landmarks", "landmark file of the source (CSV, see docs/data_layout.md), used instead of a detector"),
        Option("visible_mark", "write SYNTHETIC into the frames; the metadata say it in any case", flag=True),
        Option(
            "background",
            "behind a transparent source: white, transparent (.mov, PNG folder), or a picture",
            also=("jpg_bg",),
        ),
        # Flags of MakeItTalk's published scripts; the second tells what the files of a puppet say themselves.
        Option(CLOSE_MOUTH, "close the open mouth of a portrait: --model.inference.close_input_mouth=true", flag=True),
        Option("inner_lip", "not needed: the files of a puppet tell which lips they have", flag=True),
        Option("backend", "torch, or onnx: run what `export --format=onnx` wrote", default="torch"),
        Option("onnx", "folder of these files; default: `onnx` beside the checkpoint"),
        HELP,
    ),
    run=generate,
    takes_keys=True,
)
