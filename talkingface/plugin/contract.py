"""What every model shares: `Update`, `Plan`, `StepContext` and the `TalkingFaceModel` base class.

A training step is a generator. It yields one `Update` per optimiser step; the trainer applies it (zero_grad, backward,
clip, step) and resumes the generator, so that what comes after a `yield` sees the updated weights. A plain model yields
once, a GAN twice, a long clip once per segment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from talkingface.config.sections import Section
from talkingface.devices import resolve_inference_precision
from talkingface.errors import ConfigError
from talkingface.media.info import FPS
from talkingface.sound.choice import choice_in
from talkingface.weights.checkpoint import load_state_file

if TYPE_CHECKING:
    import numpy as np

    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder
    from talkingface.clips.source import Audio, Source
    from talkingface.config.sections import StageConfig
    from talkingface.media.info import MediaInfo
    from talkingface.plugin.graphs import Graph
    from talkingface.sound.front_ends import FrontEnd

Batch = dict[str, Tensor]


@dataclass
class Update:
    """One optimiser step: which trained network moves, and the (already weighted) loss terms that move it."""

    network: str
    losses: dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """What one kind of stage needs; the how-long and how-fast come from the YAML.

    Attributes:
        dataset: class of the stage's data set.
        trains: attribute names of the networks that train; each gets its own optimiser and is checkpointed.
        frozen: experts: eval mode, no gradients, not saved.
        uses: trained in another stage, or given by `experts:`, and needed here only in eval mode without gradients
            (saved along).
        restarts: those of `trains` that begin every stage of this kind with new first weights.
        options: type of the stage's `options:`, settings of one stage that are not the data set's.
    """

    dataset: type[ClipDataset]
    trains: tuple[str, ...]
    frozen: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()
    options: type[Section] = Section

    def __post_init__(self) -> None:
        """Report a plug-in's mistake at import."""
        untrained = [name for name in self.restarts if name not in self.trains]
        if untrained:
            raise ValueError(f"restarts {', '.join(untrained)}: only what the stage trains can start anew")


@dataclass(frozen=True)
class StepContext:
    """Where training stands.

    Attributes:
        stage: the stage's configuration.
        epoch: epochs finished in this stage.
        step: batches since the stage began.
        best: best validation values seen so far, by name, see `training.best`; survives resume.
        epoch_length: batches in an epoch.
    """

    stage: StageConfig
    epoch: int = 0
    step: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    epoch_length: int = 1


@dataclass(frozen=True)
class Drawn:
    """A generated frame together with a picture of how it came about; the pictures go into a second video.

    Attributes:
        frame: full frame, uint8 RGB (H, W, 3), at the size of the source; what shines through it is white.
        debug: uint8 RGB (h, w, 3), one size for the whole video; None: no such picture.
        opacity: (H, W) uint8, from a model that `draws_opacity`; None: all of it is opaque.
    """

    frame: np.ndarray
    debug: np.ndarray | None = None
    opacity: np.ndarray | None = None

    @classmethod
    def of(cls, made: np.ndarray | Drawn) -> Drawn:
        """Whatever `generate` yields, in one form."""
        return made if isinstance(made, Drawn) else cls(made)


