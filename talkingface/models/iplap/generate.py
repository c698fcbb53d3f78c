"""IPLAP's generation: landmarks of the source, references, predicted mouths, rendered faces, pasted back.

Landmarks of the source are held for the whole video (a few kB per frame), predictions for a stretch, pictures for one
batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from talkingface.clips.redraw import FrameBatch, frame_batches
from talkingface.clips.references import Lender, lenders
from talkingface.clips.source import report_missing
from talkingface.devices import OnTheWay, in_flight, to_device
from talkingface.errors import NoFaceError
from talkingface.faces.crop import box_pixels, contour_mask, crop_faces, paste_face, polygon_mask
from talkingface.faces.mesh import JAWLINE
from talkingface.faces.sketch import draw_sketches
from talkingface.media import FPS
from talkingface.models.iplap.data import POSE, box_shapes
from talkingface.models.iplap.mouth import Timeline, contents, smoothed
from talkingface.models.iplap.pixels import faces_of, network_images
from talkingface.models.iplap.points import ClipPoints, clip_points
from talkingface.models.iplap.references import ReferenceGroup, mouth_openness, select_references
from talkingface.plugin.contract import Drawn
from talkingface.sound.mel import cut_mel, melspectrogram

if TYPE_CHECKING:
    from talkingface.clips.source import Audio, Source
    from talkingface.faces.track import LandmarkTrack
    from talkingface.models.iplap.parts import IPLAPNetworks

log = logging.getLogger("talkingface")

# Frames per pass. At 128 px one map of the published size is 4.2 MB per frame (256 x 64 x 64 x 4 bytes) and the twelve
# SPADE modulations alone are 50 MB: 16 frames need 0.8 GB for them, and 2.7 GB for the references (`AUTO_ITEMS`). On a
# CPU larger batches gain nothing, and maps of 32 MB and more are fresh memory every time (`keep_freed_memory`).
CPU_BATCH, GPU_BATCH = 2, 16
# Bridge of the nose between the ears: upper edge of the `lower` mask.
NOSE_BRIDGE = (454, 323, 425, 280, 429, 195, 209, 50, 205, 93, 234)


@torch.no_grad()
def generate(model: IPLAPNetworks, source: Source, audio: Audio) -> Iterator[np.ndarray | Drawn]:
    """Yield one full frame, uint8 RGB (H, W, 3), per video frame (wanted) of the audio, panes for `save_debug_video`.

    Frames without a face pass through as they are and are reported once; a face that was missed for up to a second is
    interpolated where the picture goes on. Outside the mask every frame equals the source exactly.

    Raises:
        NoFaceError: the source or its reference shows no face, or some frames do not and `no_face` is `error`.
    """
    settings = model.config.inference
    scene = source.once(model, "scene", lambda: Scene.look(model, source))
    order, wanted = np.asarray(source.order(audio.n_frames(source.fps))), audio.rows(source.fps)
    report_missing(scene.points.valid, order[wanted], str(source.path), settings.no_face)
    base = FPS if settings.fps == "keep" else None
    timeline = Timeline.of(scene.points.valid, order, source.fps, model.config.landmark.window, base)
    groups = source.once(model, "references", lambda: reference_groups(model, source, scene))
    mel = melspectrogram(audio.samples)
    batch = settings.batch or (CPU_BATCH if model.device.type == "cpu" else GPU_BATCH)
    parts = _draw(model, scene, groups, timeline, audio, mel, iter(source.frames(order[wanted])), batch)
    for part, drawn in in_flight(parts, model.device):
        panes = np.zeros((len(part.rows), *debug_size(model), 3), np.uint8) if settings.save_debug_video else None
        for mine, rendered in drawn:
            for k, face in zip(mine, rendered.faces.numpy(), strict=True):
                part.pictures[k] = scene.paste(model, part.pictures[k], face, int(part.shown[k]))
            if panes is not None:
                panes[mine] = rendered.panes()
        for k, picture in enumerate(part.pictures):
            yield picture if panes is None else Drawn(picture, panes[k])


def _draw(
    model: IPLAPNetworks,
    scene: Scene,
    groups: list[ReferenceGroup],
    timeline: Timeline,
    audio: Audio,
    mel: np.ndarray,
    frames: Iterator[np.ndarray],
    batch: int,
) -> Iterator[tuple[FrameBatch, list[tuple[np.ndarray, Rendered]]]]:
    """Batches of the output's `frames`, with the faces drawn for them: (positions in the batch, faces)."""
    for stretch, content in contents(model, scene.points, timeline, mel, groups, audio):
        drawn_rows = np.intersect1d(stretch, audio.rows(timeline.fps))
        for part in frame_batches(frames, timeline.order, scene.points.valid, drawn_rows, batch):
            drawn = []
            for group in groups:
                mine = part.faces[group.serves[part.shown[part.faces]]]
                if not len(mine):
                    continue
                rendered = render(
                    model=model,
                    scene=scene,
                    group=group,
                    pictures=[part.pictures[k] for k in mine],
                    timeline=timeline,
                    rows=part.rows[mine],
                    content=content[part.rows[mine] - stretch[0]],
                    mel=mel,
                )
                drawn.append((mine, rendered))
            yield part, drawn


