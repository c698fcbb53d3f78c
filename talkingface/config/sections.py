"""The configuration as typed sections: every key a YAML file or the command line may set, with type and default.

`properties/overall.yaml` repeats the defaults with explanations (a test keeps the two equal). Loading, layering and
error messages live beside this module and in `plugin/configuration.py`. It imports neither torch nor any model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from talkingface.config.folder_names import FolderName, text


class Section(BaseModel):
    """Base of every configuration section: frozen; unknown keys, wrong types, NaN and infinity are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), arbitrary_types_allowed=True, allow_inf_nan=False
    )


Precision = Annotated[Literal["32", "bf16", "16", "bf16-auto"], BeforeValidator(text)]
"""Arithmetic of training; `bf16-auto` is bf16 where the device is fast at it."""

DrawingPrecision = Annotated[Literal["32", "bf16", "bf16-auto"], BeforeValidator(text)]
"""Arithmetic of networks that draw; `bf16-auto` is bf16 where the device has matrix units for it."""

ScoringPrecision = Annotated[Literal["32", "bf16"], BeforeValidator(text)]
"""Arithmetic of networks that score."""


Decay = Annotated[float, Field(ge=0, lt=1)]
"""Share of the past in a running mean."""


class OptimConfig(Section):
    """Optimiser of one network.

    `clip_norm` is the largest allowed gradient norm; `ema` the decay of an exponential moving average of the weights,
    which is then used for validation, generation and the saved network (None: off).
    """

    name: Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"] = "adam"
    lr: float = Field(1e-4, gt=0)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)


class SchedulerConfig(Section):
    """Learning-rate schedule of a stage, in batches; warm-up is linear from 0.

    `cosine` and `linear` fall to `min_lr_ratio` at the stage's last step, from `hold` (share of the stage) on; `step`
    multiplies by `gamma` every `step_size` steps.
    """

    name: Literal["none", "cosine", "linear", "step"] = "none"
    warmup_steps: int = Field(0, ge=0)
    hold: float = Field(0.0, ge=0, lt=1)
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    step_size: int = Field(1000, gt=0)
    gamma: float = Field(0.1, gt=0)


class Every(Section):
    """An interval in steps or in epochs, exactly one of the two."""

    steps: int | None = Field(None, gt=0)
    epochs: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> Every:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self


RUN_FILES = ("eval", "tensorboard", "wandb", "wandb.json", "config.yaml", "run.json", "run.lock", "log.jsonl")
"""What lies in a run folder beside the folders of its stages."""


