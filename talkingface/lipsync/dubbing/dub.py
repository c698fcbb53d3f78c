"""`dub`: the call of LawDNet's earlier inference script, on top of the pipeline; DINet's files do as well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from talkingface.errors import CheckpointError, ConfigError
from talkingface.files import writable_folder
from talkingface.lipsync.dubbing.networks import DubbingNetworks
from talkingface.networks.deepspeech.onnx_file import convert_deepspeech
from talkingface.networks.dubbing.geometry import MouthCrop, mouth_crop
from talkingface.pipeline import Pipeline
from talkingface.plugin.configuration import from_plain
from talkingface.plugin.importing import import_checkpoints
from talkingface.plugin.registry import get_spec
from talkingface.sound.front_ends import front_end_kind
from talkingface.weights.checkpoint import CheckpointContent, find_checkpoint, read

AnyPath = str | PathLike[str]

_HEARD = "audio.generator_features"
_ONNX, _TENSORFLOW, _SECOND = "deepspeech_onnx", "deepspeech_tf", "deepspeech2"


def dub(
    video_path: AnyPath,
    audio_path: AnyPath,
    output_dir: AnyPath,
    deepspeech_model_path: AnyPath | None,
    lawdnet_model_path: AnyPath,
    BatchSize: int = 20,
    mouthsize: int | str = 288,
    gpu_index: int = 0,
    output_name: str = "dubbed",
    start_time_sec: float = 0.0,
    max_frames: int | None = None,
    dp2_path: AnyPath | None = None,
) -> Path:
    """Make the face in a video speak; names and order of the arguments are those of the earlier script.

    Args:
        video_path: video or picture of the face. Where the sound lasts longer it is played to and fro.
        audio_path: any file with sound, of any rate; nothing is written to it.
        output_dir: folder of the result; made where it is missing.
        deepspeech_model_path: `output_graph.pb`, or what `convert-deepspeech` made of it. None: a checkpoint of ours
            that hears something else.
        lawdnet_model_path: a published file or one of its users' own, of LawDNet or DINet; or a checkpoint, run or
            published folder of ours.
        BatchSize: frames per pass.
        mouthsize: side in pixels of the mouths that the weights draw; 256 for DINet's published file.
        gpu_index: which GPU; on a machine without one, and for -1, the CPU.
        output_name: last part of the name of the result.
        start_time_sec: where in the video to begin.
        max_frames: frames to make at most; None: as many as the sound lasts.
        dp2_path: `LibriSpeech_Pretrained_v3.ckpt`, for weights that hear DeepSpeech 2; `deepspeech_model_path` is then
            not read.

    Returns:
        The video, `<output_dir>/<time>_<video>_<output_name>.mp4`.

    Raises:
        ConfigError: an argument that is none, or files that do not go together.
        CheckpointError: weights that are missing or others.
        MediaError, NoFaceError, OutputError: see `Pipeline`.
    """
    crop = _crop(mouthsize)
    _check(BatchSize, start_time_sec, max_frames, output_name)
    device = f"cuda:{gpu_index}" if gpu_index >= 0 and torch.cuda.is_available() else "cpu"
    name = f"{datetime.now():%Y%m%d-%H%M%S-%f}_{Path(video_path).stem}_{output_name}.mp4"
    output = writable_folder(output_dir) / name
    settings = {"model.crop.width": crop.width, "model.inference.batch": BatchSize}
    with TemporaryDirectory(prefix="talkingface-", ignore_cleanup_errors=True) as scratch:
        weights = _weights(Path(lawdnet_model_path), deepspeech_model_path, dp2_path, settings, Path(scratch))
        files = {"front_end_files": weights.front_end_files}
        pipeline = Pipeline.from_checkpoint(None, weights.path, device, settings, **files)
        drawn = pipeline.model.drawn.mouth
        if drawn != crop.mouth:
            raise ConfigError(f"{lawdnet_model_path}: draws mouths of {drawn} pixels; set mouthsize={drawn}")
        return pipeline(video_path, audio_path, output, start=start_time_sec, most_frames=max_frames)


def _crop(mouthsize: int | str) -> MouthCrop:
    """The crop of a size that may be written as text.

    Raises:
        ConfigError: it is none.
    """
    try:
        return mouth_crop(int(mouthsize))
    except ValueError as error:
        raise ConfigError(f"mouthsize={mouthsize}: {error}") from None


def _check(batch: int, start: float, frames: int | None, name: str) -> None:
    """Refuse arguments that mean nothing.

    Raises:
        ConfigError: with the first of them.
    """
    if batch < 1:
        raise ConfigError(f"BatchSize={batch}: must be 1 or more")
    if not 0 <= start < float("inf"):
        raise ConfigError(f"start_time_sec={start}: must be 0 or more")
    if frames is not None and frames < 1:
        raise ConfigError(f"max_frames={frames}: must be 1 or more, or None for all")
    if not name or Path(name).name != name:
        raise ConfigError(f"output_name={name!r}: must be a part of a file name, without folders")


class _Weights(NamedTuple):
    """A checkpoint of ours, and where the file of its front end lies."""

    path: Path
    front_end_files: dict[str, Path]


def _weights(
    given: Path, deepspeech: AnyPath | None, second: AnyPath | None, settings: Mapping[str, Any], scratch: Path
) -> _Weights:
    """What was given as weights, as a checkpoint of ours; what must be written goes into `scratch`.

    Raises:
        CheckpointError: a file is missing or another one.
        ConfigError: the files do not go together.
    """
    path = find_checkpoint(given)
    content = read(path)
    ours = CheckpointContent.recognise(content)
    if ours is not None:
        heard = _hears(ours, path)
        file = _known_file(heard, deepspeech, second, path)
    else:
        if deepspeech is None and second is None:
            raise ConfigError(f"{path}: nothing in it tells what it hears; give deepspeech_model_path or dp2_path")
        heard, file = (_SECOND, second) if second is not None else (_ONNX, deepspeech)
        keys = {**settings, f"model.{_HEARD}": heard}
        use = {"generator": str(path)}
        path = import_checkpoints(_published_model(content), None, str(scratch / "imported.pt"), keys, use).path
    if file is None:
        return _Weights(path, {})
    [name] = front_end_kind(heard).files
    return _Weights(path, {name: _readable(heard, Path(file), scratch)})


def _hears(ours: CheckpointContent, path: Path) -> str:
    """Name of the front end that a checkpoint of ours hears with.

    Raises:
        CheckpointError: it is of a model of another kind.
    """
    if not issubclass(get_spec(ours.model).model, DubbingNetworks):
        raise CheckpointError(f"{path}: is of {ours.model}; dub() is for LawDNet and DINet, `generate` for all models")
    return from_plain(ours.config, {}, str(path)).model.audio.generator_features.name


def _known_file(heard: str, deepspeech: AnyPath | None, second: AnyPath | None, path: Path) -> AnyPath | None:
    """Which of the files a checkpoint of ours needs; None: what lies below its `weights_dir`, or nothing.

    Raises:
        ConfigError: files for something else than it hears.
    """
    if heard == _SECOND:
        return second
    others = {"dp2_path": second} | ({} if heard in (_ONNX, _TENSORFLOW) else {"deepspeech_model_path": deepspeech})
    for name, value in others.items():
        if value is not None:
            raise ConfigError(f"{path}: hears {heard}, so it has no use for {name}; set it to None")
    return deepspeech


def _published_model(content: Any) -> str:
    """Whose published file was read: that of DINet has AdaAT."""
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    network = state.get("net_g") if isinstance(state, Mapping) else None
    keys = network if isinstance(network, Mapping) else {}
    return "DINet" if any("adaAT." in str(key) for key in keys) else "LawDNet"


def _readable(heard: str, file: Path, scratch: Path) -> Path:
    """A file that the front end `heard` reads; a frozen graph is converted first.

    Raises:
        CheckpointError: it is missing, or not what it should be.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; {heard} needs it")
    if heard == _ONNX and file.suffix != ".onnx":
        return convert_deepspeech(file, scratch / "output_graph.onnx")
    return file