@dataclass
class Scene:
    """Where the face is in every frame of a video."""

    track: LandmarkTrack
    points: ClipPoints
    openness: np.ndarray

    @classmethod
    def look(cls, model: IPLAPNetworks, source: Source) -> Scene:
        """Find the landmarks of a source (once; the source keeps them) and the face boxes."""
        track = source.landmarks()
        crop, settings = model.config.inference_crop, model.config.inference
        points = clip_points(track, crop)
        if settings.smooth == "savgol":
            boxes = smoothed(points.boxes, points.valid, settings.smooth_window)
            points = clip_points(track, crop, np.clip(boxes, 0, [*track.size[::-1], *track.size[::-1]]))
        if not points.valid.any():
            raise NoFaceError(f"{source.path}: no face found in any of its {len(points.valid)} frames")
        return cls(track, points, mouth_openness(track.points_px, track.size))

    def paste(self, model: IPLAPNetworks, picture: np.ndarray, face: np.ndarray, frame: int) -> np.ndarray:
        """Blend a generated face (S, S, 3) uint8 into its frame."""
        settings, box = model.config.inference, self.points.boxes[frame]
        if model.postprocess is not None:
            face = model.postprocess(face)
        x1, y1, x2, y2 = box_pixels(box, picture.shape[:2])
        points = self.track.points_px[frame] - [x1, y1]
        mask = np.zeros(picture.shape[:2], np.uint8)
        blur = mask_blur(points, (y2 - y1, x2 - x1), settings.blur)
        size = (y2 - y1, x2 - x1)
        if settings.mask == "lower":
            mask[y1:y2, x1:x2] = polygon_mask(points[[*JAWLINE[2:-2], *NOSE_BRIDGE]], size, blur)
        else:
            mask[y1:y2, x1:x2] = contour_mask(points, size, blur, settings.mask)
        return paste_face(picture, face, box, mask, settings.resize)


def mask_blur(points: np.ndarray, size_hw: tuple[int, int], blur: int) -> tuple[int, float] | None:
    """Kernel side and sigma of the mask's edge.

    Published: 21 and 11 pixels, made for a margin of 25. With a tighter box that edge would be cut off visibly at the
    chin, so 0 takes the distance between the jaw and the edge of the box.
    """
    if blur:
        return blur, blur * 11 / 21
    jaw = points[list(JAWLINE)]
    room = min(jaw[:, 0].min(), size_hw[1] - jaw[:, 0].max(), size_hw[0] - jaw[:, 1].max())
    half = int(np.clip(room, 1, 40))
    return 2 * half + 1, max(0.5, half / 2)


def reference_groups(model: IPLAPNetworks, source: Source, scene: Scene) -> list[ReferenceGroup]:
    """Choose and encode the references; two groups where frames must not be made from themselves."""
    settings = model.config.inference
    origin = source.reference or source
    other = scene if origin is source else Scene.look(model, origin)
    groups = lenders(
        source,
        scene.points.found,
        None if origin is source else other.points.found,
        apart=settings.reference_policy == "other_half",
    )
    if not all(len(group.candidates) for group in groups):
        if source.held_out and not source.is_image:
            raise NoFaceError(
                f"{source.path}: a face in one frame only, which would be its own reference; name another clip of this"
                " person with --reference"
            )
        groups = [Lender(np.ones(len(scene.points.valid), bool), np.flatnonzero(other.points.found))]
    return [encode_group(model, origin, other, group.serves, group.candidates) for group in groups]


