"""A trained lip-sync expert as a judge: where it comes from, how good it is, and what it thinks of a clip.

Whoever was trained to please an expert pleases it: such a judge is marked, by its weights and not by its path.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError

from talkingface.errors import CheckpointError, DataError, Unavailable, first_line
from talkingface.faces.crop import CropConfig, crop_face, face_boxes
from talkingface.lipsync.expert.data import sync_starts
from talkingface.lipsync.expert.embedding import ClipEmbeddings, embed_clip
from talkingface.lipsync.expert.inputs import CROP, MEL_CONFIG, PUBLISHED_CROP
from talkingface.networks.sync_expert import FRAMES, SIZES, SyncExpert
from talkingface.sound import SAMPLE_RATE
from talkingface.sound.mel import melspectrogram
from talkingface.stored.jsons import parse_json
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import IMPORTED, CheckpointContent
from talkingface.weights.hashes import weights_hash as state_hash
from talkingface.weights.published import FILES, is_published, locate, sha256_of
from talkingface.weights.runs import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from talkingface.faces.track import LandmarkTrack
    from talkingface.plugin.contract import TalkingFaceModel

EXPERT = "sync_expert"
FEWEST = 4  # channels of a layer, however small the width; see `blocks.scaled`


@dataclass(frozen=True)
class Judge:
    """A lip-sync expert in eval mode.

    Attributes:
        network: the expert.
        crop: how faces are cut out for it; its size is that of the network.
        run: the run, checkpoint or published file that it comes from.
        accuracy: balanced accuracy on held-out clips in its own run, None where that is not known.
        sha256: of the weights, whatever file they came in; see `weights_hash`.
        file: where it was read from; None for a network of a model.
    """

    network: SyncExpert
    crop: CropConfig
    run: str
    accuracy: float | None
    sha256: str
    file: Path | None = None

    def describe(self) -> dict[str, Any]:
        """For reports."""
        accuracy = None if self.accuracy is None else round(self.accuracy, 4)
        return {"run": self.run, "accuracy": accuracy, "sha256": self.sha256}

    def lower_halves(self, frames: Iterable[np.ndarray], track: LandmarkTrack) -> np.ndarray:
        """What `cut` gives, of the whole video at once: (F, S/2, S, 3)."""
        size = self.crop.size
        halves = np.empty((len(track), size - size // 2, size, 3), np.uint8)
        count = 0
        for half in self.cut(frames, track):
            halves[count] = half
            count += 1
        return halves[:count]

    def cut(self, frames: Iterable[np.ndarray], track: LandmarkTrack) -> Iterator[np.ndarray]:
        """Lower halves of the faces of a video, cut at landmarks while the frames arrive.

        Args:
            frames: (H, W, 3) uint8 RGB.
            track: landmarks of these frames, or of a video with the same face in the same place.

        Yields:
            (S/2, S, 3) uint8 RGB up to the end of the shorter of the two; black where there is no face.

        Raises:
            DataError: frames and landmarks are of different size.
        """
        size, boxes = self.crop.size, face_boxes(track.points_px, track.size, self.crop)
        blank = np.zeros((size - size // 2, size, 3), np.uint8)
        for frame, box, valid in zip(frames, boxes, track.valid, strict=False):
            check_size(frame, track)
            yield crop_face(frame, box, size)[size // 2 :] if valid else blank

    def embed(
        self, halves: Iterable[np.ndarray], valid: np.ndarray, audio: np.ndarray, fps: float = 25.0, batch: int = 64
    ) -> ClipEmbeddings:
        """Embeddings of all windows of a clip, each once.

        Args:
            halves: F of `cut`, read once.
            valid: (F,) bool, frames with a face.
            audio: (n,) mono 16 kHz.
            fps: frame rate.
            batch: windows per pass; no effect on the result.

        Raises:
            DataError: no window of five frames has a face and sound throughout.
        """
        if len(audio) <= MEL_CONFIG.n_fft // 2:
            raise DataError(f"{len(audio) / SAMPLE_RATE:.2f} s of sound are too short")
        mel = melspectrogram(audio, MEL_CONFIG)
        clip = embed_clip(self.network, halves, mel, sync_starts(valid, mel.shape[1], fps), fps, batch)
        if not len(clip.starts):
            raise DataError(f"no {FRAMES} consecutive frames with a face and sound")
        return clip


def check_size(frame: np.ndarray, track: LandmarkTrack) -> None:
    """See that a frame (H, W, 3) is one of those in which landmarks were found.

    Raises:
        DataError: it has another size.
    """
    # Encoders add a column or a row to odd sizes.
    if any(not 0 <= have - want <= want % 2 for have, want in zip(frame.shape, track.size, strict=False)):
        sizes = [f"{width}x{height}" for height, width in (frame.shape[:2], track.size)]
        raise DataError(f"frames of {sizes[0]}, but landmarks of {sizes[1]}")


def find_judge(
    setting: str,
    saved_dir: str | Path,
    dataset: str,
    weights_dir: str | Path,
    device: str,
    own: Callable[[], Judge | None] = lambda: None,
    load: Callable[[str | Path], Judge] | None = None,
) -> Judge:
    """The judge that `evaluation.judge` means.

    Args:
        setting: `none`, the path of a run, checkpoint or published file, or `auto`: the latest finished run on this
            data set that ended with a trained expert (one of cosines before others), else `own`.
        saved_dir: folder of runs.
        dataset: name of the data set; empty: any.
        weights_dir: where a path is also looked for.
        device: where it computes.
        own: gives the expert that the evaluated model was trained with, None without one that learnt anything; asked
            where no other serves, for what it hears with may be missing.
        load: makes a judge of a path, of either kind; None: only those of cosines, see `load_judge`.

    Raises:
        Unavailable: there is none, or `own` cannot hear.
        CheckpointError: the path names nothing usable.
    """
    if setting == "none":
        raise Unavailable("switched off by evaluation.judge=none")
    kinds = (True,) if load is None else (True, False)
    load = load or (lambda path: load_judge(path, device))
    if setting != "auto":
        inside = Path(weights_dir) / setting
        return load(inside if not Path(setting).exists() and inside.exists() else setting)
    run = next(filter(None, (latest_expert_run(saved_dir, dataset, cosine) for cosine in kinds)), None)
    if run is not None:
        return load(run)
    if (judge := own()) is not None:
        return judge
    raise Unavailable(
        f"no trained lip-sync expert in {saved_dir}; train one with `python run_talkingface.py --model=SyncNet"
        f" --dataset={dataset or 'NAME'}`, or name one with --evaluation.judge=PATH"
    )


def latest_expert_run(saved_dir: str | Path, dataset: str, cosine: bool = True) -> Path | None:
    """The latest finished run on a data set (empty: on any) whose last stage trained an expert, None without one.

    A run that trains an expert first and then a generator to please it is none: such an expert is a loss, and its
    verdict on that generator no evidence.

    Args:
        saved_dir: folder of runs.
        dataset: its name.
        cosine: of experts that compare by a cosine, else of those of DINet's kind.
    """
    records = [file for file in Path(saved_dir).glob("*/*/run.json") if RunFolder(file.parent).status == "finished"]
    for file in sorted(records, key=lambda file: file.stat().st_mtime, reverse=True):
        if _ended_with_an_expert(file.parent, dataset, cosine):
            return file.parent
    return None


def _ended_with_an_expert(run: Path, dataset: str, cosine: bool) -> bool:
    try:
        content = CheckpointContent.recognise(checkpoint.read(checkpoint.find_checkpoint(run), mapped=True))
    except CheckpointError:
        return False
    if content is None or EXPERT not in content.trained:
        return False
    if is_no_cosine(content.networks.get(EXPERT, {})) == cosine:
        return False
    # Runs lie in <Model>-<dataset>/; both names may have a hyphen of their own.
    return not dataset or run.parent.name == f"{content.model}-{dataset}"


def is_no_cosine(state: Mapping[str, Any]) -> bool:
    """Whether the entries are those of an expert of DINet's kind, which compares by a network."""
    return any(key.startswith("merge_encoder.") for key in state)