@dataclass(frozen=True)
class Official:
    """A published checkpoint of one network.

    Attributes:
        file: published file name.
        network: attribute name of our network it fills.
        key: path of the state dict inside the file, e.g. `("state_dict",)`.
        strip: prefix removed once from the front of every key.
        rename: (old prefix, new prefix) pairs, applied in order, first match wins.
        ignore: key prefixes that the file may carry and we do not need.
        settings: configuration the published weights need, as dotted model keys; or a function that tells it from the
            entries of the file under our names, a size from the shape of a tensor say.
        lacks: endings of our entries that the file does not have; they stay as the model was built.
        objects: the file holds objects beside the weights, an optimiser say: they are read past, no code runs.
        asks: dotted model keys that whoever imports the file must give, for nothing in it tells them.
        asks_of_others: likewise of a file of another name, which is no published one: what `settings` says of that may
            not hold for it.
    """

    file: str
    network: str
    key: tuple[str, ...] = ("state_dict",)
    strip: str = "module."
    rename: tuple[tuple[str, str], ...] = ()
    ignore: tuple[str, ...] = ()
    settings: Mapping[str, Any] | Callable[[Mapping[str, Tensor]], Mapping[str, Any]] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    objects: bool = False
    asks: tuple[str, ...] = ()
    asks_of_others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Borrowed:
    """A network that a model takes, trained, from the run of another model.

    `experts.NAME` says from which run: a path, or `auto`, the latest finished run of the lender on this data set, else
    its imported weights. A plan that needs the network lists it under `uses`, so that checkpoints hold it.

    Attributes:
        model: registered name of the lender.
        network: its name there; empty: the same as here.
        settings: what the network needs of the lender's settings: our dotted key below `model:` -> the lender's, where
            an empty key is the whole section. They come along with the weights; whoever sets them otherwise is told.
        weights_key: our dotted key for the hash of the weights, for data that the network makes; empty: none.
        optional: a stage of our own may train it instead: it is borrowed only where `experts.NAME` is given. There a
            published file, or a checkpoint of any model that has such a network, may stand, too; no settings come
            along with these.
    """

    model: str
    network: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    weights_key: str = ""
    optional: bool = False