class StageConfig(Section):
    """One stage of training: which plan (`kind`) runs, for how long and how fast.

    `init_from` names earlier stages (their best checkpoint of the same run) or checkpoint files whose networks are
    loaded first; `coarse:generator` takes one network of them. `data` are options of the data set, `options` those that
    the model has for one stage; its `Plan` says of which types they are. `monitor` is `val/<loss>` or `eval/<metric>`;
    `patience` counts validations without improvement.
    """

    name: FolderName
    kind: str
    epochs: int | None = Field(None, gt=0)
    max_steps: int | None = Field(None, gt=0)
    batch_size: int = Field(8, gt=0)
    init_from: tuple[str, ...] = ()
    data: Any = Field(default_factory=dict)
    options: Any = Field(default_factory=dict)
    optim: dict[str, OptimConfig] = Field(default_factory=dict)
    scheduler: SchedulerConfig = SchedulerConfig()
    accumulate: int = Field(1, gt=0)
    monitor: str = "val/loss"
    mode: Literal["min", "max"] = "min"
    patience: int | None = Field(None, gt=0)
    validate_every: Every = Every(epochs=1)
    val_batches: int | None = Field(None, gt=0)
    eval_step: int | None = Field(None, ge=0)
    precision: Precision | None = None

    @field_validator("name")
    @classmethod
    def _own_folder(cls, value: str) -> str:
        if value.lower() in RUN_FILES:
            raise ValueError(f"'{value}' is taken by a run folder's own files ({', '.join(RUN_FILES)})")
        return value

    @field_validator("monitor")
    @classmethod
    def _some_figure(cls, value: str) -> str:
        if not value.startswith(("val/", "eval/")):
            raise ValueError(
                f"'{value}' is no figure: give val/NAME, a loss on held-out clips such as val/loss, or eval/NAME, a"
                " metric of generated videos"
            )
        return value

    @field_validator("init_from", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        # A "before" validator hands Python values to the strict check, which wants a tuple here.
        return (value,) if isinstance(value, str) else tuple(value or ())

    @model_validator(mode="after")
    def _has_an_end(self) -> StageConfig:
        if self.epochs is None and self.max_steps is None:
            raise ValueError("give epochs or max_steps, otherwise the stage never ends")
        return self


class LandmarkConfig(Section):
    """How landmarks are found while preprocessing.

    `detect_side` is for `s3fd` alone: the longest side, in pixels, of the picture that it searches. It is faster on
    large frames and gives other boxes, for its anchors start at 16 px; null searches the whole frame, as published.
    """

    provider: Literal["mediapipe", "mediapipe_tasks", "face_alignment", "s3fd"] = "mediapipe"
    mode: Literal["static", "tracking"] = "static"
    pick: Literal["largest", "tracked", "first"] = "tracked"
    max_gap: int = Field(12, ge=0)
    min_detection: float = Field(0.5, gt=0, lt=1)
    model_path: str | None = None
    detect_side: int | None = Field(None, ge=64)

    def as_recorded(self) -> dict[str, Any]:
        """What landmarks are recorded with; what was not known to earlier versions, only where it is set."""
        recorded = self.model_dump()
        if self.detect_side is None:
            del recorded["detect_side"]
        return recorded


class DurationFilter(Section):
    """Length of a clip in seconds; null: no limit."""

    min: float | None = Field(None, ge=0)
    max: float | None = Field(None, gt=0)


class SyncFilter(Section):
    """Audio-video offset of every clip, measured with a lip-sync expert.

    `expert` is `none` (the filter is off), `auto` (the public SyncNet where its weights are there, else the latest
    trained expert of this data set), or the path of a SyncNet run, a checkpoint or published weights. A constant offset
    of at most `max_offset` frames is repaired by moving the sound when `repair` is on, otherwise the clip is rejected,
    and so is a clip whose confidence is under `min_confidence`.
    """

    expert: str = "none"
    min_confidence: float | None = None
    max_offset: int = Field(10, ge=0)
    repair: bool = True


class FiltersConfig(Section):
    """Which clips preprocessing turns away; null or false leaves a filter out.

    `face_size` is the least mean height of the face box in pixels of the source, `single_face` the largest share of
    frames that may show more than one face, `scene_cut` rejects clips with a cut inside, `blur` is the least sharpness
    (variance of the Laplacian of the face, resized to 128 px) of the median frame.
    """

    duration: DurationFilter = DurationFilter()
    face_size: float | None = Field(None, gt=0)
    single_face: float | None = Field(None, ge=0, le=1)
    scene_cut: bool = False
    blur: float | None = Field(None, gt=0)
    sync: SyncFilter = SyncFilter()


class PreprocessConfig(Section):
    """Preprocessing of clips, shared by all models.

    `workers: 0` works in the process of the command itself; `retry_crashed` tries clips again whose work has ended a
    process. `shard: i/n` prepares the i-th of n shares of the clips, from 1 on. `executor: ray` works in the processes
    of a Ray cluster.
    """

    workers: int | None = Field(None, ge=0)
    executor: Literal["local", "ray"] = "local"
    ray_address: str = "auto"
    shard: str | None = None
    retry_crashed: bool = False
    storage: Literal["jpeg", "npy"] = "jpeg"
    jpeg_quality: int = Field(95, ge=1, le=100)
    max_missing: float = Field(0.5, ge=0, le=1)
    min_seconds: float = Field(0.2, ge=0)
    force: bool = False
    landmarks: LandmarkConfig = LandmarkConfig()
    filters: FiltersConfig = FiltersConfig()

    @field_validator("shard")
    @classmethod
    def _a_share(cls, value: str | None) -> str | None:
        number, slash, count = (value or "1/1").partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError("must be i/n with i from 1 to n, say 2/8 for the second of eight shares")
        return value

    @model_validator(mode="after")
    def _processes_for_ray(self) -> PreprocessConfig:
        if self.executor == "ray" and self.workers == 0:
            raise ValueError("executor=ray works in other processes: workers must not be 0, null is all cores")
        return self


class DemoConfig(Section):
    """Size of the synthetic demo corpus."""

    identities: int = Field(6, gt=0)
    clips: int = Field(7, gt=0)
    unseen: int = Field(2, ge=0)
    seconds: float = Field(4.0, gt=0)
    size: int = Field(256, ge=64)
    seed: int = Field(7, ge=0)
    tts: Literal["formant", "espeak"] = "formant"
    portraits: str | None = None


class EvaluationConfig(Section):
    """What is scored, and how. See docs/evaluation.md."""

    rows: tuple[Literal["generated", "real", "still", "shuffled"], ...] = ("generated", "real", "still")
    references: Literal["other_clip", "same_clip"] = "other_clip"
    ssim_variant: Literal["piq", "gray224", "skimage", "wang"] = "piq"
    region: Literal["frame", "face", "mouth"] = "frame"
    lse_protocol: Literal["clip", "track"] = "clip"
    lse_padding: Literal["zero", "valid"] = "zero"
    lse_checkpoint: str | None = None
    track_smoothing: Literal["zero", "nearest"] = "zero"
    track_detector: Literal["auto", "s3fd", "mediapipe"] = "auto"
    track_weights: str | None = None
    fid_weights_path: str | None = None
    lpips_net: Literal["alex", "vgg"] = "alex"
    lpips_trunk: str | None = None
    lpips_linear: str | None = None
    csim_network: Literal["r50", "r100"] = "r50"
    csim_checkpoint: str | None = None
    csim_aggregation: Literal["aligned", "vico"] = "aligned"
    judge: str = "auto"
    precision: ScoringPrecision = "32"
    batch: int | None = Field(None, gt=0)
    silence_db: float = Field(-35.0, lt=0)
    bootstrap: int = Field(2000, ge=0)
    html: bool = True
    max_clips: int | None = Field(None, gt=0)
    val_clips: int = Field(2, gt=0)
    samples: int = Field(3, ge=0)
    strict: bool = False

    @field_validator("rows")
    @classmethod
    def _some_row(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("give at least one row")
        return value


class OutputConfig(Section):
    """How videos are written, by `generate` and by evaluations.

    `preset` is the effort of x264: slower ones make smaller files of a picture that is a little better.
    """

    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
    ] = "medium"


class DistributedConfig(Section):
    """How many processes train together; under `torchrun` the launcher's numbers win.

    `sync_batchnorm`: batch norm over the batches of all of them, and not of each by itself.
    """

    devices: int = Field(1, gt=0)
    num_nodes: int = Field(1, gt=0)
    sync_batchnorm: bool = False


class Config(Section):
    """The whole configuration of one run, resolved and checked.

    `metrics` is None only here: reading a configuration puts the names of `plugin.metrics` in its place. `layout` is a
    name that `clips.layouts` or a plug-in has registered. `experts_weights`, hashes of the weights of networks that
    `experts` borrows from other runs (and, as `NETWORK_EXPERT`, of the experts that these learnt to please), are filled
    in when the work begins.
    """

    model_name: str
    dataset: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    plugin: str = ""
    profile: str | None = None

    seed: int = Field(2023, ge=0)
    device: str = "auto"
    precision: Precision = "32"
    num_workers: int | None = Field(None, ge=0)
    reproducibility: bool = True
    compile: Literal["none", "default", "reduce-overhead"] = "none"
    tf32: bool | None = None
    threads: int | None = Field(None, gt=0)
    distributed: DistributedConfig = DistributedConfig()

    saved_dir: str = "saved"
    weights_dir: str = "checkpoints"
    weights_mirror: str | None = None
    run_name: FolderName | None = None

    train: bool = True
    evaluate: bool = True
    resume: str = "none"
    stage: str | None = None
    evaluate_model_file: str | None = None
    strict_config: Literal["error", "warn"] = "error"

    epochs: int | None = Field(None, gt=0)
    max_steps: int | None = Field(None, gt=0)
    batch_size: int | None = Field(None, gt=0)
    learning_rate: float | None = Field(None, gt=0)
    learner: str | None = None
    weight_decay: float | None = Field(None, ge=0)
    eval_step: int = Field(0, ge=0)
    stopping_step: int | None = Field(None, gt=0)

    log_every: int = Field(20, gt=0)
    save_every_steps: int | None = Field(500, gt=0)
    show_progress: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    tensorboard: bool = True
    log_wandb: bool = False
    wandb_project: str = "talkingface"

    layout: str = "folder"
    data_root: str = ""
    landmarks_root: str = ""
    preprocessed_root: str = ""
    train_filelist: str | None = None
    val_filelist: str | None = None
    test_filelist: str | None = None
    unseen_filelist: str | None = None
    need_preprocess: bool = True
    fps: float = Field(25.0, gt=0)

    preprocess: PreprocessConfig = PreprocessConfig()
    demo: DemoConfig = DemoConfig()
    output: OutputConfig = OutputConfig()
    video_cache_mb: int = Field(512, ge=0)
    metrics: tuple[str, ...] | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    experts: dict[str, str | None] = Field(default_factory=dict)
    experts_weights: dict[str, str] = Field(default_factory=dict)
    prerequisites: Literal["refuse", "train"] = "refuse"
    stages: tuple[StageConfig, ...] = ()
    model: Any = Field(default_factory=dict)

    @field_validator("metrics", mode="before")
    @classmethod
    def _one_metric(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @field_validator("resume", mode="before")
    @classmethod
    def _resume_switch(cls, value: Any) -> Any:
        return {True: "auto", False: "none", None: "none"}.get(value, value) if not isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return {"critical": "error", "warn": "warning"}.get(value.lower(), value.lower())

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        name, _, index = value.partition(":")
        if name not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
            raise ValueError("must be auto, cpu, mps, cuda or cuda:N")
        return value