class ExpertFile(NamedTuple):
    """A file with a lip-sync expert: the checkpoint, where it is one of ours, and the expert's entries."""

    path: Path
    content: CheckpointContent | None
    state: dict[str, Tensor]

    @classmethod
    def read(cls, path: str | Path) -> ExpertFile:
        """Read a run folder, a checkpoint or a published file.

        Raises:
            CheckpointError: missing, damaged, or without a trained expert.
        """
        file = checkpoint.find_checkpoint(path)
        data = checkpoint.read(file)
        ours = CheckpointContent.recognise(data)
        if ours is not None and EXPERT not in ours.networks:
            raise CheckpointError(f"{file}: a checkpoint of {ours.model}, which holds no lip-sync expert")
        if ours is not None and EXPERT not in ours.ready:
            raise CheckpointError(f"{file}: its lip-sync expert was never trained; name one that was")
        found = ours.networks[EXPERT] if ours else data.get("state_dict", data) if isinstance(data, dict) else None
        # DINet's file keeps it one level further down.
        found = found.get("net", found) if isinstance(found, dict) else found
        state = checkpoint.named_tensors(found, file, "a lip-sync expert")
        return cls(file, ours, {key.removeprefix("module."): value for key, value in state.items()})

    @property
    def accuracy(self) -> float | None:
        """On held-out clips, in the run that the file belongs to; None where that is not known."""
        return _held_out_accuracy(self.path, self.content) if self.content else None