class TalkingFaceModel(nn.Module):
    """Base class of every model: networks, the steps that train them, and generation.

    A subclass sets the class attributes, builds its networks in `__init__(config)`, writes one `<kind>_step` per plan.

    Attributes:
        Config: type of the `model:` section.
        plans: stage kind -> what such a stage needs.
        artefacts: per-clip files that training reads; where they depend on settings, see `artefacts_for`.
        trains_without: those of `artefacts` that no training step reads: made with the others, for scoring and
            diagnosis, but a clip that lacks them, say one converted from older code, is trained on. A kind stands for
            all of its variants (`heads` for `heads@256`). Also those that only some stages read, whose data sets leave
            such clips out.
        official: published checkpoints.
        borrows: our network -> whose it is; that other model is a prerequisite of this one, unless it is optional.
        loss_experts: sync experts that a loss of this model asks: reports mark them when they also judge.
        evaluation_artefacts: per-clip files that scoring needs (with what `stage_scores` reads); evaluating makes only
            these, so that the crops a run was trained on stay as they are.
        own_figures: names that `after_validation` may give, so that a `monitor` of another name is refused before the
            training; None: not known before.
        hears: dotted key below `model:` of the `FrontEndConfig` that says what it hears; empty: it hears by itself.
        deaf: networks to which that is of no account: a stage may take them from weights of any front end.
        scores_without_videos: whether `stage_scores` tells something of clips that have no videos: they are then
            evaluated by these figures alone.
        draws_wanted: whether `generate` draws those frames alone that `audio.wanted` asks for; otherwise it draws all
            of a window, and those that were not asked for are thrown away.
        accepts: kinds of sources that `generate` takes, `video`, `picture`, or such as a model registers (see
            `clips.openers`).
        draws_opacity: whether frames of a transparent source come with their `Drawn.opacity`.
        front_end: what it hears with, once `bind` was called.
        weights_dir: folder of weight files, likewise.
        stage: the stage that trains now, or whose weights the model holds, with its `data` and `options`; None for a
            model that is freshly built or imported.
        given: networks whose weights came from `experts:`.
        ready: networks with trained or given weights, as the checkpoint says, or the stage that trains now.
        backend: what runs the networks that `graphs` declares, `torch` or `onnx`.
    """

    Config: ClassVar[type[Section]]
    plans: ClassVar[dict[str, Plan]] = {}
    artefacts: ClassVar[tuple[str, ...]] = ()
    trains_without: ClassVar[tuple[str, ...]] = ()
    official: ClassVar[tuple[Official, ...]] = ()
    borrows: ClassVar[dict[str, Borrowed]] = {}
    loss_experts: ClassVar[tuple[str, ...]] = ()
    evaluation_artefacts: ClassVar[tuple[str, ...]] = ("audio", "landmarks")
    own_figures: ClassVar[tuple[str, ...] | None] = None
    hears: ClassVar[str] = ""
    deaf: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[tuple[str, ...]] = ("video", "picture")
    scores_without_videos: ClassVar[bool] = False
    draws_wanted: ClassVar[bool] = False
    draws_opacity: ClassVar[bool] = False
    front_end: FrontEnd | None = None
    weights_dir: Path = Path("checkpoints")
    stage: StageConfig | None = None
    given: frozenset[str] = frozenset()
    ready: frozenset[str] = frozenset()
    backend: str = "torch"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Report a plug-in's mistakes at import, by name."""
        super().__init_subclass__(**kwargs)
        for kind in cls.plans:
            if not callable(getattr(cls, f"{kind}_step", None)):
                raise TypeError(f"{cls.__name__} plans a '{kind}' stage but has no {kind}_step()")

    @classmethod
    def artefacts_for(cls, config: Section) -> tuple[str, ...]:
        """Per-clip files that training with these settings reads; `artefacts` unless a model says otherwise.

        For example `("mel", config.crop.artefact)`: crops of other settings then lie beside these and stay.
        """
        return cls.artefacts

    @classmethod
    def step_settings(cls, config: Section) -> dict[str, dict[str, Any]]:
        """Parameters of the preprocessing steps that depend on the model's settings, by artefact name.

        For example `{"faces": {"size": 128, "margin": 5.0}, "mel": {"pad_mode": "constant"}}`. A clip whose artefact
        was made with other parameters is made again.
        """
        return {}

    @classmethod
    def needed_to_speak(cls, config: Section) -> tuple[str, ...] | None:
        """Networks that `generate` needs trained; None for a model that makes no videos, as an expert that judges.

        A checkpoint without one of them is refused, and a stage makes videos once it has them all: trained by itself,
        or handed over. The default is every network that a plan trains or uses; a model whose `generate` does without
        some of them, a discriminator say, names those that it calls.

        Args:
            config: the model's settings, on which the answer may depend.
        """
        if cls.generate is TalkingFaceModel.generate:
            return None
        names = (name for plan in cls.plans.values() for name in (*plan.trains, *plan.uses))
        return tuple(dict.fromkeys(names))

    @classmethod
    def left_untrained(cls, config: Section, stages: Sequence[StageConfig]) -> tuple[str, ...]:
        """What `generate` needs inside of trained networks and these stages have not trained, in words; default: none.

        For example the memory of a network that has seen single frames alone. A checkpoint is then refused, as one
        without a network is, and lends nothing.

        Args:
            config: the model's settings.
            stages: those that made a checkpoint, the last one is its own; none of imported weights.
        """
        return ()

    @classmethod
    def check_stages(cls, config: Section, stages: Sequence[StageConfig]) -> None:
        """Called before a training, and before clips are prepared for it, to refuse stages that contradict settings.

        Args:
            config: the model's settings.
            stages: all stages, with their `data` and `options`.

        Raises:
            ConfigError: with the key.
        """

    @property
    def replaced_by_bind(self) -> tuple[str, ...]:
        """Entries `<network>.<key>` that `bind` fills from other files, whatever a checkpoint holds there.

        They are left out where weights are told apart (`hash_in_use`), as a model is read there without being bound.
        """
        return ()

    def bind(self, weights_dir: str | Path, device: str) -> None:
        """Learn where weight files lie and where to compute, and build the front end there.

        The pipeline and the runner of trainings call it.
        """
        self.weights_dir = Path(weights_dir)
        if self.hears:
            self.front_end = choice_in(self.config, self.hears).build(weights_dir, device)

    @property
    def device(self) -> torch.device:
        """Device of the first parameter (CPU for a model without parameters)."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def training_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Yield the `Update`s of one batch: dispatches to `<kind>_step`."""
        return getattr(self, f"{ctx.stage.kind}_step")(batch, ctx)

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """Loss values on one held-out batch, in eval mode without gradients.

        The default runs the training step without applying its updates, and so reports `<network>/<term>` values.
        """
        values: dict[str, Tensor] = {}
        for update in self.training_step(batch, ctx):
            values |= {f"{update.network}/{name}": value for name, value in update.losses.items()}
            total = torch.stack([value.float() for value in update.losses.values()]).sum()
            values["loss"] = values.get("loss", 0.0) + total
        return values

    def initialise(self, dataset: ClipDataset, ctx: StepContext) -> None:
        """Called once before a fresh stage trains (not on resume): e.g. set an output bias to the data's mean."""

    def before_training(self, train: ClipDataset, held_out: ClipDataset | None, ctx: StepContext) -> None:
        """Called once before the first step of a stage, e.g. to refuse an expert that is worth nothing.

        All networks are where they compute, in eval mode, without gradients. Of several processes the first one calls
        it; what it raises ends all of them.

        Args:
            train: the stage's training data.
            held_out: the stage's held-out data; None without validation clips.
            ctx: where training stands.
        """

    def after_validation(
        self, values: Mapping[str, float], ctx: StepContext, train: ClipDataset, held_out: ClipDataset, folder: Path
    ) -> dict[str, float]:
        """More figures of a validation, by name without `val/`; also the place for alarms and plots.

        Called after every validation in the first process, in eval mode, without gradients, with random numbers of its
        own. Whoever needs gradients switches them on and puts the weights back.

        Args:
            values: what `validation_step` gave, as `val/<name>`.
            ctx: where training stands.
            train: the stage's training data.
            held_out: the stage's held-out data.
            folder: of the stage, for plots.
        """
        return {}

    def stage_ended(self, ctx: StepContext) -> None:
        """Called when a stage has ended; `ctx.best` holds its best values, e.g. to warn about poor ones.

        Called again by a run that goes on behind a stage which ended before, so that what is raised here keeps the
        next stages from beginning.
        """

    def under_way(self, dataset: ClipDataset, ctx: StepContext) -> StepContext:
        """Where every term and every update of a stage takes part, behind its warm-up: there `benchmark` measures it.

        Args:
            dataset: the stage's training data.
            ctx: the beginning of the stage; of what is returned `epoch`, `step` and `best` count.
        """
        return ctx

    def preview(self, batch: Batch, ctx: StepContext, dataset: ClipDataset) -> dict[str, Tensor]:
        """Pictures for TensorBoard: (3, H, W) images or (T, 3, H, W) videos, RGB in [0, 1].

        Args:
            batch: a batch of held-out items.
            ctx: where training stands.
            dataset: the held-out data, e.g. for consecutive frames of one clip.
        """
        return {}

    @classmethod
    def check_overrides(cls, trained: Section, asked: Section) -> None:
        """Called when a checkpoint is used with other `model:` settings than it was trained with, e.g. to warn."""

    @classmethod
    def trained_otherwise(
        cls, kind: str, networks: Collection[str], trained: Mapping[str, Any], here: Section
    ) -> str | None:
        """Why networks of a checkpoint would be others with these settings, with what to set, or None.

        Asked where a stage starts from a checkpoint (`init_from`), for what neither names nor shapes of weights tell.

        Args:
            kind: of the stage.
            networks: names of those that it takes.
            trained: plain `model:` of the checkpoint.
            here: the settings of the run.
        """
        return None

    @property
    def keeps_frame_rate(self) -> bool:
        """Whether `generate` wants its source at the source's own frame rate instead of 25 fps."""
        return False

    def output_rate(self, source: MediaInfo) -> float:
        """Frames per second of the video that is made from a source, at which the source is read, too.

        A picture has no rate of its own: a model may answer at any.
        """
        return source.fps if self.keeps_frame_rate and not source.is_image else FPS

    def output_size(self, source: Source) -> tuple[int, int]:
        """Height and width of the frames that are made from a source: its own, unless a model says otherwise."""
        return source.size

    @property
    def inference_precision(self) -> str:
        """How precisely `generate` draws on this device, `32` or `bf16`; logs and reports say so.

        The setting `inference.precision` resolved, where the model has one; a model that decides otherwise says how.
        Exported networks compute in float32.
        """
        if self.backend == "onnx":
            return "32"
        inference = getattr(getattr(self, "config", None), "inference", None)
        return resolve_inference_precision(getattr(inference, "precision", "32"), self.device)

    def head_follows(self, picture: bool) -> str:
        """What the head of a generated video follows: its `source`, a `predicted` motion, or `none`.

        Where it does not follow the source, figures that compare pictures point by point mean nothing, and are left
        out with the reason.

        Args:
            picture: whether the source is a picture; otherwise it is a video.
        """
        return "source"

    def needs_whole_sound(self, picture: bool) -> tuple[str, str] | None:
        """Why it cannot speak while a voice is still arriving, and which option lets it; None: it can.

        Args:
            picture: see `head_follows`.
        """
        if self.head_follows(picture) == "predicted":
            return "plans how the head moves over the whole sound", "--model.inference.head=none keeps the head still"
        return None

    @property
    def licence(self) -> str:
        """What limits the use of whatever is made with these settings, for logs and reports; empty: nothing known."""
        return ""

    def graphs(self) -> tuple[Graph, ...]:
        """What `export --format=onnx` writes of this model, and `--backend=onnx` runs: see `plugin.graphs.Graph`."""
        return ()

    def generate(self, source: Source, audio: Audio) -> Iterator[np.ndarray | Drawn]:
        """Yield full frames, uint8 RGB (H, W, 3), one per video frame of the audio, at the size of the source.

        A frame that comes with a picture for a second video is yielded as `Drawn`.
        """
        raise ConfigError(f"{type(self).__name__} makes no videos")

    def stage_scores(self, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
        """Figures of inner stages on held-out clips, beside the same with the audio of `donors` (same order).

        Names end in `_shuffled` for the second kind. The evaluator adds them to the report.
        """
        return {}

    def sample_videos(self, clips: Sequence[ClipFolder], folder: Path) -> None:
        """Write videos of clips that have none themselves, to be looked at; called where these are evaluated."""

    @classmethod
    def settings_without_videos(cls, clip: ClipFolder, kinds: Collection[str]) -> dict[str, Any]:
        """Settings, by dotted key below `model:`, that follow where the clips of a data set have no videos.

        What such clips hold cannot be made otherwise, so the settings that the user did not choose follow them.

        Args:
            clip: one of them.
            kinds: kinds of the stages that they can train.
        """
        return {}

    def examples(self, clips: Sequence[ClipFolder], folder: Path) -> Sequence[Path]:
        """Sources of other kinds than videos that speak at the end of the demo; none by default.

        Args:
            clips: test clips, from which something may be taken.
            folder: to write them into; it may not be there yet.
        """
        return ()

    def expert_hint(self, name: str) -> str:
        """What else a user without the weights of a frozen network can do; added to the error message."""
        return ""

    def load_expert(self, name: str, path: Path) -> None:
        """Load the weights of an expert: a published state dict, or that network in one of our checkpoints."""
        load_state_file(getattr(self, name), path, what=f"{type(self).__name__}.{name}", name=name)


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Switch off the parameter gradients of `networks`; under DDP also their gradient sync.

    Used while a generator's loss passes through its discriminator: gradients flow to the input, not to the weights.
    """
    switched = [p for network in networks for p in network.parameters() if p.requires_grad]
    # DistributedDataParallel decides in its forward whether it waits for gradients in the backward that follows.
    wrappers = [m for network in networks for m in network.modules() if hasattr(m, "require_backward_grad_sync")]
    syncs = [wrapper.require_backward_grad_sync for wrapper in wrappers]
    for parameter in switched:
        parameter.requires_grad_(False)
    for wrapper in wrappers:
        wrapper.require_backward_grad_sync = False
    try:
        yield
    finally:
        for parameter in switched:
            parameter.requires_grad_(True)
        for wrapper, sync in zip(wrappers, syncs, strict=True):
            wrapper.require_backward_grad_sync = sync
