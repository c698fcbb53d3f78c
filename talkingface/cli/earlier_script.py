"""Options of DINet's and LawDNet's `data_processing.py`, which `preprocess` understands as well.

What each of them made is an artefact here: sound, features, crops. Frames are not written, since they are streamed from
the videos; the training JSON, and the crops that it names, are an export of prepared clips.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.cli.arguments import Arguments, Option
from talkingface.errors import ConfigError

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.preprocess.report import Report

log = logging.getLogger("talkingface")

_FRAMES = ("extract_video_frame", "extract_video_frame_multithreading")
_STEPS = {
    "extract_audio": "audio",
    "extract_deep_speech": "features",
    "extract_deep_speech_multithreading": "features",
    "crop_face": "aligned",
    "crop_face_multithreading": "aligned",
}
_JSON = "generate_training_json"
_WRITTEN = {"crop_face_dir": "crop_face", "audio_dir": "audio", "deep_speech_dir": "deepspeech", "json_path": "json"}
_OUT = "asserts/training_data"

OPTIONS = (
    *(Option(name, "of data_processing.py: nothing, frames are streamed", flag=True) for name in _FRAMES),
    *(Option(name, f"of data_processing.py: make {step}", flag=True) for name, step in _STEPS.items()),
    Option(
        _JSON, "of data_processing.py: write crops, features and the training JSON for the published code", flag=True
    ),
    Option("source_video_dir", "of data_processing.py: the videos; --data_root"),
    Option("openface_landmark_dir", "of data_processing.py: <video>.csv of OpenFace; --landmarks_root"),
    Option("video_frame_dir", "of data_processing.py: nothing, frames are streamed"),
    Option("deep_speech_model", "of data_processing.py: output_graph.pb, hear with front end deepspeech_onnx"),
    *(Option(name, f"of data_processing.py: where --{_JSON} writes the {what}") for name, what in _WRITTEN.items()),
    Option("clip_length", "of data_processing.py: frames of a clip, 9", type=int),
)


def is_asked(arguments: Arguments) -> bool:
    """Whether the command line has a step of the earlier script."""
    return any(arguments[name] for name in (*_FRAMES, *_STEPS, _JSON))


def check_alone(arguments: Arguments) -> None:
    """See that no folder of the earlier script is named without one of its steps.

    Raises:
        ConfigError: one is.
    """
    given = [option.name for option in OPTIONS if arguments[option.name]]
    if given and not is_asked(arguments):
        raise ConfigError(f"--{given[0]} goes with a step of data_processing.py, say --crop_face")


def translated(arguments: Arguments) -> tuple[Arguments, list[str]]:
    """The command line in our words, and the artefacts to be made.

    Raises:
        ConfigError: clips of another length, or the graph of DeepSpeech is not converted yet.
    """
    if arguments["clip_length"] not in (None, 9):
        raise ConfigError(f"--clip_length={arguments['clip_length']}: clips have 9 frames, as published")
    if any(arguments[name] for name in _FRAMES) or arguments["video_frame_dir"]:
        log.info("frames are streamed from the videos; no folder of pictures is written, or needed")
    named = {"data_root": arguments["source_video_dir"], "landmarks_root": arguments["openface_landmark_dir"]}
    own = {key: value for key, value in named.items() if value} | _heard(arguments)
    options = {
        **arguments.options,
        "model": arguments["model"] or "LawDNet",
        "dataset": arguments["dataset"] or "folder",
    }
    only = dict.fromkeys(step for name, step in _STEPS.items() if arguments[name])
    return replace(arguments, options=options, overrides={**own, **arguments.overrides}), list(only)


def _heard(arguments: Arguments) -> dict[str, str]:
    """The front end, where the graph of DeepSpeech is named."""
    graph = arguments["deep_speech_model"]
    if not graph:
        return {}
    from talkingface.networks.deepspeech.front_ends import DeepSpeechOnnxFrontEnd

    place = Path(arguments.overrides.get("weights_dir", "checkpoints")) / DeepSpeechOnnxFrontEnd.files[0]
    if not place.is_file():
        raise ConfigError(
            f"--deep_speech_model={graph}: convert it first: python run_talkingface.py convert-deepspeech {graph}"
        )
    return {"model.audio.generator_features": DeepSpeechOnnxFrontEnd.name}


def export(arguments: Arguments, config: Config) -> Report | None:
    """Write the published layout of the prepared clips, where it is asked for."""
    if not arguments[_JSON]:
        return None
    from talkingface.lipsync.dubbing.config import DubbingDataConfig
    from talkingface.preprocess.export_dubbing import LIST, export_dubbing

    places = {what: Path(arguments[name]) for name, what in _WRITTEN.items() if arguments[name]}
    if "json" in places:
        places[LIST] = places.pop("json")
    if "deepspeech" in places:  # as the published scripts call the folder of the second recogniser
        places["deepspeech_2"] = places["deepspeech"].with_name(f"{places['deepspeech'].name}_2")
    # Of a model that has no such crops, those of the model that these options stand for, LawDNet.
    crop = config.model.crop.artefact if isinstance(config.model, DubbingDataConfig) else "frontal"
    return export_dubbing(config.preprocessed_root, _OUT, crop, places=places)