def load_judge(path: str | Path, device: str = "cpu") -> Judge:
    """Load a judge that compares by a cosine.

    Args:
        path: run folder or `.pt` file of SyncNet or of another model with a `sync_expert`, or a published expert
            (`lipsync_expert.pth`, `pretrain_sync_expert.pth`; its form is seen from the shapes).
        device: where it computes.

    Raises:
        CheckpointError: missing, damaged, or without a trained expert.
    """
    file = ExpertFile.read(path)
    network = _shaped_like(file.state, file.path)
    checkpoint.load_state(network, file.state, str(file.path))
    crop = _recorded_crop(file.content, file.path) if file.content else PUBLISHED_CROP
    return Judge(
        network.requires_grad_(False).eval().to(device),
        _crop_for(network, crop),
        str(path),
        file.accuracy,
        weights_hash(network),
        file.path,
    )


def loss_judge(model: TalkingFaceModel | None) -> Judge | None:
    """The expert that a loss of `model` asks, as a judge; None without one that learnt anything."""
    names = [name for name in getattr(model, "loss_experts", ()) if isinstance(getattr(model, name, None), SyncExpert)]
    return inner_judge(model, names[0]) if names and is_trained(model, names[0]) else None


def inner_judge(model: TalkingFaceModel, name: str = EXPERT) -> Judge:
    """A network of `model` as a judge, in the mode it is in."""
    network = getattr(model, name)
    crop = _crop_for(network, getattr(model.config, "crop", CROP))
    return Judge(network, crop, f"{type(model).__name__}.{name}", None, weights_hash(network))


def loss_experts(model: TalkingFaceModel | None) -> list[nn.Module]:
    """The experts of either kind that a loss of `model` asks."""
    found = (getattr(model, name, None) for name in getattr(model, "loss_experts", ()))
    return [network for network in found if hasattr(network, "embed_faces")]


def is_trained(model: TalkingFaceModel, name: str) -> bool:
    """Whether a network of a model has learnt: it is ready, or its batch norms have averages, which begin at zero.

    Stages that need it no longer save it along without calling it ready.
    """
    if name in getattr(model, "ready", ()):
        return True
    state = getattr(model, name).state_dict()
    averages = [value for key, value in state.items() if key.endswith("running_mean")]
    return any(bool(value.any()) for value in averages)


def trained_against(
    judge: Judge, model: TalkingFaceModel | None, model_file: str | Path | None, weights_dir: str | Path
) -> bool:
    """Whether a model learnt to please a judge.

    Args:
        judge: the judge.
        model: the model with its weights; None: not known.
        model_file: the checkpoint they came from. Imported weights were trained by their authors, against the published
            experts of the model.
        weights_dir: where published files lie.
    """
    if any(weights_hash(own) == judge.sha256 for own in loss_experts(model)):
        return True
    if model_file is not None and _judged_a_loan(judge, model, checkpoint.load(model_file).config):
        return True
    asked = getattr(model, "loss_experts", ())
    files = [official.file for official in getattr(model, "official", ()) if official.network in asked]
    published = any(_is_published_expert(judge, file, weights_dir) for file in files)
    return published and model_file is not None and checkpoint.load(model_file).stage == IMPORTED


