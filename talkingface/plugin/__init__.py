"""What a model is, without knowing one: the contract, the names, the weights of its parts, one import face for authors.

`from talkingface.plugin import TalkingFaceModel, Plan, Update, register, ...` offers all that a model is written with
from one place, so that the files behind it may move. Each name is imported when it is first used: this package alone
loads neither torch nor any media or face library.

What stands above this package in the layers keeps its own module: a preprocessing step derives from
`talkingface.preprocess.step.Step`, a converter from `talkingface.preprocess.converters.base.Converter`, a metric from
`talkingface.evaluation.metric.Metric`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from talkingface.clips.dataset import ClipDataset, DatasetOptions
    from talkingface.clips.folder import ClipFolder, default_file
    from talkingface.clips.layout import ClipItem, Layout, register_layout
    from talkingface.clips.redraw import frame_batches
    from talkingface.clips.references import lenders
    from talkingface.clips.source import Audio, Source, report_missing
    from talkingface.clips.windows import window_starts
    from talkingface.config.sections import Section, StageConfig
    from talkingface.errors import ConfigError, DataError, TalkingFaceError, Unavailable
    from talkingface.faces.blend import blend_mask
    from talkingface.faces.boxes import smoothed_boxes
    from talkingface.faces.crop import CropConfig, contour_mask, crop_face, face_boxes, paste_face, relative_landmarks
    from talkingface.faces.track import LandmarkTrack
    from talkingface.media.info import frame_count
    from talkingface.plugin.contract import (
        Batch,
        Borrowed,
        Drawn,
        Official,
        Plan,
        StepContext,
        TalkingFaceModel,
        Update,
        frozen,
    )
    from talkingface.plugin.graphs import Graph, Port
    from talkingface.plugin.metrics import register_metric
    from talkingface.plugin.registry import register
    from talkingface.sound.mel import MelConfig, cut_windows, frame_columns, mel_windows, melspectrogram

# name -> the module it lives in, in the order in which an author meets them
_HOMES = {
    # the model: its settings, its contract
    "Section": "talkingface.config.sections",
    "StageConfig": "talkingface.config.sections",
    "TalkingFaceModel": "talkingface.plugin.contract",
    "register": "talkingface.plugin.registry",
    "Plan": "talkingface.plugin.contract",
    "Update": "talkingface.plugin.contract",
    "Batch": "talkingface.plugin.contract",
    "StepContext": "talkingface.plugin.contract",
    "frozen": "talkingface.plugin.contract",
    "Drawn": "talkingface.plugin.contract",
    "Official": "talkingface.plugin.contract",
    "Borrowed": "talkingface.plugin.contract",
    # export: what goes in and out of its networks
    "Graph": "talkingface.plugin.graphs",
    "Port": "talkingface.plugin.graphs",
    # data: what a clip holds, how it becomes an item, where clips come from
    "ClipFolder": "talkingface.clips.folder",
    "default_file": "talkingface.clips.folder",
    "ClipDataset": "talkingface.clips.dataset",
    "DatasetOptions": "talkingface.clips.dataset",
    "window_starts": "talkingface.clips.windows",
    "Layout": "talkingface.clips.layout",
    "ClipItem": "talkingface.clips.layout",
    "register_layout": "talkingface.clips.layout",
    # generation: the face that is given, the voice, the crop and its way back
    "Source": "talkingface.clips.source",
    "Audio": "talkingface.clips.source",
    "report_missing": "talkingface.clips.source",
    "lenders": "talkingface.clips.references",
    "frame_batches": "talkingface.clips.redraw",
    "LandmarkTrack": "talkingface.faces.track",
    "CropConfig": "talkingface.faces.crop",
    "face_boxes": "talkingface.faces.crop",
    "smoothed_boxes": "talkingface.faces.boxes",
    "crop_face": "talkingface.faces.crop",
    "relative_landmarks": "talkingface.faces.crop",
    "contour_mask": "talkingface.faces.crop",
    "blend_mask": "talkingface.faces.blend",
    "paste_face": "talkingface.faces.crop",
    # sound
    "MelConfig": "talkingface.sound.mel",
    "melspectrogram": "talkingface.sound.mel",
    "mel_windows": "talkingface.sound.mel",
    "cut_windows": "talkingface.sound.mel",
    "frame_columns": "talkingface.sound.mel",
    "frame_count": "talkingface.media.info",
    # metrics, and what to raise
    "register_metric": "talkingface.plugin.metrics",
    "TalkingFaceError": "talkingface.errors",
    "ConfigError": "talkingface.errors",
    "DataError": "talkingface.errors",
    "Unavailable": "talkingface.errors",
}

__all__ = [
    "Audio",
    "Batch",
    "Borrowed",
    "ClipDataset",
    "ClipFolder",
    "ClipItem",
    "ConfigError",
    "CropConfig",
    "DataError",
    "DatasetOptions",
    "Drawn",
    "Graph",
    "LandmarkTrack",
    "Layout",
    "MelConfig",
    "Official",
    "Plan",
    "Port",
    "Section",
    "Source",
    "StageConfig",
    "StepContext",
    "TalkingFaceError",
    "TalkingFaceModel",
    "Unavailable",
    "Update",
    "blend_mask",
    "contour_mask",
    "crop_face",
    "cut_windows",
    "default_file",
    "face_boxes",
    "frame_batches",
    "frame_columns",
    "frame_count",
    "frozen",
    "lenders",
    "mel_windows",
    "melspectrogram",
    "paste_face",
    "register",
    "register_layout",
    "register_metric",
    "relative_landmarks",
    "report_missing",
    "smoothed_boxes",
    "window_starts",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'talkingface.plugin' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The public names, for completion in an editor or notebook."""
    return list(__all__)
