"""Preprocessing of HyperLipsHR: Base's faces of a clip, the mesh on them, and where the lips are.

`hyper@raw` holds the faces that Base draws to the clip's own sound, `hyper@video` the same pasted into the frames,
encoded, and cut out again, as published; `hyper@raw+1` and `hyper@video+1` those for the sound of the next frame.
`hyper_mesh@...` holds their features, `lip_boxes@hr` the boxes of the real lips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talkingface.clips.face_store import FaceWriter
from talkingface.clips.references import lenders
from talkingface.clips.source import Audio, Source
from talkingface.config.sections import Config, PreprocessConfig
from talkingface.devices import resolve_device
from talkingface.errors import CheckpointError
from talkingface.faces.crop import crop_face, relative_landmarks
from talkingface.faces.detectors import DEFAULT_PLACE, Place, make_provider
from talkingface.faces.mesh import HYPERLIPS_LIPS
from talkingface.faces.parsing import WEIGHTS
from talkingface.lipsync.continuity import Continuity
from talkingface.lipsync.expert.inputs import MEL
from talkingface.lipsync.half_face.generate import CPU_BATCH, GPU_BATCH, chunk_starts, generate
from talkingface.lipsync.half_face.scene import Reference, Scene, with_references
from talkingface.media import VideoReader, VideoWriter
from talkingface.media.info import samples_of
from talkingface.models.hyperlips_hr.base import build_base
from talkingface.models.hyperlips_hr.config import LENDER
from talkingface.plugin.registry import get_spec
from talkingface.preprocess.step import Rejected, Step, process_resource, register_step
from talkingface.sound.mel import cut_mel
from talkingface.weights.checkpoint import load_state_file
from talkingface.weights.hashes import weights_hash
from talkingface.weights.published import locate

if TYPE_CHECKING:
    from talkingface.clips.face_store import FaceStore
    from talkingface.clips.folder import ClipFolder
    from talkingface.lipsync.half_face.model import HalfFaceModel
    from talkingface.preprocess.step import ClipContext


@register_step("hyper")
class HyperStep(Step):
    """Base's faces of every frame, drawn to the clip's own sound and packed like face crops.

    As in an evaluation, the reference of a frame lies in the other half of the clip: in use it never shows the mouth
    that is drawn.
    """

    runs_network = True

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig) -> None:
        super().__init__(artefact, overrides, settings)
        crop = get_spec(LENDER).model.Config.model_validate(self.params["base"]).crop
        self.faces, self.path, self.place = crop.artefact, "", DEFAULT_PLACE
        self.needs = ("audio", MEL, "landmarks", self.faces)
        self.source, _, shift = artefact.partition("@")[2].partition("+")
        self.shift = int(shift or 0)

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Base's settings that its faces depend on, the hash of its weights, and how the faces are stored."""
        stored = {"storage": settings.storage, "jpeg_quality": settings.jpeg_quality}
        return {"base": {}, "weights": "", **stored}

    def bind(self, config: Config) -> None:
        """Take where weights lie, and where they run; `paste: auto` is `parsing` where its weights are."""
        self.path, self.place = config.experts.get("generator") or "", Place(config.weights_dir, config.device)
        base = self.params["base"]
        inference = base.get("inference", {})
        # Without these weights `auto` follows from the landmarks, which are given.
        if inference.get("paste") == "auto" and locate(config.weights_dir, WEIGHTS).is_file():
            self.params = {**self.params, "base": {**base, "inference": {**inference, "paste": "parsing"}}}

    def setup(self) -> None:
        """Build Base, or say what is missing for it."""
        process_resource(("hyper", self.path, *map(str, self.params.values())), self._base)

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write the faces and their index."""
        base = process_resource(("hyper", self.path, *map(str, self.params.values())), self._base)
        store = ctx.clip.faces(self.faces)
        if self.source == "video" and ctx.clip.track().size != store.frame_hw:
            # Boxes of crops that were converted from older code say nothing of where they lay in the frame.
            raise Rejected("its crops have no place in its video; use --model.hyper.source=raw")
        faces = self._through_video(base, ctx, store) if self.source == "video" else self._raw(base, ctx.clip, store)
        writer = FaceWriter(ctx.scratch, self.artefact, self.params["storage"], self.params["jpeg_quality"])
        boxes = store.boxes.copy()
        for k, face in enumerate(faces):
            writer.add(face)
            if face is None:
                boxes[k] = np.nan
        meta = {key: value for key, value in store.meta.items() if key not in ("storage", "jpeg_quality")}
        return writer.close(boxes, meta, store.found)

    def _base(self) -> HalfFaceModel:
        """Base with its weights, drawing in float32: what is stored is not to depend on the machine."""
        if not self.path:
            raise CheckpointError(f"{self.artefact} needs a run of {LENDER}; name it with --experts.generator=RUN")
        base = build_base(get_spec(LENDER).model.Config.model_validate(self.params["base"]), precision="32")
        load_state_file(base.generator, self.path, what=f"{LENDER}.generator", name="generator")
        wanted, found = self.params["weights"], weights_hash(base.generator.state_dict())
        if wanted and found != wanted:
            raise CheckpointError(f"{self.path}: its weights are {found} now and were {wanted} before; start again")
        return base.to(resolve_device(self.place.device)).eval()

    def _raw(self, base: HalfFaceModel, clip: ClipFolder, store: FaceStore) -> Iterator[np.ndarray | None]:
        """Faces of all frames as they are drawn; None where there is none."""
        mel, settings = clip.mel(MEL), base.config.inference
        first = chunk_starts(len(store) + self.shift, clip.fps, mel.shape[1], settings.mel_offset)[self.shift :]
        references = _references(base, clip, store)
        drawer, continuity = base.drawer(), Continuity()
        size = CPU_BATCH if base.device.type == "cpu" else GPU_BATCH
        for start in range(0, len(store), size):
            frames = np.arange(start, min(start + size, len(store)))
            there = np.flatnonzero(store.valid[frames])
            crops = np.zeros((len(frames), store.size, store.size, 3), np.uint8)
            crops[there] = store.read(frames[there])
            follows = np.zeros(len(there), bool)
            if drawer.remembers:
                follows = continuity.follow(list(crops), frames, there)
            drawn: list[np.ndarray | None] = [None] * len(frames)
            if len(there):
                shown = with_references(crops[there], references, frames[there])
                sound = cut_mel(mel, first[frames[there]])
                faces = drawer(crops[there], shown, sound, follows, store.boxes[frames[there]]).numpy()
                for k, face in zip(there, faces, strict=True):
                    drawn[k] = face
            yield from drawn

    def _through_video(self, base: HalfFaceModel, ctx: ClipContext, store: FaceStore) -> Iterator[np.ndarray | None]:
        """The same pasted into the frames, encoded, decoded, and cut out again."""
        source = Source.from_clip(ctx.clip)
        source.held_out, source.place = True, self.place
        sound = ctx.clip.audio()[samples_of(self.shift, source.fps) :]
        path = ctx.scratch / "hyper.mp4"
        with torch.inference_mode(), VideoWriter(path, size=source.size, fps=source.fps) as video:
            for frame in generate(base, source, Audio(sound, path=ctx.item.video)):
                video.write(frame)
        frames = iter(VideoReader(path, fps=source.fps))
        for box, valid in zip(store.boxes, store.valid, strict=True):
            frame = next(frames, None)  # the sound may end a frame before the picture, and does where it is shifted
            yield crop_face(frame, box, store.size) if valid and frame is not None else None
        path.unlink()


def _references(base: HalfFaceModel, clip: ClipFolder, store: FaceStore) -> list[Reference]:
    """Reference faces by the rule of generation, each half of the clip from the other one."""
    scene = Scene(store.boxes, store.valid, store.found, clip.track())
    found = []
    for group in lenders(None, scene.found, apart=True):
        candidates = group.candidates if len(group.candidates) else np.flatnonzero(scene.found)
        frame = candidates[0] if base.config.inference.reference == "first" else scene.typical(candidates)
        face = store[int(frame)]
        if not len(group.candidates):  # as in generation: what is hidden in a frame stays hidden
            face[len(face) // 2 :] = 0
        found.append(Reference(group.serves, face))
    return found


class _MeshStep(Step):
    """Base of steps that look for the mesh on face crops."""

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig) -> None:
        super().__init__(artefact, overrides, settings)
        self.place: Place = DEFAULT_PLACE

    def bind(self, config: Config) -> None:
        """Take where the detector's weights lie."""
        self.place = Place(config.weights_dir, config.device)

    def mesh(self, faces: Iterable[np.ndarray | None]) -> np.ndarray:
        """Mesh points (F, 478, 2) float32 relative to the crops, NaN where none is found; each picture by itself."""
        find = process_resource(("mesh on crops", self.place), lambda: MeshFinder(self.place))
        return np.stack([find(face) for face in faces])


