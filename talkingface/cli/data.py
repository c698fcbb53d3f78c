"""`demo-data` and `convert-data`: data sets that nobody has to download or prepare."""

from __future__ import annotations

from talkingface.cli.arguments import HELP, Arguments, Command, Option


def demo_data(arguments: Arguments) -> None:
    """Write the synthetic corpus; prints where it lies and how it is split."""
    from talkingface.config.sections import DemoConfig
    from talkingface.demo.corpus import make_corpus
    from talkingface.plugin.configuration import load_settings

    keys = {f"demo.{name}": arguments[name] for name in DemoConfig.model_fields}
    demo = load_settings(overrides=keys).config.demo
    print(make_corpus(arguments["out"], demo, fps=arguments["fps"], layout=arguments["layout"]))


def convert_data(arguments: Arguments) -> None:
    """Turn the folders of an older toolkit into ours; prints the table of clips."""
    from talkingface.preprocess.convert import convert_legacy

    roots = {name: arguments[name] for name in ("landmarks", "faces", "audio") if arguments[name]}
    print(convert_legacy(arguments["kind"], roots, arguments["out"], size=arguments["size"]).table())


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
        Option("kind", "iplap, wav2lip (also the imgs of HyperLips), or a converter of your own", required=True),
        Option("landmarks", "iplap: its landmark folder"),
        Option("faces", "its face folder"),
        Option("audio", "iplap: its audio folder"),
        Option("size", "wav2lip: side of the face crops in pixels", 96, type=int),
        Option("out", "new preprocessed_root", required=True),
        HELP,
    ),
    run=convert_data,
)
