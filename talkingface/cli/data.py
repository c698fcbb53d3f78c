"""`demo-data` and `convert-data`: data sets that nobody has to download or prepare."""

from __future__ import annotations

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.errors import ConfigError


def demo_data(arguments: Arguments) -> None:
    """Write the synthetic corpus; prints where it lies and how it is split."""
    from talkingface.config.sections import DemoConfig
    from talkingface.demo.corpus import make_corpus
    from talkingface.plugin.configuration import load_settings

    keys = {f"demo.{name}": arguments[name] for name in DemoConfig.model_fields}
    demo = load_settings(overrides=keys).config.demo
    print(make_corpus(arguments["out"], demo, fps=arguments["fps"], layout=arguments["layout"]))


def convert_data(arguments: Arguments) -> None:
    """Turn the folders of an older toolkit into ours, or ours into those; prints the table of clips."""
    from talkingface.preprocess.convert import convert_legacy, export_clips

    if arguments["export"]:
        if len(arguments["root"] or ()) != 1:
            raise ConfigError("--export needs one --root=FOLDER, the preprocessed_root of prepared clips")
        print(export_clips(arguments["kind"], arguments["root"][0], arguments["export"]).table())
        return
    roots = {name: arguments[name] for name in ("root", "landmarks", "faces", "audio") if arguments[name]}
    options = {name: arguments[name] for name in ("size", "hr_size", "width", "features")} | {
        "prefix": arguments["prefix"] or ""
    }
    print(convert_legacy(arguments["kind"], roots, arguments["out"], **options).table())


DEMO_DATA = Command(
    line="write the synthetic demo corpus",
    options=(
        Option("out", "folder to write to", default="dataset/demo/data"),
        Option("identities", "number of identities", 6, type=int),
        Option("clips", "clips of each identity", 7, type=int),
        Option("unseen", "further people, in unseen.txt alone", 2, type=int),
        Option("seconds", "length of a clip", 4.0, type=float),
        Option("fps", "frames per second", 25, type=float),
        Option("size", "side of the square video, pixels", 256, type=int),
        Option("seed", "everything follows from it", 7, type=int),
        Option("tts", "speech: formant, or espeak (needs the package espeakng-loader)", "formant"),
        Option("layout", "lrs2 or flat", "lrs2"),
        Option("portraits", "folder of portraits of your own"),
        HELP,
    ),
    run=demo_data,
)

CONVERT_DATA = Command(
    line="turn data that older code has preprocessed into ours",
    options=(
        Option(
            "kind", "dinet, hyperlips, iplap, lawdnet, makeittalk, wav2lip, or a converter of your own", required=True
        ),
        Option(
            "root",
            "hyperlips: its preprocessed_data; makeittalk: the folder of dumps; dinet, lawdnet: the folder of"
            " asserts/training_data, several are merged; with --export: a preprocessed_root",
            repeated=True,
        ),
        Option("landmarks", "iplap: its landmark folder"),
        Option("faces", "iplap, wav2lip: its face folder"),
        Option("audio", "iplap: its audio folder"),
        Option("size", "wav2lip: side of the face crops in pixels", 96, type=int),
        Option("hr_size", "hyperlips: side of what HR learns to draw, 128, 256 or 512; default: the nearest", type=int),
        Option("width", "dinet, lawdnet: width of the crops in pixels, 1.25 times that of the mouth", 360, type=int),
        Option("features", "dinet, lawdnet: front end that gave <video>_deepspeech.txt", "deepspeech_onnx"),
        Option("out", "new preprocessed_root; hyperlips may leave it out: --root"),
        Option("prefix", "makeittalk: what the names of the dumps begin with, where there are several families"),
        Option(
            "export",
            "dinet, hyperlips, lawdnet, makeittalk: write the clips of --root to this folder, in its own layout",
        ),
        HELP,
    ),
    run=convert_data,
)