def encode_group(
    model: IPLAPNetworks, origin: Source, scene: Scene, serves: np.ndarray, candidates: np.ndarray
) -> ReferenceGroup:
    """Pick references from closed to open mouth and run the encoders that depend on them alone."""
    settings, size = model.config.inference, model.config.crop.size
    landmark_frames = select_references(scene.openness, settings.nl, candidates)
    picture_frames = select_references(scene.openness, settings.ref_n, candidates)
    unique, position = np.unique(picture_frames, return_inverse=True)
    boxes = scene.points.boxes
    crops = crop_faces(origin.read(unique.tolist()), boxes[unique], size)
    faces = torch.from_numpy(crops[position]).to(model.device)
    sketches = draw_sketches(scene.points.relative[picture_frames], box_shapes(boxes[picture_frames]), size)
    sketches = torch.from_numpy(sketches)[None, :, None].to(model.device)
    return ReferenceGroup(
        serves=serves,
        tokens=encode_landmarks(model, scene.points.relative[landmark_frames]),
        frames=model.renderer.encode_references(network_images(faces)[None], sketches),
        closed=scene.points.relative[landmark_frames[0]],
    )


def encode_landmarks(model: IPLAPNetworks, landmarks: np.ndarray) -> Tensor:
    """Tokens (1, Nl, d_model) of reference landmark sets (Nl, 2, 131)."""
    references = torch.from_numpy(landmarks)[None].to(model.device)
    return model.landmark_generator.encode_reference(references[..., :POSE], references[..., POSE:])


class Rendered(NamedTuple):
    """Faces (m, S, S, 3) uint8 RGB, and the sketches (m, S, S) in [0, 1] and crops (m, S, S, 3) they are drawn from."""

    faces: OnTheWay
    sketches: np.ndarray
    crops: np.ndarray

    def panes(self) -> np.ndarray:
        """Sketch, crop of the source and generated face side by side, (m, S, 3 S, 3) uint8."""
        lines = np.rint(self.sketches * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
        return np.concatenate([lines, self.crops, self.faces.numpy()], axis=2)


def debug_size(model: IPLAPNetworks) -> tuple[int, int]:
    """Height and width of `Rendered.panes`."""
    return model.config.crop.size, 3 * model.config.crop.size


def render(
    model: IPLAPNetworks,
    scene: Scene,
    group: ReferenceGroup,
    pictures: Sequence[np.ndarray],
    timeline: Timeline,
    rows: np.ndarray,
    content: np.ndarray,
    mel: np.ndarray,
) -> Rendered:
    """Generate the faces of some output frames.

    Args:
        model: the model, in eval mode.
        scene: landmarks of the source.
        group: references of these frames.
        pictures: the m source frames.
        timeline: what is shown when.
        rows: (m,) output frames.
        content: (m, T, 2, 57) predicted lips and jaws of the windows around them.
        mel: (80, L) spectrogram of the driving audio.
    """
    size, window = model.config.crop.size, timeline.window
    shown = timeline.shown[timeline.around(rows)]
    pose = scene.points.relative[shown][..., :POSE]
    landmarks = np.concatenate([pose, content], axis=-1).reshape(-1, 2, pose.shape[-1] + content.shape[-1])
    sketches = draw_sketches(landmarks, box_shapes(scene.points.boxes[shown.reshape(-1)]), size).reshape(
        len(rows), window, 1, size, size
    )
    boxes = scene.points.boxes[timeline.order[rows]]
    crops = crop_faces(pictures, boxes, size)
    faces = network_images(to_device(crops, model.device))
    spoken = to_device(cut_mel(mel, timeline.columns(rows, window // 2)), model.device)
    drive = to_device(sketches, model.device)
    half = model.inference_precision == "bf16"
    with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
        generated, _ = model.renderer.forward_with_references(faces, drive, group.frames, spoken)
    return Rendered(OnTheWay(faces_of(generated)), sketches[:, window // 2, 0], crops)
