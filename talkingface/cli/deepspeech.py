"""`convert-deepspeech`: the published graph of DeepSpeech 0.1 becomes a file for onnxruntime."""

from __future__ import annotations

from pathlib import Path

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.errors import ConfigError


def convert_deepspeech(arguments: Arguments) -> None:
    """Convert the graph; prints where the file lies.

    Raises:
        ConfigError: not one graph is named.
    """
    from talkingface.networks.deepspeech.front_ends import DeepSpeechOnnxFrontEnd
    from talkingface.networks.deepspeech.onnx_file import convert_deepspeech

    if len(arguments.words) != 1:
        raise ConfigError("`convert-deepspeech` needs the frozen graph: convert-deepspeech output_graph.pb")
    place = Path(arguments["weights_dir"]) / DeepSpeechOnnxFrontEnd.files[0]
    out = convert_deepspeech(arguments.words[0], arguments["out"] or place)
    print(f"wrote {out}; front end deepspeech_onnx reads {place}")


CONVERT_DEEPSPEECH = Command(
    line="make output_graph.pb of DeepSpeech 0.1 a file for onnxruntime",
    options=(
        Option("out", "file to write; default: DeepSpeech/output_graph.onnx below weights_dir"),
        Option("weights_dir", "folder of the weight files", "checkpoints"),
        HELP,
    ),
    run=convert_deepspeech,
    takes_words=True,
)