def _judged_a_loan(judge: Judge, model: TalkingFaceModel | None, config: Mapping[str, Any]) -> bool:
    """Whether a network that the model borrowed learnt to please a judge; see `plugin.borrowed`."""
    lent = tuple(f"{name}_" for name in getattr(model, "borrows", ()))
    noted = config.get("experts_weights") or {}
    return state_hash(judge.network.state_dict()) in [made for key, made in noted.items() if key.startswith(lent)]


def _is_published_expert(judge: Judge, file: str, weights_dir: str | Path) -> bool:
    """Whether a judge has the weights of the published `file`, whatever file they came in."""
    entry = next((entry for entry in FILES if Path(entry.path).name == file), None)
    if entry is None:
        return False
    if judge.file is not None and is_published(entry.name, sha256_of(judge.file)):
        return True
    path = locate(weights_dir, entry.name)
    there = path.is_file() and is_published(entry.name, sha256_of(path))
    return bool(there) and _state_digest(ExpertFile.read(path).state) == judge.sha256


def weights_hash(network: nn.Module) -> str:
    """sha256 of names, shapes and values of all weights and averages; not of counters, which mere use may move."""
    return _state_digest(network.state_dict())


def _state_digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _recorded_crop(content: CheckpointContent, file: Path) -> CropConfig:
    """How the faces were cut on which an expert of ours learnt."""
    settings = content.config.get("model")
    recorded = settings.get("crop") if isinstance(settings, dict) else None
    try:
        return CropConfig.model_validate(recorded) if recorded else CROP
    except ValidationError as error:
        raise CheckpointError(f"{file}: its model.crop is none ({first_line(error)})") from None


def _crop_for(network: SyncExpert, crop: CropConfig) -> CropConfig:
    return crop.model_copy(update={"size": network.size[1]})


def _shaped_like(state: Mapping[str, Tensor], file: Path) -> SyncExpert:
    """An expert of the form and width that a state dict has."""
    shapes = {key: tuple(value.shape) for key, value in state.items() if isinstance(value, torch.Tensor)}
    if is_no_cosine(state):
        raise CheckpointError(f"{file}: a lip-sync expert of DINet's kind, which does not serve here; name SyncNet's")
    for size in SIZES:
        width = _width(shapes, _shapes(size, 1.0))
        if width is not None and _shapes(size, width) == shapes:
            return SyncExpert(size, width)
    forms = ", ".join(f"{height}x{width}" for height, width in SIZES)
    raise CheckpointError(f"{file}: not a lip-sync expert of Wav2Lip's or HyperLips' kind (lower halves of {forms})")


def _shapes(size: tuple[int, int], width: float) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in SyncExpert(size, width).state_dict().items()}


def _width(shapes: Mapping[str, tuple[int, ...]], full: Mapping[str, tuple[int, ...]]) -> float | None:
    """A multiplier that turns every number of channels at width 1 into the one that is there; None without one.

    Channels are rounded (`blocks.scaled`), so each layer allows a range of widths; what is in all of them gives the
    same network.
    """
    if shapes.keys() != full.keys():
        return None
    least, most = 0.0, math.inf
    for key, shape in full.items():
        if len(shape) != 4:
            continue
        # round(width * channels) == there, solved for the width; a layer at the floor of `FEWEST` says only "at most".
        channels, there = shape[0], shapes[key][0]
        least = max(least, (there - 0.5) / channels if there > FEWEST else 0.0)
        most = min(most, (there + 0.5) / channels)
    return (least + most) / 2 if least <= most else None


def _held_out_accuracy(file: Path, content: CheckpointContent) -> float | None:
    """What `log.jsonl` of the run says about the step that a checkpoint was written at."""
    try:
        lines = (file.parent.parent / "log.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            record = parse_json(line) if '"val/accuracy"' in line else None
        except ValueError:  # the last line of a run that was killed may be cut
            continue
        if isinstance(record, dict) and (record.get("stage"), record.get("step")) == (content.stage, content.step):
            accuracy = record.get("val/accuracy")
            return float(accuracy) if isinstance(accuracy, (int, float)) and 0 <= accuracy <= 1 else None
    return None
