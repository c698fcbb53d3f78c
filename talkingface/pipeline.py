"""Inference as users call it: `Pipeline.from_checkpoint("IPLAP", path)(video, audio, "out.mp4")`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from talkingface.clips.backing import Backing
from talkingface.clips.openers import open_source
from talkingface.clips.source import Audio, Source
from talkingface.config.sections import LandmarkConfig, OutputConfig
from talkingface.config.stages import until
from talkingface.devices import keep_freed_memory, resolve_device
from talkingface.errors import CheckpointError, ConfigError, DataError, OutputError, printable
from talkingface.export.manifest import folder_beside
from talkingface.export.runtime import run_exported
from talkingface.faces.detectors import DEFAULT_PLACE, Place
from talkingface.media import (
    FPS,
    SAMPLE_RATE,
    KeptFrames,
    WriteBehind,
    draw_mark,
    read_audio,
    resampled,
    synthetic_comment,
)
from talkingface.media.clear import frame_writer, is_folder_name
from talkingface.media.write import VIDEO_SUFFIXES
from talkingface.plugin.assembly import lacking_to_speak
from talkingface.plugin.contract import Drawn, TalkingFaceModel
from talkingface.plugin.hearing import refuse_other_weights
from talkingface.plugin.trained import read_trained
from talkingface.streaming import spoken_windows

if TYPE_CHECKING:
    from talkingface.config.sections import Config
    from talkingface.weights.checkpoint import CheckpointContent

log = logging.getLogger("talkingface")
REFERENCE_FRAMES = int(60 * FPS)  # of a reference video that identity frames are chosen from, at least
_WARM_SAMPLES = 3200  # 0.2 s of silence
SOUND_RATE = 44100  # Hz, of the sound in generated files


class Pipeline:
    """A trained model together with the media handling around it.

    Args:
        model: a model with weights, in any mode; it is put into eval mode while generating.
        name: its registered name.
        checkpoint: where the weights came from, for reports.
        landmarks: landmark options; None uses the defaults.
        place: where the landmark detector's weights lie, and where it runs.
        output: how videos are written; None uses the defaults.
        video_cache_mb: memory for the frames of a source, which are read twice.
    """

    def __init__(
        self,
        model: TalkingFaceModel,
        name: str,
        checkpoint: Path | None = None,
        landmarks: LandmarkConfig | None = None,
        place: Place = DEFAULT_PLACE,
        output: OutputConfig | None = None,
        video_cache_mb: int = 0,
    ) -> None:
        self.model, self.name, self.checkpoint = model, name, checkpoint
        self.landmarks, self.place = landmarks or LandmarkConfig(), place
        self.output, self.video_cache_mb = output or OutputConfig(), video_cache_mb
        self._faces = KeptFrames(video_cache_mb)  # of all sources of streams together
        model.bind(self.place.weights_dir, str(model.device))

    @classmethod
    def from_checkpoint(
        cls,
        name: str | None = None,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        overrides: Mapping[str, Any] | None = None,
        backend: str = "torch",
        exported: str | Path | None = None,
        *,
        speaks: bool = True,
        front_end_files: Mapping[str, Path] | None = None,
    ) -> Pipeline:
        """Build the model a checkpoint was trained with and load its weights.

        Args:
            name: registered model name; None takes the checkpoint's.
            checkpoint: a `.pt` or `.safetensors` file, a run or stage folder, a folder that `publish` made, or
                `hub:USER/NAME`; None takes the imported published weights.
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
            overrides: dotted configuration keys that differ from training, e.g. `{"model.inference.ref_n": 10}`.
            backend: `torch`, or `onnx`: networks run as files that `export` has written.
            exported: where these files are; None: `onnx/` beside the checkpoint.
            speaks: whether videos are to be made. Otherwise it is for figures of inner stages, and neither all networks
                nor the files of the front end need be there.
            front_end_files: weight files of the front end that lie elsewhere than below `weights_dir`, by their names
                there.

        Raises:
            CheckpointError: missing, unreadable, of another model, or without a network that generating needs; or its
                networks were not exported.
            ConfigError: an override that does not fit, or names another lender than the training had.
        """
        trained = read_trained(name, checkpoint, overrides)
        model, path, config = trained.model, trained.path, trained.config
        if speaks:
            _check_complete(model, config, trained.content, path)
        place = Place(config.weights_dir, device)
        pipeline = cls(
            model.to(resolve_device(device)).eval(),
            trained.name,
            path,
            config.preprocess.landmarks,
            place,
            config.output,
            config.video_cache_mb,
        )
        if model.front_end is not None:
            model.front_end.places |= front_end_files or {}
        if speaks and model.front_end is not None:
            refuse_other_weights(type(model), model.front_end.fingerprint(), trained.content.config, path)
        if backend == "onnx":
            run_exported(model, trained.name, folder_beside(path) if exported is None else Path(exported))
        elif backend != "torch":
            raise ConfigError(f"--backend={backend}: there are torch and onnx")
        return pipeline

    def __call__(
        self,
        source: str | os.PathLike[str],
        audio: str | os.PathLike[str],
        output: str | os.PathLike[str],
        reference: str | os.PathLike[str] | None = None,
        progress: bool = False,
        landmarks: str | os.PathLike[str] | None = None,
        background: str | None = None,
        visible_mark: bool = False,
        mute: bool = False,
        told: Callable[[int, int], None] | None = None,
        start: float = 0.0,
        most_frames: int | None = None,
    ) -> Path:
        """Make the face in `source` speak `audio` and write a video as long as the audio.

        The metadata of the file say that it is synthetic.

        Args:
            source: video or picture of a face, or what else the model takes.
            audio: any audio or video file with sound.
            output: video file to write (H.264 and AAC in mp4), or a folder (a name without suffix) for PNG pictures.
            reference: another video of the same person to take identity frames from.
            progress: show a progress bar.
            landmarks: landmark file of `source` (docs/data_layout.md), used instead of a detector.
            background: what is behind a transparent source: `white`, `transparent`, or a picture; see `Backing.of`.
            visible_mark: also write into every frame that it is synthetic.
            mute: leave the sound out.
            told: called after each frame with how many are made, and of how many.
            start: seconds of a source video that are left out at its beginning.
            most_frames: so much of the sound is heard at most; None: all of it.

        Returns:
            The path written.

        Raises:
            MediaError, NoFaceError, DataError: bad input, named in one line.
            OutputError: the output cannot be written.
        """
        output = Path(output)
        _refuse_input(output, (source, audio, reference))
        if landmarks is not None and not Path(landmarks).is_file():
            raise DataError(f"{landmarks}: no such landmark file; check the path")
        check_writable(output)
        picture = self._open(source, landmarks)
        backing = Backing.of(background, picture, self.model.draws_opacity, output)
        picture.skip(start)
        voice = Audio.load(Path(audio))
        # The networks hear 16 kHz; people get the full band.
        sound = Audio(read_audio(audio, SOUND_RATE), SOUND_RATE, voice.path)
        if most_frames is not None:
            voice, sound = (each.first(most_frames, picture.fps) for each in (voice, sound))
        log.info("%s draws on %s in %s", self.name, self.model.device, _spelt(self.model.inference_precision))
        if self.model.licence:
            log.warning("%s: what it makes is %s", self.name, self.model.licence)
        shown = voice.n_frames(picture.fps)
        picture.limit(shown)
        if reference is not None:
            picture.reference = Source.from_path(Path(reference))
            picture.reference.limit(max(shown, REFERENCE_FRAMES))
        return self.generate_file(picture, voice, output, progress, sound, visible_mark, mute, told, backing)

    def generate_file(
        self,
        source: Source,
        audio: Audio,
        output: Path,
        progress: bool = False,
        sound: Audio | None = None,
        visible_mark: bool = False,
        mute: bool = False,
        told: Callable[[int, int], None] | None = None,
        backing: Backing | None = None,
    ) -> Path:
        """Generate from opened inputs. Decoding and encoding have threads of their own beside the network.

        Frames go through from one to the next, a few of them at a time, so memory stays flat.

        Args:
            source: the face.
            audio: what it says, at 16 kHz.
            output: video file to write.
            progress: show a progress bar.
            sound: the same sound at another rate for the file; None writes `audio`.
            visible_mark: write into every frame that it is synthetic.
            mute: leave the sound out.
            told: called after each frame with how many are made, and of how many.
            backing: what is behind transparent frames; None: white.

        Raises:
            OutputError: a file cannot be written, or the debug video would replace an input.
        """
        backing = backing or Backing()
        modes = {name: module.training for name, module in self.model.named_modules()}
        self.model.eval()
        if self.model.device.type == "cpu":
            keep_freed_memory()
        self._set_provider(source)
        frames = self.model.generate(source, audio)
        total = audio.n_frames(source.fps)
        bar = tqdm(total=total, unit="frame", desc=printable(output.name), disable=not progress)
        heard = sound or audio
        sides = {"fps": source.fps, "audio": None if mute else heard.samples, "sample_rate": heard.sample_rate}
        sides |= {"preset": self.output.preset, "comment": synthetic_comment(self.name)}
        try:
            with torch.inference_mode(), bar, ExitStack() as files:
                frame_size = self.model.output_size(source)
                writer = files.enter_context(WriteBehind(frame_writer(output, frame_size, backing.kept, **sides)))
                debug = None
                files.enter_context(source.reading_ahead())
                for done, drawn in enumerate(map(Drawn.of, frames), start=1):
                    frame = backing.put(drawn.frame, drawn.opacity)
                    writer.write(draw_mark(frame) if visible_mark else frame)
                    if drawn.debug is not None:
                        if debug is None:
                            path = _debug_file(output, source, audio)
                            panes = frame_writer(path, drawn.debug.shape[:2], False, **sides)
                            debug = files.enter_context(WriteBehind(panes))
                        debug.write(drawn.debug)
                    bar.update()
                    if told is not None:
                        told(done, total)
        finally:
            for name, module in self.model.named_modules():
                module.training = modes.get(name, module.training)
        return output

    def prepare(self, source: str | os.PathLike[str]) -> Source:
        """Find the face of a source and what the model makes of it, once for all that it will say in `stream`.

        Args:
            source: video or picture of a face; of a video the first minute is used.

        Raises:
            MediaError, NoFaceError, DataError: it is no good, named in one line.
        """
        picture = self._open(source)
        picture.prepared, picture.kept = {}, self._faces
        picture.limit(int(REFERENCE_FRAMES))
        self._set_provider(picture)
        picture.landmarks()
        for _ in self.stream(picture, [np.zeros(_WARM_SAMPLES, np.float32)]):
            pass  # references are chosen and encoded, and the first batch is always the slowest
        return picture

    def stream(
        self,
        source: str | os.PathLike[str] | Source,
        audio_chunks: Iterable[np.ndarray],
        sample_rate: int = SAMPLE_RATE,
    ) -> Iterator[np.ndarray]:
        """Yield frames while the voice is still arriving; as many in the end as its length asks for.

        A piece of sound is taken when the frames before are used up, so nothing piles up. The first frames come
        after `LOOK_AHEAD` and a step of sound, see `talkingface.streaming`; frames of models that hear a
        window around each frame are those of a video of the whole voice.

        Args:
            source: video or picture of a face, or what `prepare` has made of one: then the first frame comes at once.
            audio_chunks: pieces of a voice, (n,) float mono in [-1, 1], of any length.
            sample_rate: of the pieces, Hz.

        Yields:
            (H, W, 3) uint8 RGB, at the rate `prepare(source).fps`, 25 per second for most models.

        Raises:
            MediaError, NoFaceError, DataError: bad input, named in one line.
            ConfigError: the model plans the whole sound beforehand.
        """
        picture = source if isinstance(source, Source) else self.prepare(source)
        if needed := self.model.needs_whole_sound(picture.is_image):
            what, option = needed
            raise ConfigError(f"{self.name} {what}, so it cannot speak while that arrives; {option}")
        return self._streamed(picture, resampled(audio_chunks, sample_rate))

    def _streamed(self, picture: Source, chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        self.model.eval()
        for begin, audio in spoken_windows(chunks, picture.fps):
            first, stop = audio.wanted or (0, 0)
            with torch.inference_mode():  # not around the `yield`: it would hold for the caller's work, too
                drawn = [Drawn.of(made).frame for made in self.model.generate(picture.starting_at(begin), audio)]
            yield from drawn if self.model.draws_wanted else drawn[first:stop]

    def _open(self, source: str | os.PathLike[str], landmarks: str | os.PathLike[str] | None = None) -> Source:
        """A source at the rate at which the model answers.

        Raises:
            MediaError: it is missing, damaged, or has no picture.
            DataError: it is of a kind that the model does not take.
        """
        model, given = self.model, None if landmarks is None else Path(landmarks)
        picture = open_source(Path(source), model.accepts, model.output_rate, self.name, given)
        picture.kept = KeptFrames(self.video_cache_mb)
        return picture

    def _set_provider(self, source: Source) -> None:
        """Let the source (and its reference) find landmarks the way the configuration says."""
        for each in (source, source.reference):
            if each is not None:
                each.landmark_config, each.place = self.landmarks, self.place


def _check_complete(model: TalkingFaceModel, config: Config, content: CheckpointContent, path: Path) -> None:
    """Refuse weights that nothing has trained rather than generate with them."""
    ready, stages = model.given.union(content.ready), until(config.stages, content.stage)
    lacking = lacking_to_speak(type(model), config.model, ready, stages)
    if lacking:
        absent = "".join(f"; {config.experts[name]} is not there" for name in lacking if config.experts.get(name))
        raise CheckpointError(
            f"{path}: holds no trained {', '.join(lacking)}, so it cannot make videos yet; it is a checkpoint of stage"
            f" '{content.stage}'{absent}"
        )


def _refuse_input(output: Path, given: Iterable[str | os.PathLike[str] | None]) -> None:
    """See that a file to be written is none of those that are read.

    Raises:
        OutputError: it is one.
    """
    for each in given:
        if each is not None and output.exists() and Path(each).exists() and output.samefile(each):
            raise OutputError(f"{output}: is also an input; choose another output file")


def _debug_file(output: Path, source: Source, audio: Audio) -> Path:
    """The file beside `output` that shows how its frames came about.

    Raises:
        OutputError: it is one of those that are read.
    """
    path = output.with_name(f"{output.stem}_debug{output.suffix}")
    other = source.reference
    _refuse_input(path, (source.path, audio.path, None if other is None else other.path))
    return path


def check_writable(output: Path) -> None:
    """Fail before the work rather than after it when the output's folder is missing or read-only.

    Raises:
        OutputError: with the reason.
    """
    if not is_folder_name(output) and output.suffix.lower() not in VIDEO_SUFFIXES:
        known = ", ".join(VIDEO_SUFFIXES)
        raise OutputError(f"{output}: unknown video suffix; use one of {known}, or none for a folder of pictures")
    folder = output.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"{output}: the folder {folder} does not exist; create it or choose another --output")
    if output.is_dir() or (is_folder_name(output) and output.exists()):
        raise OutputError(f"{output}: is there already; give the name of a video file, or of a new folder for pictures")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{output}: the folder {folder} is read-only; choose another --output")


def _spelt(precision: str) -> str:
    return {"32": "float32"}.get(precision, precision)