class MeshFinder:
    """Finds the mesh on face crops, each by itself: (S, S, 3) uint8 RGB -> (478, 2) in [0, 1], NaN where none is."""

    def __init__(self, place: Place) -> None:
        self._provider = make_provider("mediapipe", "static", 0.5, 1, None, place)

    def __call__(self, face: np.ndarray | None) -> np.ndarray:
        """See the class."""
        found = self._provider.detect(face) if face is not None else []
        if not found:
            return np.full((478, 2), np.nan, np.float32)
        return (found[0][:, :2] / face.shape[0]).astype(np.float32)


@register_step("hyper_mesh")
class HyperMeshStep(_MeshStep):
    """Features of Base's faces, found as they are found in use."""

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig) -> None:
        super().__init__(artefact, overrides, settings)
        self.faces = artefact.replace("hyper_mesh@", "hyper@")
        self.needs = (self.faces,)

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write the points, (F, 478, 2) float32, and note how many frames have none."""
        store = ctx.clip.faces(self.faces)
        points = self.mesh(store[k] if store.valid[k] else None for k in range(len(store)))
        found = np.isfinite(points).all(axis=(1, 2))
        ctx.facts["without_mesh"] = int((store.valid & ~found).sum())
        name = f"{self.artefact}.npy"
        np.save(ctx.scratch / name, points)
        return [name]


@register_step("lip_boxes")
class LipBoxesStep(_MeshStep):
    """Where the real lips are, in shares of the crop."""

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig) -> None:
        super().__init__(artefact, overrides, settings)
        self.needs = ("landmarks", self.params["faces"])

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """The crops that boxes are given for."""
        return {"faces": "faces"}

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write the boxes, (F, 4) float32 top, bottom, left, right; NaN where the lips are not known."""
        store, track = ctx.clip.faces(self.params["faces"]), ctx.clip.track()
        # Crops that were converted from older code have no place in the frame.
        if track.layout == "mediapipe478" and track.size == store.frame_hw:
            points = relative_landmarks(track.points_px, store.boxes).transpose(0, 2, 1)
        else:  # or boxes, or points without a ring around the lips: the mesh on the crops
            points = self.mesh(store[k] if store.valid[k] else None for k in range(len(store)))
        name = f"{self.artefact}.npy"
        np.save(ctx.scratch / name, lip_boxes(points))
        return [name]


def lip_boxes(points: np.ndarray) -> np.ndarray:
    """Boxes (F, 4) float32 top, bottom, left, right around the lips of meshes (F, 478, 2), in the same units.

    NaN where the mesh is, and where the lips reach beyond the crop so far that nothing of them is left.
    """
    ring = points[:, list(HYPERLIPS_LIPS)]
    low, high = (np.clip(edge, 0, 1) for edge in (ring.min(axis=1), ring.max(axis=1)))
    boxes = np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1).astype(np.float32)
    boxes[(boxes[:, 1] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 2])] = np.nan
    return boxes
